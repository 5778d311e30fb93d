package main_test

import (
	"bytes"
	"encoding/binary"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
)

// forcedSituations are about a process that does not wait for what is in
// flight: it was told so, or its grace is over.
var forcedSituations = []situation{
	{"74_second_sigterm", func(t *testing.T, s *scene) {
		s.forced(func(p *program) { p.signal(syscall.SIGTERM) })
	}},
	{"74_grace_over", func(t *testing.T, s *scene) {
		s.env["SHUTDOWN_GRACE"] = "1s"
		s.forced(func(*program) {})
	}},
}

const exitStopped = 5 // stopped before everything in flight had ended

// forced stops the program while an exchange waits for an ack that does not
// come; then again says what makes it hurry.
func (s *scene) forced(again func(*program)) {
	s.t.Helper()
	s.env["ACK_TIMEOUT"] = "10m" // whoever waits for it does not end in time
	s.gateway.Script(relaytest.Reply{Apply: true, KeepOpen: true})
	closed := s.senderCloses()
	first := s.start()
	id := s.enqueue("leeds")
	s.until("the frame is at the gateway", func() bool { return len(s.gateway.Frames()) == 1 })
	first.signal(syscall.SIGTERM)
	s.until("it stops receiving", func() bool { return first.log.has("no longer receiving") })
	again(first)
	first.exits(exitStopped)

	s.until("the gateway is told why", func() bool { return closed.Load() != 0 })
	if code := closed.Load(); code != 1000 && code != 1001 {
		s.t.Errorf("the gateway saw close code %d, want 1000 or 1001", code)
	}
	s.until("no connection is left at the relay", func() bool { return s.relay.Stats("leeds").Open == 0 })
	if q := s.queueState(); q.Active+q.Locked != 1 || q.Scheduled+q.DeadLettered != 0 {
		s.t.Errorf("queue %+v, want the message itself left to be delivered again", q)
	}
	if row := s.row(id); row.Status != store.Sent {
		s.t.Errorf("row is %q, want sent", row.Status)
	}
	s.endClaims()
	s.env["SHUTDOWN_GRACE"] = "5m"
	s.start()
	s.confirmed(id, true)
	s.frames(2)
}

// senderCloses watches for the code of the Close frame that the program sends
// to the gateway; 0 until it does.
func (s *scene) senderCloses() *atomic.Int64 {
	var code atomic.Int64
	s.toRelay.holdBy(func(_ *link, _ map[*link]bool, fromClient bool, b []byte) {
		// RFC 6455 section 5.2: FIN and opcode 8, then mask and length, the masking
		// key, and the masked status code.
		if _, frame, found := bytes.Cut(b, []byte{0x88, 0x82}); fromClient && found && len(frame) == 6 {
			code.Store(int64(binary.BigEndian.Uint16(frame[4:]) ^ binary.BigEndian.Uint16(frame)))
		}
	})
	return &code
}
