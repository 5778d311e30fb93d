package relay

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

var (
	errUnasked = errors.New("unasked frame")
	errIdle    = errors.New("idle")
	errSpent   = errors.New("not kept")
)

// socket is one open websocket. A goroutine reads from it as long as it lives, so that a Close is answered and known at once; timers
// ping it, and close it when it has been idle. All of that has ended when gone is closed.
type socket struct {
	ws     *websocket.Conn
	waits  *waits
	tokens TokenSource   // what it was dialled with
	ended  chan struct{} // closed by end: nothing may be written any more
	gone   chan struct{} // closed when the network connection is closed too
	idle   *time.Timer   // runs while nobody holds the socket
	ping   *time.Timer   // runs from ping to ping

	// seasoned is when the watch after the first ack is over; zero before that ack. It belongs to whoever holds the turn.
	seasoned time.Time

	mu    sync.Mutex  // guards what follows
	cause error       // why it ended; nil while it is open
	reply chan []byte // where the next frame goes; nil when none is expected
	begun bool        // a byte of that frame was read
	held  bool        // by a Conn, so not idle

	firing sync.WaitGroup // timers at work; Add happens with mu, while cause is nil or as it is set
}

// newSocket makes a socket that its caller holds.
func newSocket(ws *websocket.Conn, w *waits, tokens TokenSource) *socket {
	s := &socket{ws: ws, waits: w, tokens: tokens, ended: make(chan struct{}), gone: make(chan struct{}), held: true}
	s.mu.Lock() // a timer may fire before its field is set
	defer s.mu.Unlock()
	s.ping = time.AfterFunc(w.Ping, s.sendPing)
	s.idle = time.AfterFunc(time.Hour, s.closeIdle)
	s.idle.Stop()
	return s
}

// run serves s until it has ended on either side, and tells forget then.
func (s *socket) run(forget func()) {
	s.read()
	s.idle.Stop()
	s.ping.Stop()
	_ = s.ws.Close()
	s.firing.Wait()
	forget()
	close(s.gone)
}

// read hands each frame to whoever waited for it when it began. A frame that nobody waits for ends the socket as soon as it begins: an
// answer that comes late must not be taken for the next action's. After the end, frames are read and dropped until the peer has closed too.
func (s *socket) read() {
	for {
		_, r, err := s.ws.NextReader()
		if err != nil {
			s.end(err)
			return
		}
		if !s.mark() {
			s.shut(websocket.CloseNormalClosure, errUnasked)
		}
		frame, err := io.ReadAll(r)
		if err != nil {
			s.end(err)
			return
		}
		s.deliver(frame)
	}
}

// mark notes that a frame has begun, and reports whether it is expected.
func (s *socket) mark() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun = s.reply != nil
	return s.begun
}

func (s *socket) deliver(frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reply != nil {
		s.reply <- frame
		s.reply = nil
	}
}

// sendPing keeps the relay from taking the connection for dead. A ping that cannot be written shows in the reader, or in the next write.
func (s *socket) sendPing() {
	s.mu.Lock()
	if s.cause != nil {
		s.mu.Unlock()
		return
	}
	s.firing.Add(1)
	s.ping.Reset(s.waits.Ping)
	s.mu.Unlock()
	defer s.firing.Done()
	_ = s.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(s.waits.Write))
}

// closeIdle ends the socket, unless somebody took it just now.
func (s *socket) closeIdle() {
	s.mu.Lock()
	if s.held || !s.endLocked(errIdle) {
		s.mu.Unlock()
		return
	}
	s.firing.Add(1)
	s.mu.Unlock()
	defer s.firing.Done()
	s.sayClose(websocket.CloseNormalClosure)
}

// hold takes the socket for one exchange; false if it has ended.
func (s *socket) hold() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle.Stop()
	s.held = s.cause == nil
	return s.held
}

// watch waits until the socket is seasoned, or ctx ends, and reports whether it is still open. The reader goes on all the while.
func (s *socket) watch(ctx context.Context) bool {
	if left := time.Until(s.seasoned); left > 0 {
		timer := time.NewTimer(left)
		defer timer.Stop()
		select {
		case <-s.ended:
		case <-ctx.Done():
		case <-timer.C:
		}
	}
	cause, _ := s.why()
	return cause == nil
}

// rest gives an open socket back, to be used again within d or to be closed then.
func (s *socket) rest(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause == nil {
		s.held = false
		s.idle.Reset(d)
	}
}

// expect makes the next frame the answer to what is about to be written; nil if the socket has ended.
func (s *socket) expect() <-chan []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil {
		return nil
	}
	reply := make(chan []byte, 1)
	s.reply, s.begun = reply, false
	return reply
}

// write sends one text frame, within limit. After an error the peer cannot have all of it, since a write that stops short is the last.
func (s *socket) write(frame []byte, limit time.Duration) error {
	_ = s.ws.SetWriteDeadline(time.Now().Add(min(limit, s.waits.Write)))
	return s.ws.WriteMessage(websocket.TextMessage, frame)
}

// end notes why the socket is over; only the first reason counts.
func (s *socket) end(cause error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endLocked(cause)
}

func (s *socket) endLocked(cause error) bool {
	if s.cause != nil {
		return false
	}
	s.cause, s.reply = cause, nil
	close(s.ended)
	return true
}

// why is the reason for the end, and whether a byte of the expected frame had come by then.
func (s *socket) why() (cause error, begun bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause, s.begun
}

// shut ends the socket with a Close frame. The reader waits a little for the peer's, then cuts the connection.
func (s *socket) shut(code int, cause error) {
	if s.end(cause) {
		s.sayClose(code)
	}
}

func (s *socket) sayClose(code int) {
	deadline := time.Now().Add(s.waits.Close)
	_ = s.ws.SetReadDeadline(deadline)
	_ = s.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), deadline)
}

// settle waits until a socket that could not be written to is gone, for the peer may have said why.
func (s *socket) settle() {
	_ = s.ws.SetReadDeadline(time.Now().Add(s.waits.Close))
	<-s.gone
}
