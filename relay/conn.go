package relay

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// A Conn is the turn of one caller at one hybrid connection, with an open connection to it. It is not safe for concurrent use.
type Conn struct {
	client   *Client
	hc       HybridConnection
	tokens   TokenSource
	line     *line // whose turn this is
	sock     *socket
	timings  Timings
	used     bool
	released atomic.Bool
}

// Timings says how long each step took; 0 for a step that was not needed.
type Timings struct {
	DNS       time.Duration // resolving the namespace
	Connect   time.Duration // TCP
	TLS       time.Duration
	Handshake time.Duration // from the upgrade request to its answer, which waits for the gateway
	Ack       time.Duration // from the first byte of the frame to the ack, or to the end of the wait for it
	Reused    bool          // the connection was open already
}

// Timings returns those of the connection, and of the exchange if it took place.
func (c *Conn) Timings() Timings { return c.timings }

// Exchange writes a as one message and waits for the answer to it; at most once per Conn. A refusal by the gateway is an Ack. The error
// is always an [*Error].
//
// A reused connection may be found ended. If the frame was certainly not written, it is written to a new one at once. If it was
// written, and the connection ended before a byte of an answer, a create or an echo is written once more to a new one, since a second
// copy of those does no harm; any other action is not.
//
// If ctx ends before the frame is written, the action is certainly not sent; after that, it may have been.
func (c *Conn) Exchange(ctx context.Context, a Action) (Ack, error) {
	if c.used || c.released.Load() {
		return Ack{}, &Error{Phase: PhaseSend, Sent: SentNo, HybridConnection: c.hc, Detail: "connection used already"}
	}
	c.used = true
	ctx, done := c.client.bound(ctx)
	defer done()
	ack, err, again := c.once(ctx, a)
	if again && c.timings.Reused {
		ack, err = c.second(ctx, a, err)
	}
	if err != nil {
		err.Timings = c.timings
		return Ack{}, err
	}
	return ack, nil
}

// second dials and sends a again after first, and tells the truth about both copies.
func (c *Conn) second(ctx context.Context, a Action, first *Error) (Ack, *Error) {
	<-c.sock.gone
	unanswered := first.Sent == SentMaybe && !first.Answered && a.creates()
	waited := c.timings.Ack
	if err := c.dial(ctx); err != nil {
		if first.Sent == SentNo {
			return Ack{}, err
		}
		first.Detail = cutText(first.Detail + "; then " + err.Error())
		c.timings.Ack, c.timings.Reused = waited, true
		return Ack{}, first
	}
	ack, err, _ := c.once(ctx, a)
	switch {
	case err == nil:
		ack.Unanswered = unanswered
		return ack, nil
	case err.Phase == PhaseSend && first.Sent == SentMaybe:
		c.timings.Ack, c.timings.Reused = waited, true
		return Ack{}, first
	}
	err.Answered = err.Answered && !unanswered
	return Ack{}, err
}

// once writes a and waits for its ack. On an error the socket has ended; again tells whether, on a socket that was reused, the frame may
// be written to another.
func (c *Conn) once(ctx context.Context, a Action) (ack Ack, err *Error, again bool) {
	if ctx.Err() != nil {
		return Ack{}, failed(ctx, c.hc, PhaseSend, "", nil), false
	}
	reply := c.sock.expect()
	if reply == nil {
		return Ack{}, c.unwritten(nil), true
	}
	begun, limit := time.Now(), or(c.client.AckTimeout, 35*time.Second)
	if err := c.sock.write(a.body(), limit); err != nil {
		c.timings.Ack = time.Since(begun)
		c.sock.settle()
		unwritten := c.unwritten(err)
		return Ack{}, unwritten, unwritten.Phase == PhaseSend
	}
	payload, err := c.wait(ctx, reply, limit)
	c.timings.Ack = time.Since(begun)
	if err != nil {
		return Ack{}, err, false
	}
	if payload == nil {
		return c.broken(a)
	}
	ack, bad := decodeAck(payload, a)
	if bad != nil {
		c.sock.shut(websocket.CloseNormalClosure, errSpent)
		return Ack{}, c.fault(PhaseAckInvalid, SentMaybe, true, 0, bad.Error()), false
	}
	if c.sock.seasoned.IsZero() {
		c.sock.seasoned = time.Now().Add(max(0, or(c.client.WatchTime, 250*time.Millisecond)))
	}
	return ack, nil, false
}

