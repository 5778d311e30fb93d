package relaytest

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// leg is one side's connection to a rendezvous.
type leg struct {
	conn     net.Conn
	br       *bufio.Reader
	key      string        // Sec-WebSocket-Key
	offered  []string      // subprotocols
	protocol string        // the one selected, or empty
	done     chan struct{} // of a listener: closed when nothing reads it any more

	mu     sync.Mutex // guards writes of whole frames, and closed
	closed bool       // a Close frame was written: nothing may follow (RFC 6455 section 5.5.1)
}

// acceptGUID is what RFC 6455 section 1.3 appends to the key.
const acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// switchProtocols writes the 101. The caller holds l.mu.
func (l *leg) switchProtocols() error {
	sum := sha1.Sum([]byte(l.key + acceptGUID))
	text := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\n"
	if l.protocol != "" {
		text += "Sec-WebSocket-Protocol: " + l.protocol + "\r\n"
	}
	_, err := l.conn.Write([]byte(text + "\r\n"))
	return err
}

// write sends one whole frame, or nothing after a Close.
func (l *leg) write(wire []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = wire[0]&0x0f == opClose
	_, err := l.conn.Write(wire)
	return err
}

// hasClosed reports whether the leg has been sent a Close frame.
func (l *leg) hasClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// rendezvous joins a sender and a listener. Data and Close frames pass from one
// to the other as they are; a ping is answered by the relay itself, so a pong
// says nothing of the other end. A side that goes without a Close takes the
// other with it: that one sees 1006.
type rendezvous struct {
	server           *Server
	sender, listener *leg
	leave            func() // no longer counted as open; does so once

	closing atomic.Bool // the relay itself closes it
}

var frameBuffers = sync.Pool{New: func() any { return &frameBuffer{b: make([]byte, 4<<10)} }}

// pump passes frames from one leg to the other until src is closed.
func (r *rendezvous) pump(src, dst *leg) {
	buffer := frameBuffers.Get().(*frameBuffer)
	defer func() {
		if cap(buffer.b) <= keepBuffer {
			frameBuffers.Put(buffer)
		}
	}()
	for {
		f, err := buffer.read(src.br)
		if err != nil {
			if code := closeCode(err); code != 0 && r.close(code) {
				continue // on to src's answer
			}
			r.end(src)
			return
		}
		if r.pass(f, src, dst) != nil {
			r.end(src)
			return
		}
	}
}

var errDone = errors.New("both sides have closed")

func (r *rendezvous) pass(f frame, src, dst *leg) error {
	switch f.opcode {
	case opPing:
		f.wire[0] = 0x80 | opPong
		return src.write(f.wire)
	case opPong:
		return nil
	case opClose:
		if r.closing.Load() {
			return errDone
		}
		r.leave() // before anyone can see the Close and dial again
		if err := dst.write(f.wire); err != nil {
			return err
		}
		if src.hasClosed() {
			return errDone
		}
		return nil // src is read on, for its end
	default:
		return dst.write(f.wire)
	}
}

// closeCode is what the relay answers to an end that is not a side's own.
func closeCode(err error) int {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return closePolicy
	case errors.Is(err, errFrame):
		return closeProtocolError
	case errors.Is(err, errFrameTooBig):
		return closeTooBig
	}
	return 0
}

// close sends a Close frame to both sides and lingers for their answers.
// It reports false if that has been done.
func (r *rendezvous) close(code int) bool {
	if !r.closing.CompareAndSwap(false, true) {
		return false
	}
	r.leave()
	until := time.Now().Add(r.server.linger)
	r.server.clock.forget(r.sender.conn)
	for _, l := range []*leg{r.sender, r.listener} {
		l.conn.SetDeadline(until) // also frees a write that the side does not read
		if l.write(closeFrame(code)) != nil {
			l.conn.Close()
		}
	}
	return true
}

// end is for a leg that is read no more. The other goes too, unless it still
// has to answer the relay's Close.
func (r *rendezvous) end(l *leg) {
	if r.closing.Load() {
		l.conn.Close()
		return
	}
	r.cut()
}

// cut ends both connections without a close frame.
func (r *rendezvous) cut() {
	r.leave()
	r.sender.conn.Close()
	r.listener.conn.Close()
}

// awaitClose reads what a client still sends up to its Close, or for as long as
// the connection's deadline lets it.
func awaitClose(conn net.Conn) {
	var buffer frameBuffer
	for br := bufio.NewReader(conn); ; {
		if f, err := buffer.read(br); err != nil || f.opcode == opClose {
			return
		}
	}
}
