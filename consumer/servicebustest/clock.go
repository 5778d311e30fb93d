package servicebustest

import (
	"sync"
	"time"
)

// clock is the time of a server: the machine's, and as far ahead of it as a test has moved it. The zero value is ready.
type clock struct {
	mu    sync.Mutex // guards what follows
	ahead time.Duration
	moved chan struct{} // closed at the next move; nil: nobody waits for it
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

// moves is closed when the time is moved next. Who asks for it before it asks for the time misses no move.
func (c *clock) moves() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.moved == nil {
		c.moved = make(chan struct{})
	}
	return c.moved
}

// Advance moves the server's time: whatever would come about meanwhile does so now. Locks, times to live and schedules go by it, tokens,
// and how long a fault lasts.
func (s *Server) Advance(d time.Duration) {
	s.clock.mu.Lock()
	s.clock.ahead += d
	if s.clock.moved != nil {
		close(s.clock.moved)
		s.clock.moved = nil
	}
	s.clock.mu.Unlock()
	for _, c := range s.connections() {
		c.wakeWriter() // it may wait for the end of a fault
	}
}
