package consumer_test

import (
	"bytes"
	"context"
	"database/sql"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
)

// copyRefused is the situation of an action that is to be tried again, and whose copy
// the broker does not take. Until a copy stands for the action, its message does. With
// the first key that the gateway is to be reached with, the try comes to nothing.
func copyRefused(t *testing.T, url, firstKey string) {
	w := newWorld(t, url)
	keys := w.consumer.Secret
	var tried atomic.Bool
	w.consumer.Secret = func(variable string) string {
		if tried.Swap(true) {
			return keys(variable)
		}
		w.broker.RefuseTokens(time.Hour) // links that stand go on: what is received can be completed
		return firstKey
	}
	w.run()
	id := w.enqueue(newCreate())
	w.until("its copy is refused", func() bool { return strings.Contains(w.log.String(), "settled by a later delivery") })
	if q := w.queueState(); q.Active+q.Locked+q.Scheduled+q.DeadLettered != 1 {
		t.Fatalf("the action is lost: %+v\n%s", q, w.log)
	}
	w.broker.RefuseTokens(time.Nanosecond)
	w.broker.ExpireLocks()
	w.noDeadLetter()
	w.hasRow(id, store.Confirmed, "", "")
	w.writtenOnce(1)
}

// expiresWhileDialled: the clinic day ends while the way to the gateway is made.
func expiresWhileDialled(t *testing.T, url string) {
	var w *world
	w, _ = withTokens(t, url, func(_ int32, audience string) string {
		w.ahead.Store(int64(49 * time.Hour))
		return relaytest.SAS(audience, sendKey, time.Now().Add(time.Hour))
	})
	w.run()
	id := w.enqueue(newCreate())
	w.deadLetter(consumer.ReasonExpired)
	w.hasRow(id, store.Failed, consumer.ReasonExpired, "")
	w.nothingSent()
}

// heldWhileDialled: while the way to the gateway is made, another replica sends a
// create with the same accession number. The first try ends this one: nothing is sent,
// and it comes again for no answer that is known.
func heldWhileDialled(t *testing.T, url string) {
	var w *world
	first := newCreate()
	w, _ = withTokens(t, url, func(_ int32, audience string) string {
		other, err := w.store.Claim(context.Background(), store.Delivery{
			ActionID: newCreate().id(), ActionType: "worklist.create_item", Create: true, ProviderID: provider, AccessionNumber: first.accession(),
			BodySHA256: "00", SequenceNumber: 1000, OriginalSequence: 1000, EnqueuedAt: w.now(), Lease: time.Hour,
		})
		w.check(err)
		w.check(w.store.MarkSent(context.Background(), other.Ref(), w.relay.Addr()+"/"+provider, time.Hour))
		return relaytest.SAS(audience, sendKey, time.Now().Add(time.Hour))
	})
	w.run()
	w.enqueue(first)
	w.deadLetter(consumer.ReasonAccessionConflict)
	if row := w.hasRow(first.id(), store.Failed, consumer.ReasonAccessionConflict, ""); row.Attempt != 1 {
		t.Errorf("it ended at its delivery %d, want the first", row.Attempt)
	}
	w.nothingSent()
}

// holdsNothing: a create that certainly left nothing at the gateway keeps nobody from
// its accession number.
func holdsNothing(t *testing.T, url string, said relaytest.Reply, reason consumer.Reason) {
	w := running(t, url)
	w.gateway.Script(said)
	refused := newCreate()
	w.enqueue(refused)
	w.deadLetter(reason)
	if a := w.attempts(refused.id())[0]; a.Sent != store.SentNo || !a.Answered {
		t.Errorf("the attempt is %q, answered %v: want no, and answered", a.Sent, a.Answered)
	}
	id := w.enqueue(newCreate().with("parameters.worklist_item.accession_number", refused.accession()))
	w.drained()
	w.confirmedIn(id, 1)
	w.writtenOnce(1)
}