// wait returns the answer; nil without an error if the connection ended first. An answer that was read counts, whatever ended meanwhile.
func (c *Conn) wait(ctx context.Context, reply <-chan []byte, limit time.Duration) ([]byte, *Error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var err *Error
	select {
	case payload := <-reply:
		return payload, nil
	case <-c.sock.ended:
	case <-timer.C:
		err = c.fault(PhaseAckTimeout, SentMaybe, false, 0, fmt.Sprintf("no ack in %v", limit))
	case <-ctx.Done():
		err = c.left(reason(ctx))
	}
	// Nothing is delivered after the end, so a look at reply is final then.
	c.sock.shut(websocket.CloseNormalClosure, errSpent)
	select {
	case payload := <-reply:
		return payload, nil
	default:
		return nil, err
	}
}

// unwritten is the error of a frame that did not get out in full: the peer's reason if it gave one that answers the frame.
func (c *Conn) unwritten(err error) *Error {
	cause, _ := c.sock.why()
	var closed *websocket.CloseError
	switch {
	case errors.As(cause, &closed) && closed.Code == websocket.CloseMessageTooBig:
		return c.tooBig()
	case errors.As(cause, &closed):
		c.dropToken(closed.Code)
		return c.fault(PhaseSend, SentNo, false, closed.Code, closing(closed.Code)+" before the action was sent")
	case errors.Is(cause, ErrClosed):
		err = ErrClosed
	case err == nil:
		err = cause
	}
	e := c.fault(PhaseSend, SentNo, false, 0, "send: "+err.Error())
	e.Err = err
	return e
}

// broken is the error of a connection that ended before the ack to a.
func (c *Conn) broken(a Action) (Ack, *Error, bool) {
	cause, begun := c.sock.why()
	var closed *websocket.CloseError
	switch {
	case errors.Is(cause, websocket.ErrReadLimit):
		return Ack{}, c.fault(PhaseAckInvalid, SentMaybe, true, 0, "longer than 64 KiB"), false
	case errors.Is(cause, ErrClosed):
		return Ack{}, c.left(ErrClosed), false
	case !errors.As(cause, &closed):
		err := c.fault(PhaseAckLost, SentMaybe, false, websocket.CloseAbnormalClosure, "connection broke: "+cause.Error())
		err.Err = cause
		return Ack{}, err, a.repeatable() && !begun
	case closed.Code == websocket.CloseMessageTooBig:
		return Ack{}, c.tooBig(), false
	}
	c.dropToken(closed.Code)
	err := c.fault(PhaseAckLost, SentMaybe, false, closed.Code, closing(closed.Code)+" before an ack")
	if closed.Code == websocket.CloseNormalClosure || closed.Code == websocket.CloseNoStatusReceived {
		err.Answered = true
		// On a connection that was open before, the Close may have crossed the frame.
		if !c.timings.Reused {
			err.Phase = PhaseAckClosed
		}
	}
	return Ack{}, err, a.repeatable() && !begun
}

// left is the error of an exchange that our own side gave up.
func (c *Conn) left(why error) *Error {
	err := c.fault(PhaseAckLost, SentMaybe, false, 0, "waiting for the ack: "+why.Error())
	err.Err = why
	return err
}

// tooBig is the one Close that tells that the action was not taken: RFC 6455 section 7.4.1.
func (c *Conn) tooBig() *Error {
	return c.fault(PhaseAckClosed, SentNo, true, websocket.CloseMessageTooBig, "close 1009: larger than the gateway takes")
}

// dropToken forgets a token that the relay closed the connection for.
func (c *Conn) dropToken(code int) {
	if code == websocket.ClosePolicyViolation {
		c.line.token = Token{}
	}
}

// closing is a close code in words. The peer's own text is left out: it may repeat the action.
func closing(code int) string {
	if code == websocket.CloseAbnormalClosure {
		return "connection broke"
	}
	return fmt.Sprintf("close %d", code)
}

func (c *Conn) fault(phase Phase, sent Sent, answered bool, code int, detail string) *Error {
	return &Error{Phase: phase, Sent: sent, Answered: answered, Code: code, HybridConnection: c.hc, Detail: cutText(detail)}
}

// Release gives the turn to the next caller, and must be called once the Conn is not needed any more; further calls do nothing. A
// connection whose gateway answered is kept open for a while; any other one is closed.
func (c *Conn) Release() {
	if c.released.Swap(true) {
		return
	}
	if idle := or(c.client.IdleTimeout, 5*time.Second); idle > 0 && !c.sock.seasoned.IsZero() {
		c.sock.rest(idle)
	} else {
		c.sock.shut(websocket.CloseNormalClosure, errSpent)
	}
	c.line.give()
}
