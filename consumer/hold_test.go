package consumer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// heldAge is how long a hold or a release takes to be noticed, by the consumer's clock.
const heldAge = 50 * time.Millisecond

// eachKind runs test on both databases and on both kinds of queue, on a world
// whose consumer does not run yet.
func eachKind(t *testing.T, test func(*world), change ...func(*world, *relaytest.GatewayConfig)) {
	for _, dialect := range storetest.Dialects {
		for _, sessions := range []bool{false, true} {
			name := dialect + "/plain"
			if sessions {
				name = dialect + "/sessions"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(newWorld(t, storetest.URL(t, dialect), append(change, func(w *world, _ *relaytest.GatewayConfig) {
					w.sessions = sessions
					w.consumer.Hurry(func(d *consumer.Waits) { d.HealthAge = heldAge })
				})...))
			})
		}
	}
}

// Nothing reaches a gateway that is held back, and its actions spend nothing;
// others flow. Once it is released, they flow.
func TestHold(t *testing.T) {
	t.Parallel()
	eachKind(t, func(w *world) {
		w.addGateway("hull", "")
		w.hold()
		w.run()
		held := []action{newCreate(), newCreate(), newCreate()}
		w.enqueue(held...)
		w.noticed(held)
		w.hullFlows()
		for _, a := range held {
			w.waitsUntried(a.id())
		}
		w.nothingSent()
		w.release()
		w.until("all are confirmed", func() bool { return w.allConfirmed(held) })
		for _, a := range held {
			if row := w.hasRow(a.id(), store.Confirmed, "", ""); row.Attempts != 1 || row.RetryCount != 0 {
				w.t.Errorf("%d attempts and %d retries, want 1 and 0", row.Attempts, row.RetryCount)
			}
		}
		w.writtenOnce(len(held))
		w.noDeadLetter()
		for _, line := range []string{"is held back by an operator, its", "is held back no longer"} {
			if n := strings.Count(w.log.String(), line); n != 1 {
				w.t.Errorf("%q was logged %d times, want once", line, n)
			}
		}
	})
}

// A hold counts while actions flow, too.
func TestHoldWhileRunning(t *testing.T) {
	t.Parallel()
	eachKind(t, func(w *world) {
		w.run()
		before := newCreate()
		w.enqueue(before)
		w.until("it is confirmed", func() bool { return w.allConfirmed([]action{before}) })
		w.hold()
		w.ahead.Add(int64(heldAge))
		after := newCreate()
		w.enqueue(after)
		w.noticed([]action{after})
		w.waitsUntried(after.id())
		w.frames(1)
		w.release()
		w.until("it is confirmed", func() bool { return w.allConfirmed([]action{after}) })
	})
}

// A gateway that is held back is not asked whether it is back from an outage:
// somebody may be working on it. Once released it is.
func TestHoldSendsNoEcho(t *testing.T) {
	t.Parallel()
	eachKind(t, func(w *world) {
		w.addGateway("hull", "")
		w.run()
		a := newCreate()
		w.enqueue(a)
		w.until("its breaker is open", func() bool { return w.health().OpenedAt != nil })
		spent := w.row(a.id()).Attempts
		w.hold()
		w.ahead.Add(int64(heldAge))
		w.until("the hold is noticed", func() bool { return strings.Contains(w.log.String(), "is held back by an operator, its") })
		dials := w.relay.Stats(provider).Dials
		w.gateway.SetMode(relaytest.ModeOneShot)
		w.hullFlows()
		w.nothingSent()
		if n := w.relay.Stats(provider).Dials; n > dials+1 { // one may have been under way
			w.t.Errorf("dialled %d times while held back", n-dials)
		}
		w.release()
		w.until("it is confirmed", func() bool { return w.allConfirmed([]action{a}) })
		if row := w.row(a.id()); row.Attempts != spent+1 {
			w.t.Errorf("%d attempts, want one more than %d", row.Attempts, spent)
		}
	}, offline)
}

// What waits in a session that was kept for long is postponed, and the session given
// back: else the next accept would have it again, and so on.
func TestHoldEmptiesASessionInTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"), inSessions)
	w.hold()
	w.run()
	held := []action{newCreate(), newCreate()}
	w.enqueue(held...)
	w.noticed(held)
	w.ahead.Store(int64(10 * time.Minute))
	for _, a := range held {
		w.until("it is postponed", func() bool { return w.row(a.id()).NextTry().After(w.now().Add(time.Minute)) })
		w.waitsUntried(a.id())
	}
	w.until("the empty session is given back", func() bool { return !w.session(provider).Held })
	w.nothingSent()
}

func (w *world) hold() {
	w.t.Helper()
	w.must(w.store.HoldGateway(w.t.Context(), w.relay.Addr()+"/"+provider, store.By{Who: "ada@ops", Why: "new disks"}))
}

// release ends the hold, and lets it be noticed at once.
func (w *world) release() {
	w.t.Helper()
	w.must(w.store.ReleaseGateway(w.t.Context(), w.relay.Addr()+"/"+provider, store.By{Who: "ada@ops"}))
	w.ahead.Add(int64(heldAge))
}

// noticed waits until the consumer holds back what was enqueued.
func (w *world) noticed(actions []action) {
	w.t.Helper()
	if w.sessions {
		w.until("the session is kept", func() bool { return strings.Contains(w.log.String(), "session kept") })
		return
	}
	for _, a := range actions {
		w.until("it is postponed", func() bool { return w.row(a.id()).PostponeCount > 1 })
	}
}

// hullFlows waits until another gateway's actions went through, one after the other.
func (w *world) hullFlows() {
	w.t.Helper()
	for range 10 {
		a := newCreate()
		w.send(a.messageTo("hull"))
		w.until("another gateway's action flows", func() bool { return w.row(a.id()).Status == store.Confirmed })
	}
}

// waitsUntried checks that an action waits and no attempt at it was made, and
// that SQL says why, in words that are not the operator's. One that its session
// keeps may not have been received yet.
func (w *world) waitsUntried(id string) {
	w.t.Helper()
	row := w.row(id)
	if row.ActionID == "" && w.sessions {
		return
	}
	if row = w.hasRow(id, store.Pending, "", relay.Phase("")); row.Attempts != 0 || row.RetryCount != 0 || row.SentAt != nil {
		w.t.Errorf("%d attempts, %d retries, sent at %v: want none", row.Attempts, row.RetryCount, row.SentAt)
	}
	if got, want := text(row.LastError), "the gateway is held back by an operator"; got != want && row.PostponeCount > 0 {
		w.t.Errorf("SQL says %q, want %q", got, want)
	}
}