// evidenceElsewhere: an attempt that was never answered at one gateway explains
// nothing that another gateway says.
func evidenceElsewhere(t *testing.T, url string) {
	w := newWorld(t, url)
	w.gateways.AckTimeout = time.Hour
	w.ahead.Store(int64(-10 * time.Second))
	w.run()
	elsewhere := w.addGateway("elsewhere", relaytest.ModeOneShot)
	elsewhere.Script(relaytest.Reply{Text: `{"status":"exists"}`})
	w.gateway.Script(relaytest.Reply{Apply: true, KeepOpen: true})
	id := w.enqueue(newCreate())
	w.until("the frame is at the first gateway", func() bool { return w.sentFrames() == 1 })
	w.addRelay(provider, nil, w.relay.Addr(), elsewhere.Name(), "LEEDS_KEY")
	w.ahead.Store(0) // for the change to count
	w.relay.DropSenders(provider)
	w.deadLetter(consumer.ReasonAccessionConflict)
	w.hasRow(id, store.Failed, consumer.ReasonAccessionConflict, relay.PhaseAckError)
	if a := w.attempts(id); len(a) != 2 || a[0].Sent != store.SentMaybe || a[0].Answered || a[1].Sent != store.SentNo {
		t.Errorf("attempts %+v, want one that may have arrived and one that was refused", a)
	}
}

// lateErrorOnKeptConnection: what a gateway says too late on a connection that was
// used before is not taken for the answer to the next action.
func lateErrorOnKeptConnection(t *testing.T, url string) {
	w := newWorld(t, url, func(w *world, g *relaytest.GatewayConfig) {
		w.gateways.AckTimeout, g.Mode = 600*time.Millisecond, relaytest.ModePersistent
	})
	w.consumer.Concurrency = 1
	w.run()
	first, late, next := newCreate(), newCreate(), newCreate()
	w.enqueue(first)
	w.noDeadLetter()
	answer := make(chan struct{})
	w.gateway.Script(relaytest.Reply{Text: `{"status":"error","message":"No patient name"}`, Until: answer})
	w.enqueue(late, next)
	w.until("its ack is waited for no more", func() bool { return w.row(late.id()).RetryCount > 0 })
	w.until("another connection is asked for", func() bool { return w.relay.Stats(provider).Dials == 2 })
	close(answer)
	w.noDeadLetter()
	for _, a := range []action{first, late, next} {
		w.hasRow(a.id(), store.Confirmed, "", "")
	}
	w.writtenOnce(3)
}

// recordRefused is the situation of an outcome that the database does not take, and
// not for want of being there. The message is settled by what SQL says, so it waits.
func recordRefused(t *testing.T, url string, first relaytest.Reply) {
	w := running(t, url, shortLease)
	mend := w.refuse("NEW.status IN ('confirmed', 'failed')")
	w.gateway.Script(first)
	id := w.enqueue(newCreate())
	inQueue := func() int { q := w.queueState(); return q.Active + q.Locked + q.Scheduled }
	w.until("the attempt is given up", func() bool { return inQueue() == 0 || w.row(id).Attempts > 0 })
	if row := w.row(id); inQueue() != 1 || row.Status == store.Confirmed || row.Status == store.Failed {
		t.Fatalf("%d messages stand for the action, want 1; its row says %s\n%s", inQueue(), row.Status, w.log)
	}
	mend()
	w.broker.ExpireLocks()
	w.noDeadLetter()
	w.hasRow(id, store.Confirmed, "", "")
	w.writtenOnce(1)
}

