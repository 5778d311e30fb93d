package servicebustest_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
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
	must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
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

func TestProtocolErrors(t *testing.T) {
	end := func(condition amqp.Symbol, bad ...amqp.Performative) func(*testing.T, *rig) {
		return func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.attachSender(0)
			w.send(bad...)
			if p := expect[*amqp.End](w); p.Err == nil || p.Err.Condition != condition {
				t.Errorf("ended with %v, want %s", p.Err, condition)
			}
			// The connection lives: the peer ends its side, and begins another session on the channel.
			late := &amqp.Attach{Name: "late", Handle: 5, Role: amqp.RoleSender, Target: &amqp.Target{Address: queueName}}
			w.send(late, &amqp.End{}, &amqp.Begin{})
			expect[*amqp.Begin](w)
		}
	}
	closing := func(condition amqp.Symbol, bad []byte) func(*testing.T, *rig) {
		return func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.write(bad)
			if p := expect[*amqp.Close](w); p.Err == nil || p.Err.Condition != condition {
				t.Errorf("closed with %v, want %s", p.Err, condition)
			}
			w.ended()
		}
	}
	prove(t, []behaviour{
		{name: "a wrong protocol header is answered with the right one", prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.write([]byte("AMQP\x00\x00\x09\x01"))
			w.header(amqp.HeaderAMQP)
			w.ended()
		}},
		{name: "an unknown SASL mechanism is refused", prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.write([]byte(amqp.HeaderSASL))
			w.header(amqp.HeaderSASL)
			mechanisms := expect[*amqp.Mechanisms](w)
			if len(mechanisms.Names) != 4 {
				t.Errorf("mechanisms %v", mechanisms.Names)
			}
			w.write(amqp.AppendFrame(nil, amqp.FrameSASL, 0, &amqp.Init{Mechanism: "GSSAPI"}))
			if outcome := expect[*amqp.Outcome](w); outcome.Code != amqp.SASLAuth {
				t.Errorf("outcome %d", outcome.Code)
			}
			w.ended()
		}},
		{name: "a transfer on an unknown handle ends the session", prove: end("amqp:session:unattached-handle", &amqp.Transfer{Handle: 9})},
		{name: "a flow on an unknown handle ends the session", prove: end("amqp:session:unattached-handle", &amqp.Flow{Handle: amqp.Some(9)})},
		{name: "a detach of an unknown handle ends the session", prove: end("amqp:session:unattached-handle", &amqp.Detach{Handle: 9})},
		{name: "a handle that is in use ends the session", prove: end("amqp:session:handle-in-use", &amqp.Attach{Name: "x", Handle: 0})},
		{name: "a delivery without an id ends the session", prove: end("amqp:not-allowed", &amqp.Transfer{Handle: 0, Payload: message(1)})},
		{name: "a frame on an unknown channel closes the connection", prove: closing("amqp:illegal-state", amqp.AppendFrame(nil, amqp.FrameAMQP, 7, &amqp.End{}))},
		{name: "a second begin on a channel closes the connection", prove: closing("amqp:not-allowed", amqp.AppendFrame(nil, amqp.FrameAMQP, 0, &amqp.Begin{}))},
		{name: "a frame that is too large closes the connection", prove: closing("amqp:connection:framing-error", []byte{0x7f, 0, 0, 0, 2, 0, 0, 0})},
		{name: "a frame that cannot be decoded closes the connection", prove: closing("amqp:decode-error", []byte{0, 0, 0, 12, 2, 0, 0, 0, 1, 2, 3, 4})},
		{name: "a close is answered", prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.send(&amqp.Close{})
			if p := expect[*amqp.Close](w); p.Err != nil {
				t.Errorf("closed with %v", p.Err)
			}
			w.ended()
		}},
		{name: "a transaction coordinator is refused", prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.send(&amqp.Attach{Name: "coordinator", Role: amqp.RoleSender, Target: &amqp.Target{Coordinator: true}})
			if answer := expect[*amqp.Attach](w); answer.Target != nil || answer.Source != nil {
				t.Errorf("attached %+v", answer)
			}
			if p := expect[*amqp.Detach](w); p.Err == nil || p.Err.Condition != "amqp:not-implemented" {
				t.Errorf("detached with %v", p.Err)
			}
		}},
		{name: "a message over the limit detaches the link", queue: servicebustest.Queue{MaxMessageBytes: 1000}, prove: tooLarge},
		{name: "a link of the same name takes the place of the first", prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.attachSender(0)
			w.send(&amqp.Attach{Name: "sender", Handle: 1, Role: amqp.RoleSender, Target: &amqp.Target{Address: queueName}})
			if p := expect[*amqp.Detach](w); p.Handle != 0 || p.Err.Condition != "amqp:link:stolen" {
				t.Errorf("detached %d with %v", p.Handle, p.Err)
			}
			expect[*amqp.Attach](w)
		}},
	})
}

