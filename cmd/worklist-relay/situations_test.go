package main_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// situation is one thing that happens, and the test of its one right result.
type situation struct {
	name string // "NN_words": its number in the list of situations
	test func(t *testing.T, s *scene)
}

// TestSituations holds the program, as a process of its own that is killed or
// told to stop, against the situations that no test within one process can make.
func TestSituations(t *testing.T) {
	t.Parallel()
	for _, situation := range slices.Concat(startingSituations, killedSituations, stoppedSituations, forcedSituations) {
		for _, dialect := range storetest.Dialects {
			t.Run(situation.name+"/"+dialect, func(t *testing.T) {
				t.Parallel()
				situation.test(t, newScene(t, dialect))
			})
		}
	}
}

var killedSituations = []situation{
	{"60_killed_after_the_sent_mark_before_the_frame", func(t *testing.T, s *scene) {
		at := s.toRelay // SQLite has no connection to hold: the frame is held, which the gateway cannot tell
		hold := rule(afterFirst)
		if s.toDatabase != nil {
			at, hold = s.toDatabase, answerTo("SET status = 'sent'")
		}
		at.holdBy(hold)
		first := s.start()
		id := s.enqueue("leeds")
		s.until("it is held", func() bool { return at.holding.Load() && s.row(id).Status == store.Sent })
		s.sent(id, 0)
		first.kill()
		at.letGo()
		s.endClaims()
		s.start()
		s.confirmed(id, false)
		s.frames(1)
		s.attempts(id, "abandoned", "confirmed")
	}},
	{"61_killed_after_the_ack_before_the_record", func(t *testing.T, s *scene) {
		release, locked := func() {}, make(chan struct{})
		if s.toDatabase != nil {
			s.toDatabase.holdBy(request("INSERT INTO attempts"))
		} else {
			s.toRelay.holdBy(acksWait(locked))
		}
		first := s.start()
		id := s.enqueue("leeds")
		s.until("the frame is at the gateway", func() bool { return len(s.gateway.Frames()) == 1 })
		if s.toDatabase == nil {
			release = s.lockDatabase()
			close(locked)
		}
		s.until("the gateway has acked, and is left", func() bool {
			return len(s.gateway.Snapshot().Items) == 1 && s.relay.Stats("leeds").Open == 0 && (s.toDatabase == nil || s.toDatabase.holding.Load())
		})
		s.sent(id, 1)
		first.kill()
		release()
		if s.toDatabase != nil {
			s.toDatabase.letGo()
		}
		s.sent(id, 1)
		s.endClaims()
		s.start()
		s.confirmed(id, true)
		s.frames(2)
		s.attempts(id, "abandoned", "confirmed")
	}},
	{"62_killed_after_the_record_before_settling", func(t *testing.T, s *scene) {
		at, held := s.toDatabase, make(chan struct{})
		if at != nil {
			at.holdBy(answerTo("INSERT INTO attempts"))
		} else {
			at = s.toBroker
			s.toRelay.holdBy(acksWait(held))
		}
		first := s.start()
		id := s.enqueue("leeds")
		s.until("the frame is at the gateway", func() bool { return len(s.gateway.Frames()) == 1 })
		if at == s.toBroker {
			at.holdBy(everything)
			close(held)
		}
		s.until("it is recorded and not settled", func() bool { return at.holding.Load() && s.row(id).Status == store.Confirmed })
		if q := s.queueState(); q.Locked != 1 {
			t.Errorf("queue %+v, want the message locked", q)
		}
		first.kill()
		at.letGo()
		s.broker.ExpireLocks()
		s.start()
		s.confirmed(id, false)
		s.frames(1)
		s.attempts(id, "confirmed")
	}},
	{"63_killed_between_the_copy_and_completing", func(t *testing.T, s *scene) {
		// The second process must have the original before its copy is due.
		dialect, _, _ := strings.Cut(s.database, ":")
		for _, due := range []string{"6s", "20s", "2m"} {
			if s.killedAfterTheCopy(due) {
				return
			}
			s = newScene(t, dialect)
		}
		t.Error("no original had a second copy")
	}},
}

// killedAfterTheCopy reports whether the original was delivered before its copy was due.
func (s *scene) killedAfterTheCopy(due string) bool {
	s.t.Helper()
	s.env["RETRY_DELAYS"] = due
	s.env["CONCURRENCY"] = "1" // at once, one copy would wait for the end of the other's lease
	answer := make(chan struct{})
	s.toRelay.holdBy(acksWait(answer))
	s.gateway.Script(relaytest.Reply{Text: `{"status":"error","message":"database is locked"}`})
	s.toBroker.holdBy(othersFrom("copied_from_sequence_number"))
	first := s.start()
	id := s.enqueue("leeds")
	s.until("the frame is at the gateway", func() bool { return len(s.gateway.Frames()) == 1 })
	s.env["SERVICEBUS_CONNECTION_STRING"] = s.broker.ConnectionString()
	second := s.start()
	s.until("the second process is up", func() bool { return second.log.has(`"msg":"running"`) })
	close(answer)
	late := func() bool { return s.row(id).Status == store.Confirmed && s.queueState().Scheduled < 2 }
	s.until("the copy is sent and the original not completed", func() bool {
		return s.toBroker.holding.Load() && s.queueState().Scheduled == 1 || late()
	})
	locked := s.queueState().Locked
	first.kill()
	s.toBroker.letGo()
	s.broker.ExpireLocks()
	s.until("the original has a second copy", func() bool { return s.queueState().Scheduled == 2 || late() })
	if late() {
		return false
	}
	if locked != 1 {
		s.t.Errorf("%d messages were locked, want the original", locked)
	}
	s.confirmed(id, false)
	s.frames(2)
	s.attempts(id, "retry", "confirmed")
	s.until("the original and both copies were settled", func() bool { return strings.Count(second.log.String(), `"msg":"settled"`) >= 3 })
	return true
}

// lockDatabase takes the write lock of a SQLite file, as another process would.
func (s *scene) lockDatabase() (release func()) {
	s.t.Helper()
	db, err := s.open()
	s.must(err)
	conn, err := db.Conn(context.Background())
	s.must(err)
	_, err = conn.ExecContext(context.Background(), "BEGIN IMMEDIATE")
	s.must(err)
	return func() {
		s.t.Helper()
		_, err := conn.ExecContext(context.Background(), "ROLLBACK")
		s.must(err)
		s.check(conn.Close())
		s.check(db.Close())
	}
}

// attempts checks how an action's attempts ended, in their order.
func (s *scene) attempts(id string, results ...string) {
	s.t.Helper()
	_, attempts, _, err := s.store.Action(context.Background(), "", id)
	s.must(err)
	var got []string
	for _, a := range attempts {
		got = append(got, a.Result)
	}
	if strings.Join(got, ", ") != strings.Join(results, ", ") {
		s.t.Errorf("attempts ended %q, want %q", got, results)
	}
}