// refuse makes the database refuse all changes of actions that are like this, until
// mend is called.
func (w *world) refuse(when string) (mend func()) {
	w.t.Helper()
	driver, address := "postgres", w.url
	refuse := []string{`CREATE FUNCTION refused() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$`,
		"CREATE TRIGGER refused BEFORE UPDATE ON actions FOR EACH ROW WHEN (" + when + ") EXECUTE FUNCTION refused()"}
	allow := "DROP FUNCTION refused CASCADE"
	if file, is := strings.CutPrefix(w.url, "sqlite:"); is {
		driver, address = "sqlite", file+"?_pragma=busy_timeout(60000)"
		refuse = []string{"CREATE TRIGGER refused BEFORE UPDATE ON actions WHEN " + when + " BEGIN SELECT RAISE(ABORT, 'refused'); END"}
		allow = "DROP TRIGGER refused"
	}
	db, err := sql.Open(driver, address)
	w.must(err)
	w.t.Cleanup(func() { w.check(db.Close()) })
	for _, statement := range refuse {
		_, err := db.Exec(statement)
		w.must(err)
	}
	return func() {
		_, err := db.Exec(allow)
		w.must(err)
	}
}

// lockHeldWhileStopping: the service is to stop, and what it has sent is still owed an
// ack. Until then nobody else is given the message.
func lockHeldWhileStopping(t *testing.T, url string) {
	w := newWorld(t, url, func(w *world, g *relaytest.GatewayConfig) {
		w.lock, w.gateways.AckTimeout, g.Mode = 4*time.Second, time.Hour, relaytest.ModeSilent
	})
	w.consumer.Retry.Delays = []time.Duration{time.Hour}
	stop := w.run()
	id := w.enqueue(newCreate())
	w.until("the frame is at the gateway", func() bool { return w.sentFrames() == 1 })
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	locked := w.broker.Messages(queue)[0].LockedUntil
	w.until("the lock is renewed, or lost", func() bool {
		m := w.broker.Messages(queue)[0]
		return m.State != "locked" || m.LockedUntil.After(locked)
	})
	select {
	case <-stopped:
		t.Error("it has stopped, and the ack is still to come")
	default:
	}
	if w.relay.Stats(provider).Open != 1 {
		t.Error("the gateway was left before its ack")
	}
	w.relay.DropSenders(provider)
	<-stopped
	if q := w.queueState(); q.Scheduled != 1 || q.Active+q.Locked+q.DeadLettered != 0 {
		t.Errorf("queue %+v, want one message that waits for its retry\n%s", q, w.log)
	}
	w.hasRow(id, store.Sent, "", relay.PhaseAckLost)
}

// waitsAfterDrop is a world in which the ack to an action was lost, and its retry is an
// hour off.
func waitsAfterDrop(t *testing.T, url string, a action) *world {
	w := newWorld(t, url)
	w.consumer.Retry.Delays = []time.Duration{time.Hour}
	w.run()
	w.gateway.Script(relaytest.Reply{Drop: true})
	w.enqueue(a)
	w.waiting(1)
	w.hasRow(a.id(), store.Sent, "", relay.PhaseAckLost)
	return w
}

// lockLostWhileDialled: the lock is lost while the way to the gateway is made. This
// delivery sends nothing any more, and the other one does.
func lockLostWhileDialled(t *testing.T, url string) {
	asked, dial := make(chan struct{}), make(chan struct{})
	w, _ := withTokens(t, url, func(call int32, audience string) string {
		if call == 1 {
			close(asked)
			<-dial
		}
		return relaytest.SAS(audience, sendKey, time.Now().Add(time.Hour))
	}, func(w *world, _ *relaytest.GatewayConfig) { w.lock = 4 * time.Second }) // the loss shows at the renewal, when the claim still lives
	w.run()
	id := w.enqueue(newCreate())
	suite.Receive(t, "the gateway is dialled", asked)
	w.broker.ExpireLocks()
	w.until("the loss is noticed", func() bool { return strings.Contains(w.log.String(), "lock not renewed") })
	close(dial)
	w.until("it gives up, or sends", func() bool { return strings.Contains(w.log.String(), "left to its lock") || w.sentFrames() > 0 })
	w.nothingSent()
	w.broker.Advance(5 * time.Minute) // the other one waits for the claim's end
	w.noDeadLetter()
	w.confirmedIn(id, 1)
	w.writtenOnce(1)
}