func tooLarge(t *testing.T, r *rig) {
	w := dialWire(t, r.server)
	w.openAsUsual()
	w.attachSender(0)
	first := &amqp.Transfer{Handle: 0, DeliveryID: amqp.Some(0), Tag: []byte{0}, More: true, Payload: message(900)}
	w.send(first, &amqp.Transfer{Handle: 0, Payload: message(900)}, &amqp.Transfer{Handle: 0, Payload: message(900)})
	if p := expect[*amqp.Detach](w); p.Err == nil || p.Err.Condition != "amqp:link:message-size-exceeded" {
		t.Errorf("detached with %v", p.Err)
	}
	w.send(&amqp.Detach{Handle: 0, Closed: true})
	w.attachSender(0) // the handle is free again
	r.state(servicebustest.QueueState{})
}

func TestFrames(t *testing.T) {
	prove(t, []behaviour{
		{name: "a message in many small frames waits for the window", prove: smallWindow},
		{name: "a message of several frames can be given up", prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.attachSender(0)
			w.send(
				&amqp.Transfer{Handle: 0, DeliveryID: amqp.Some(0), Tag: []byte{0}, More: true, Payload: []byte("rubbish")},
				&amqp.Transfer{Handle: 0, Aborted: true},
				&amqp.Transfer{Handle: 0, DeliveryID: amqp.Some(1), Tag: []byte{1}, Payload: message(1)},
			)
			if p := expect[*amqp.Disposition](w); p.First != 1 || p.State.Kind != amqp.StateAccepted {
				t.Errorf("answered %+v", p)
			}
		}},
		{name: "draining ends credit that is left", prove: func(t *testing.T, r *rig) {
			r.send("a", "b")
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.attachReceiver(0)
			flow := &amqp.Flow{NextIncomingID: amqp.Some(0), IncomingWindow: 100, Handle: amqp.Some(0), DeliveryCount: amqp.Some(0), LinkCredit: amqp.Some(5), Drain: true}
			w.send(flow)
			expect[*amqp.Transfer](w)
			expect[*amqp.Transfer](w)
			if p := expect[*amqp.Flow](w); !p.Drain || p.DeliveryCount != amqp.Some(5) || p.LinkCredit != amqp.Some(0) {
				t.Errorf("flow %+v", p)
			}
			r.send("c")
			w.send(&amqp.Flow{NextIncomingID: amqp.Some(2), IncomingWindow: 100, Handle: amqp.Some(0), Echo: true})
			expect[*amqp.Flow](w)
			r.state(servicebustest.QueueState{Active: 1, Locked: 2})
		}},
		{name: "a sender that settles second is asked to confirm", prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.send(&amqp.Attach{Name: "s", Role: amqp.RoleSender, ReceiverSettle: amqp.ReceiverSecond, Target: &amqp.Target{Address: queueName}})
			expect[*amqp.Attach](w)
			w.send(&amqp.Transfer{DeliveryID: amqp.Some(0), Tag: []byte{0}, Payload: message(1)})
			if p := expect[*amqp.Disposition](w); p.Settled || p.State.Kind != amqp.StateAccepted {
				t.Errorf("answered %+v", p)
			}
		}},
		{name: "a client hears of a new window in the middle of a long message", prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.attachSender(0)
			if p := expect[*amqp.Flow](w); !p.LinkCredit.Set {
				t.Errorf("flow %+v", p)
			}
			part := &amqp.Transfer{DeliveryID: amqp.Some(0), Tag: []byte{0}, More: true, Payload: []byte{0}}
			for range 4999 {
				w.send(part)
			}
			if p := expect[*amqp.Flow](w); p.Handle.Set || p.IncomingWindow == 0 || p.NextIncomingID.Value < 2000 {
				t.Errorf("flow %+v", p)
			}
		}},
		{name: "answers that are held back are not mixed up", prove: heldAnswers},
		{name: "a message that cannot be decoded is rejected", prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.attachSender(0)
			for i, format := range []uint32{0, 0x80013700} {
				w.send(&amqp.Transfer{Handle: 0, DeliveryID: amqp.Some(uint32(i)), Tag: []byte{0}, Format: amqp.Some(format), Payload: []byte("rubbish")})
				if p := expect[*amqp.Disposition](w); p.State.Kind != amqp.StateRejected {
					t.Errorf("answered %+v", p)
				}
			}
			r.state(servicebustest.QueueState{})
		}},
		{name: "a client whose window is shut does not keep a message from others", prove: shutWindow},
		{name: "a client that does not read is not sent everything", prove: deafPeer},
		{name: "one disposition settles a range", prove: settleRange},
		{name: "a client that asks is told the state of the session and the link", prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.attachReceiver(3)
			w.send(&amqp.Flow{Handle: amqp.Some(3), LinkCredit: amqp.Some(8), DeliveryCount: amqp.Some(0), Echo: true})
			if p := expect[*amqp.Flow](w); p.LinkCredit != amqp.Some(8) {
				t.Errorf("flow %+v", p)
			}
			w.send(&amqp.Flow{Echo: true})
			if p := expect[*amqp.Flow](w); p.Handle.Set {
				t.Errorf("flow %+v", p)
			}
		}},
		{name: "a peer that asks for heartbeats gets them", prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.open(&amqp.Open{ContainerID: "test", MaxFrameSize: 1 << 20, IdleTimeout: 40 * time.Millisecond}, &amqp.Begin{})
			for range 3 {
				frame, err := w.frames.Read()
				must(t, err)
				if len(frame.Body) != 0 {
					t.Errorf("received %x", frame.Body)
				}
			}
		}},
		{name: "a peer that falls silent is cut off", config: func(config *servicebustest.Config) { config.IdleTimeout = 50 * time.Millisecond }, prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.ended()
		}},
	})
}

