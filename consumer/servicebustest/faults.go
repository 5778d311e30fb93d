package servicebustest

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Defaults of the faults: how long a fault lasts if it is not told, and how much later everything is answered under "delay".
const (
	DefaultFaultDuration = 5 * time.Second
	DefaultDelay         = 500 * time.Millisecond
)

// faults holds the windows of the faults that last. They end by themselves.
type faults struct {
	throttled, tokensRefused, delayed window
	delay                             atomic.Int64 // nanoseconds
}

// window is a stretch of time from now to some moment, open or already over.
type window struct {
	until atomic.Int64 // nanoseconds since 1970
}

func (w *window) open(now time.Time, d time.Duration) {
	w.until.Store(now.Add(orDefault(d, DefaultFaultDuration)).UnixNano())
}

func (w *window) left(now time.Time) time.Duration {
	return time.Duration(w.until.Load() - now.UnixNano())
}

func (w *window) is(now time.Time) bool { return w.left(now) > 0 }

// Fault starts a fault by its name: drop-connections, detach-links, expire-locks, expire-tokens, throttle, refuse-tokens,
// delay or away. The duration means what it means to the method of that name; the first four last no time and ignore it. An unknown
// name is an error that lists the known ones.
func (s *Server) Fault(name string, d time.Duration) error {
	known := map[string]func(){
		"drop-connections": s.DropConnections,
		"detach-links":     s.DetachLinks,
		"expire-locks":     s.ExpireLocks,
		"expire-tokens":    s.ExpireTokens,
		"throttle":         func() { s.Throttle(d) },
		"refuse-tokens":    func() { s.RefuseTokens(d) },
		"delay":            func() { s.Delay(0, d) },
		"away":             func() { s.Away(d) },
	}
	start, ok := known[name]
	if !ok {
		return fmt.Errorf("fault %q: known are %s", name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
	}
	start()
	return nil
}

// DropConnections cuts every TCP connection without a word. Messages that were received stay locked, and so do sessions: whoever
// held one cannot accept it again before its lock has run out.
func (s *Server) DropConnections() {
	for _, c := range s.connections() {
		c.cut()
	}
}

// DetachLinks detaches every link with amqp:link:detach-forced, as the service does when it moves a queue to another machine.
// Sessions are given back by that, and links that wait for one are refused.
func (s *Server) DetachLinks() {
	reason := &fault{condition: "amqp:link:detach-forced", text: "the link is force detached by the broker"}
	for _, c := range s.connections() {
		c.detachLinks(nil, reason)
	}
}

// ExpireLocks ends every lock of a message or session now, as if it had run out: a delivery is counted, and the message is delivered
// again. A link that has lost its session by that is detached with com.microsoft:session-lock-lost.
func (s *Server) ExpireLocks() {
	now := s.clock.now()
	for _, q := range s.queues {
		q.expireLocks(now)
	}
}

// ExpireTokens ends every token that was presented, as if its time were over: the links are detached with amqp:unauthorized-access,
// and where tokens are needed new links need a new one.
func (s *Server) ExpireTokens() {
	reason := &fault{condition: "amqp:unauthorized-access", text: "ExpiredToken: the token is expired"}
	for _, c := range s.connections() {
		c.mu.Lock()
		clear(c.claims.until)
		c.mu.Unlock()
		c.detachLinks(nil, reason)
	}
}

// Throttle answers com.microsoft:server-busy to sends, settlements, requests and new links for d, 0 for 5 s. Links that are
// attached stay, and get no messages meanwhile; those that wait for a session go on waiting.
func (s *Server) Throttle(d time.Duration) { s.faults.throttled.open(s.clock.now(), d) }

// RefuseTokens answers 401 to every token that is presented in the next d, 0 for 5 s. Links that are attached stay.
func (s *Server) RefuseTokens(d time.Duration) { s.faults.tokensRefused.open(s.clock.now(), d) }

// Delay holds everything that the server sends back by per, 0 for 500 ms, during the next d, 0 for 5 s. Nothing is reordered.
func (s *Server) Delay(per, d time.Duration) {
	s.faults.delay.Store(int64(orDefault(per, DefaultDelay)))
	s.faults.delayed.open(s.clock.now(), d)
}

// Away closes the listener and cuts the connections, and listens on the same port again after d, 0 for 5 s. Messages and their
// locks live on. HTTP is not affected. While the server is away another call changes nothing.
func (s *Server) Away(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return
	}
	s.hangUp()
	at := s.clock.now().Add(orDefault(d, DefaultFaultDuration))
	s.running.Go(func() { s.comeBack(at) })
}

// comeBack listens again then. Somebody else may have taken the port meanwhile: it tries until it has it back.
func (s *Server) comeBack(at time.Time) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		moves := s.clock.moves()
		select {
		case <-s.stop:
			return
		case <-moves:
		case <-timer.C:
		}
		if left := at.Sub(s.clock.now()); left > 0 {
			timer.Reset(left)
			continue
		}
		listener, err := net.Listen("tcp", s.addr)
		if err != nil {
			timer.Reset(50 * time.Millisecond)
			continue
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.closed {
			listener.Close()
			return
		}
		s.listener = listener
		s.running.Go(func() { s.accept(listener) })
		return
	}
}

// Disable disables or enables a queue and its dead-letter queue, as in the portal: its links are detached, and new ones refused,
// with com.microsoft:entity-disabled. An unknown queue is ignored.
func (s *Server) Disable(name string, disabled bool) {
	q := s.queue(name)
	if q == nil || q.dead == nil {
		return
	}
	for _, each := range []*queue{q, q.dead} {
		each.mu.Lock()
		each.disabled = disabled
		each.mu.Unlock()
		if disabled {
			for _, c := range s.connections() {
				c.detachLinks(each, errDisabled)
			}
		}
	}
}