// graceOver: the service could not wait for an ack. Nobody else is given the message
// before its lock ends, for the gateway may be at work.
func graceOver(t *testing.T, url string) {
	w := newWorld(t, url, func(w *world, g *relaytest.GatewayConfig) {
		w.lock, w.gateways.AckTimeout, g.Mode = 5*time.Minute, time.Hour, relaytest.ModeSilent
	})
	stop := w.run()
	id := w.enqueue(newCreate())
	w.until("the frame is at the gateway", func() bool { return w.sentFrames() == 1 })
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	w.until("nothing is received any more", func() bool { return w.consumer.Ready() != nil })
	w.check(w.gateways.Close())
	<-stopped
	if m := w.broker.Messages(queue)[0]; m.State != "locked" {
		t.Errorf("its message is %s, want locked\n%s", m.State, w.log)
	}
	w.hasRow(id, store.Sent, "", "")
}

// updateBehindSentCreate: an update waits for its create also where that may have
// arrived.
func updateBehindSentCreate(t *testing.T, url string) {
	create := newCreate()
	w := waitsAfterDrop(t, url, create)
	id := w.enqueue(newUpdate(create, "IN PROGRESS"))
	w.waiting(2)
	if row := w.row(id); row.Status != store.Pending || row.Attempts != 0 {
		t.Errorf("row is %q with %d attempts, want pending with none", row.Status, row.Attempts)
	}
	w.frames(1)
}

// createsGoFirst: of what is received together, no update is sent before its create.
// A pair is all that there is, since what one receive call leaves the SDK hands back,
// and it comes again in another order.
func createsGoFirst(t *testing.T, url string) {
	w := running(t, url, func(w *world, g *relaytest.GatewayConfig) {
		g.Mode = relaytest.ModePersistent
		w.ahead.Store(int64(-5 * time.Second)) // so long a postponed update would wait
	})
	var all []action
	for range 20 {
		create := newCreate()
		pair := []action{create, newUpdate(create, "IN PROGRESS")}
		w.enqueue(pair...)
		w.drained()
		all = append(all, pair...)
	}
	w.noDeadLetter()
	at := func(a action) int {
		return slices.IndexFunc(w.gateway.Frames(), func(frame []byte) bool { return bytes.Contains(frame, []byte(a.id())) })
	}
	for i := 0; i < len(all); i += 2 {
		if create, update := at(all[i]), at(all[i+1]); create < 0 || update < create {
			t.Errorf("pair %d: the create was frame %d, its update %d", i/2, create, update)
		}
	}
}

// resendWhileItWaits: a second message of an action that waits for its retry makes no
// try of its own.
func resendWhileItWaits(t *testing.T, url string) {
	a := newCreate()
	w := waitsAfterDrop(t, url, a)
	before := w.row(a.id())
	w.enqueue(a)
	w.waiting(2)
	w.sameRow(before)
	w.frames(1)
}

// brokenCopyStaysEvidence: what broke with a connection that was kept may have arrived,
// whatever was said of the copy that followed at once.
func brokenCopyStaysEvidence(t *testing.T, url string) {
	w := running(t, url, func(_ *world, g *relaytest.GatewayConfig) { g.Mode = relaytest.ModePersistent })
	w.enqueue(newCreate())
	w.noDeadLetter()
	w.gateway.Script(relaytest.Reply{Apply: true, Drop: true}, relaytest.Reply{Text: `{"status":"error","message":"database is locked"}`})
	id := w.enqueue(newCreate())
	w.noDeadLetter()
	if row := w.confirmedIn(id, 2); !row.Duplicate {
		t.Error("the row does not note the duplicate")
	}
	w.writtenOnce(2)
}