// smallWindow receives a message of 2000 bytes in frames of 512, three at a time.
func smallWindow(t *testing.T, r *rig) {
	r.send("before", string(make([]byte, 2000)), "after")
	w := dialWire(t, r.server)
	w.open(&amqp.Open{ContainerID: "test", MaxFrameSize: 512}, &amqp.Begin{IncomingWindow: 3})
	w.attachReceiver(0)
	window := func(next uint32) *amqp.Flow {
		return &amqp.Flow{NextIncomingID: amqp.Some(next), IncomingWindow: 3, Handle: amqp.Some(0), DeliveryCount: amqp.Some(0), LinkCredit: amqp.Some(3)}
	}
	w.send(window(0))
	var received uint32
	var messages int
	for messages < 3 {
		p := expect[*amqp.Transfer](w)
		received++
		if !p.More {
			messages++
		}
		if received%3 == 0 {
			w.send(&amqp.Flow{NextIncomingID: amqp.Some(received), Echo: true})
			expect[*amqp.Flow](w) // and no transfer while the window is shut
			w.send(window(received))
		}
	}
	if received < 7 {
		t.Errorf("received 3 messages in %d frames", received)
	}
	r.state(servicebustest.QueueState{Locked: 3})
}

// shutWindow has two receivers wait; the first shuts its window, so that the message that wakes it must go to the second.
func shutWindow(t *testing.T, r *rig) {
	waiting := func() *wire {
		w := dialWire(t, r.server)
		w.openAsUsual()
		w.attachReceiver(0)
		// The answer leaves with the round in which the server looks for messages: after it, the link waits in the queue.
		w.send(&amqp.Flow{
			NextIncomingID: amqp.Some(0), IncomingWindow: 9, Handle: amqp.Some(0), DeliveryCount: amqp.Some(0), LinkCredit: amqp.Some(1), Echo: true,
		})
		expect[*amqp.Flow](w)
		return w
	}
	first, second := waiting(), waiting()
	first.send(&amqp.Flow{NextIncomingID: amqp.Some(0), Echo: true})
	expect[*amqp.Flow](first)
	r.send("a")
	expect[*amqp.Transfer](second)
}

