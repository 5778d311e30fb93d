package relaytest

import (
	"context"
	"net"
	"sync"
	"time"
)

// clock is the time of a relay and of its gateways: the machine's, and as far
// ahead of it as a test has moved it. The zero value is ready, and may be used
// concurrently.
type clock struct {
	mu    sync.Mutex // guards what follows
	ahead time.Duration
	moved chan struct{}          // closed at the next move; nil: nobody waits for it
	due   map[net.Conn]time.Time // when the reads of a connection end
}

// Advance moves the time by which the relay judges tokens, and by which its
// gateways renew theirs, find a rendezvous idle, and listen again. A connection
// whose time is over then is closed as it would be later.
func (s *Server) Advance(d time.Duration) {
	c := &s.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
	for conn, at := range c.due {
		conn.SetReadDeadline(at.Add(-c.ahead))
	}
	if c.moved != nil {
		close(c.moved)
		c.moved = nil
	}
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

// deadline ends the reads of a connection at a time of this clock; zero: never.
func (c *clock) deadline(conn net.Conn, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at.IsZero() {
		delete(c.due, conn)
		conn.SetReadDeadline(at)
		return
	}
	if c.due == nil {
		c.due = map[net.Conn]time.Time{}
	}
	c.due[conn] = at
	conn.SetReadDeadline(at.Add(-c.ahead))
}

// forget leaves the deadlines of a connection to whoever sets them next.
func (c *clock) forget(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.due, conn)
}

// pause waits until a time of this clock and reports whether ctx outlived it.
func (c *clock) pause(ctx context.Context, until time.Time) bool {
	for {
		c.mu.Lock()
		left := time.Until(until.Add(-c.ahead))
		if c.moved == nil {
			c.moved = make(chan struct{})
		}
		moved := c.moved
		c.mu.Unlock()
		if left <= 0 {
			return ctx.Err() == nil
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-moved:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return false
		}
	}
}
