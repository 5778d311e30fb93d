package servicebustest_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

// wire is a client that says exactly what it is told, for what no well-behaved client says.
type wire struct {
	t      *testing.T
	conn   net.Conn
	in     *bufio.Reader
	frames *amqp.FrameReader
}

func dialWire(t *testing.T, server *servicebustest.Server) *wire {
	t.Helper()
	conn, err := net.Dial("tcp", server.Addr())
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(4*time.Minute)))
	in := bufio.NewReader(conn)
	return &wire{t: t, conn: conn, in: in, frames: amqp.NewFrameReader(in, 1<<20)}
}

// open opens a connection and a session on channel 0.
func (w *wire) open(open *amqp.Open, begin *amqp.Begin) {
	w.t.Helper()
	w.write([]byte(amqp.HeaderAMQP))
	w.header(amqp.HeaderAMQP)
	w.send(open, begin)
	expect[*amqp.Open](w)
	expect[*amqp.Begin](w)
}

func (w *wire) openAsUsual() {
	w.t.Helper()
	w.open(&amqp.Open{ContainerID: "test", MaxFrameSize: 1 << 20}, &amqp.Begin{IncomingWindow: 100, OutgoingWindow: 100})
}

func (w *wire) write(b []byte) {
	w.t.Helper()
	_, err := w.conn.Write(b)
	must(w.t, err)
}

func (w *wire) header(want string) {
	w.t.Helper()
	got := make([]byte, 8)
	_, err := io.ReadFull(w.in, got)
	must(w.t, err)
	if string(got) != want {
		w.t.Fatalf("protocol header %q, want %q", got, want)
	}
}

func (w *wire) send(all ...amqp.Performative) {
	w.t.Helper()
	var b []byte
	for _, p := range all {
		b = amqp.AppendFrame(b, amqp.FrameAMQP, 0, p)
	}
	w.write(b)
}

// expect reads the next performative that is no heartbeat and no flow, unless a flow is wanted.
func expect[T amqp.Performative](w *wire) T {
	w.t.Helper()
	for {
		frame, err := w.frames.Read()
		must(w.t, err)
		if len(frame.Body) == 0 {
			continue
		}
		p, err := amqp.Decode(frame.Body)
		must(w.t, err)
		if got, ok := p.(T); ok {
			return got
		}
		if _, flow := p.(*amqp.Flow); !flow {
			w.t.Fatalf("received %T %+v", p, p)
		}
	}
}

// ended checks that the server has cut the connection.
func (w *wire) ended() {
	w.t.Helper()
	if _, err := w.in.ReadByte(); !errors.Is(err, io.EOF) && !errors.As(err, new(*net.OpError)) || isTimeout(err) {
		w.t.Fatalf("the connection goes on: %v", err)
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func (w *wire) attachSender(handle uint32) {
	w.t.Helper()
	w.send(&amqp.Attach{Name: "sender", Handle: handle, Role: amqp.RoleSender, Target: &amqp.Target{Address: queueName}})
	if answer := expect[*amqp.Attach](w); answer.Target == nil {
		w.t.Fatal("refused")
	}
}

func (w *wire) attachReceiver(handle uint32) {
	w.t.Helper()
	w.send(&amqp.Attach{
		Name: "receiver", Handle: handle, Role: amqp.RoleReceiver, ReceiverSettle: amqp.ReceiverSecond, Source: &amqp.Source{Address: queueName},
	})
	if answer := expect[*amqp.Attach](w); answer.Source == nil {
		w.t.Fatal("refused")
	}
}

// message is the encoding of a message with one data section.
func message(size int) []byte {
	body := amqp.AppendBinary([]byte{0x00, 0x53, 0x75}, make([]byte, size))
	return body
}