// deafPeer gives credit for 50 MB and does not read: what the server locks for it is bounded by what it may leave unsent.
func deafPeer(t *testing.T, r *rig) {
	const count, size = 250, 200 << 10
	sender := r.sender()
	for range count {
		must(t, sender.SendMessage(r.ctx, &azservicebus.Message{Body: make([]byte, size)}, nil))
	}
	w := dialWire(t, r.server)
	w.open(&amqp.Open{ContainerID: "test", MaxFrameSize: 1 << 20}, &amqp.Begin{IncomingWindow: 1 << 20})
	w.attachReceiver(0)
	w.send(&amqp.Flow{
		NextIncomingID: amqp.Some(0), IncomingWindow: 1 << 20, Handle: amqp.Some(0), DeliveryCount: amqp.Some(0), LinkCredit: amqp.Some(count),
	})
	r.after(time.Now().Add(300 * time.Millisecond))
	if locked := r.server.Queues()[0].Locked; locked == 0 || locked == count {
		t.Errorf("%d of %d messages are locked for a peer that does not read", locked, count)
	}
	for received := 0; received < count; {
		if p := expect[*amqp.Transfer](w); !p.More {
			received++
		}
	}
	r.state(servicebustest.QueueState{Locked: count})
}

// heldAnswers asks for a second answer while the first is held back.
func heldAnswers(t *testing.T, r *rig) {
	w := dialWire(t, r.server)
	w.openAsUsual()
	r.server.Delay(200*time.Millisecond, time.Minute)
	for handle, name := range []string{"one", "two"} {
		w.send(&amqp.Attach{Name: name, Handle: uint32(handle), Role: amqp.RoleSender, Target: &amqp.Target{Address: queueName}})
		r.after(time.Now().Add(50 * time.Millisecond))
	}
	for handle, name := range []string{"one", "two"} {
		if p := expect[*amqp.Attach](w); p.Name != name || p.Handle != uint32(handle) {
			t.Errorf("answered %+v, want %s", p, name)
		}
	}
}

func settleRange(t *testing.T, r *rig) {
	r.send("a", "b", "c", "d")
	w := dialWire(t, r.server)
	w.openAsUsual()
	w.attachReceiver(0)
	w.send(&amqp.Flow{NextIncomingID: amqp.Some(0), IncomingWindow: 100, Handle: amqp.Some(0), DeliveryCount: amqp.Some(0), LinkCredit: amqp.Some(4)})
	for range 4 {
		expect[*amqp.Transfer](w)
	}
	w.send(&amqp.Disposition{Role: amqp.RoleReceiver, First: 0, Last: 1, State: amqp.State{Kind: amqp.StateAccepted}})
	for range 2 {
		if p := expect[*amqp.Disposition](w); !p.Settled || p.State.Kind != amqp.StateAccepted {
			t.Errorf("answered %+v", p)
		}
	}
	r.state(servicebustest.QueueState{Locked: 2})
	w.send(
		&amqp.Disposition{Role: amqp.RoleReceiver, First: 3, Last: 1 << 31, Settled: true, State: amqp.State{Kind: amqp.StateReleased}},
		&amqp.Flow{NextIncomingID: amqp.Some(4), Echo: true},
	)
	expect[*amqp.Flow](w) // what the client settles alone is not answered
	r.state(servicebustest.QueueState{Active: 1, Locked: 1})
}
