package servicebustest

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

// Limits that the server announces, as the service does.
const (
	maxFrameSize = 64 << 10
	maxChannel   = 4999

	// maxUnsent bounds what waits to be written to a peer that does not read: beyond it no more messages are delivered to it,
	// and no more frames are read from it.
	maxUnsent = 1 << 20
)

// conn is one connection. Two goroutines serve it: serve reads frames and answers them; write sends what is in out, and takes
// messages from the queues for the links that are due for some. A queue that has something for a link never waits for the
// connection: it puts the link on the due list and goes on.
type conn struct {
	server *Server
	net    net.Conn      // the TLS connection, where there is TLS
	socket net.Conn      // below it
	kick   chan struct{} // tells write that there is something to do; holds one token

	// Owned by the goroutine of serve.
	frames    *amqp.FrameReader
	in        *bufio.Reader
	unflushed bool // out was appended to since the last kick

	mu sync.Mutex
	// guards all below
	out      []byte     // frames to be written
	written  *sync.Cond // signalled when out has shrunk, or the connection ends
	sessions map[uint16]*session
	ended    map[uint16]bool // channels whose session the peer ended
	claims   claims
	peerMax  int           // the peer's maximum frame size
	peerIdle time.Duration // send something at least this often; 0: no need
	ending   bool          // write sends what is left and cuts the connection

	dirtyMu sync.Mutex  // taken last of all
	due     []*outbound // links that may take messages
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{server: s, net: s.secure(nc), socket: nc, kick: make(chan struct{}, 1), sessions: make(map[uint16]*session), ended: make(map[uint16]bool), peerMax: amqp.MinMaxFrameSize}
	c.written = sync.NewCond(&c.mu)
	c.claims = claims{server: s}
	c.in = bufio.NewReaderSize(pausingReader{c}, maxFrameSize)
	c.frames = amqp.NewFrameReader(c.in, maxFrameSize)
	return c
}

// cut ends the connection from outside, without a word to the peer.
func (c *conn) cut() { c.socket.Close() }

// serve runs the connection until it ends, and returns when write has returned too.
func (c *conn) serve() {
	defer c.net.Close()
	if err := c.handshake(); err != nil {
		return
	}
	var writer sync.WaitGroup
	writer.Go(c.write)
	defer writer.Wait()
	err := c.read()

	c.mu.Lock()
	var reason *amqp.Error
	faulty := errors.As(err, &reason)
	for _, s := range c.sessions {
		s.end(err == nil || faulty)
	}
	if faulty {
		c.send(0, &amqp.Close{Err: reason})
	}
	c.ending = true
	c.mu.Unlock()
	c.wakeWriter()
}

// read handles frames until the peer closes, which is no error, or the connection fails. An *amqp.Error is for the peer.
func (c *conn) read() error {
	for {
		frame, err := c.frames.Read()
		if err != nil {
			if errors.Is(err, io.EOF) || errors.As(err, new(net.Error)) {
				return err
			}
			return &amqp.Error{Condition: "amqp:connection:framing-error", Description: err.Error()}
		}
		if len(frame.Body) == 0 {
			continue
		}
		p, err := amqp.Decode(frame.Body)
		if err != nil {
			return &amqp.Error{Condition: "amqp:decode-error", Description: err.Error()}
		}
		c.mu.Lock()
		done, err := c.handle(frame.Channel, p)
		for len(c.out) > maxUnsent && !c.ending {
			c.wakeWriter()
			c.written.Wait()
		}
		c.unflushed = true
		c.mu.Unlock()
		if done || err != nil {
			return err
		}
	}
}

// handle answers one performative. It reports done when the peer has closed the connection.
func (c *conn) handle(channel uint16, p amqp.Performative) (done bool, err error) {
	switch p := p.(type) {
	case *amqp.Open:
		c.peerMax = max(amqp.MinMaxFrameSize, int(min(p.MaxFrameSize, maxFrameSize)))
		c.peerIdle = p.IdleTimeout / 2
		c.send(0, &amqp.Open{
			ContainerID: "servicebustest", MaxFrameSize: maxFrameSize, ChannelMax: maxChannel,
			IdleTimeout: c.server.config.IdleTimeout,
		})
	case *amqp.Close:
		c.send(0, &amqp.Close{})
		return true, nil
	case *amqp.Begin:
		if channel > maxChannel || c.sessions[channel] != nil {
			return false, &amqp.Error{Condition: "amqp:not-allowed", Description: "the channel is in use or out of range"}
		}
		delete(c.ended, channel)
		c.sessions[channel] = beginSession(c, channel, p)
	default:
		s := c.sessions[channel]
		if s == nil && c.ended[channel] {
			return false, nil // the Go client detaches a link that it gave up on after the end of the link's session
		}
		if s == nil {
			return false, &amqp.Error{Condition: "amqp:illegal-state", Description: "there is no session on the channel"}
		}
		c.pass(s, p)
	}
	return false, nil
}

// pass has a session handle a performative. A session that we have ended hears nothing more; it is gone once the peer ends it too.
func (c *conn) pass(s *session, p amqp.Performative) {
	var reason *amqp.Error
	_, ends := p.(*amqp.End)
	switch {
	case ends:
		delete(c.sessions, s.channel)
		c.ended[s.channel] = true
	case !s.ended:
		reason = s.handle(p)
	}
	if !s.ended && (ends || reason != nil) {
		s.end(true)
		c.send(s.channel, &amqp.End{Err: reason})
	}
}

// send encodes a performative for the peer. The caller holds c.mu.
func (c *conn) send(channel uint16, p amqp.Performative) {
	c.out = amqp.AppendFrame(c.out, amqp.FrameAMQP, channel, p)
}

// detachLinks detaches the links of a queue, nil for all links there are, with a reason.
func (c *conn) detachLinks(q *queue, reason *fault) {
	c.mu.Lock()
	for _, s := range c.sessions {
		s.detachLinks(q, reason)
	}
	c.mu.Unlock()
	c.wakeWriter()
}

// markDue puts a link on the list of those that may take messages. It may be called with any lock held but dirtyMu.
func (c *conn) markDue(l *outbound) {
	c.stayDue(l)
	c.wakeWriter()
}

func (c *conn) stayDue(l *outbound) {
	c.dirtyMu.Lock()
	defer c.dirtyMu.Unlock()
	if !l.isDue {
		l.isDue = true
		c.due = append(c.due, l)
	}
}

func (c *conn) takeDue() []*outbound {
	c.dirtyMu.Lock()
	defer c.dirtyMu.Unlock()
	links := c.due
	c.due = nil
	for _, l := range links {
		l.isDue = false
	}
	return links
}

func (c *conn) wakeWriter() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// pausingReader reads from the connection. Whenever that may block, the answers so far are flushed first: so the answers to
// requests that came together leave together.
type pausingReader struct{ c *conn }

func (r pausingReader) Read(b []byte) (int, error) {
	if r.c.unflushed {
		r.c.unflushed = false
		r.c.wakeWriter()
	}
	// Twice what is announced: a peer sends heartbeats just in time (section 2.4.5).
	if err := r.c.net.SetReadDeadline(time.Now().Add(2 * r.c.server.config.IdleTimeout)); err != nil {
		return 0, err
	}
	return r.c.net.Read(b)
}
