package consumer_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// Accepting a session takes many round trips, so several accepts wait at once,
// each with a slot. A session that was kept is given the slot of one of them.
func TestSeveralAcceptsWait(t *testing.T) {
	t.Parallel()
	for slots, accepts := range map[int]int{1: 1, 2: 2, 16: 4} {
		w := newWorld(t, storetest.URL(t, "sqlite"), inSessions, offline)
		w.consumer.Concurrency = slots
		w.run()
		id := w.enqueue(newCreate())
		w.kept(1)
		w.until("as many accepts wait as may", func() bool { return w.broker.Accepts(queue) == accepts })
		w.gateway.SetMode(relaytest.ModeOneShot)
		w.until("it has a slot again", func() bool { return w.row(id).Status == store.Confirmed })
	}
}

// A session whose gateway's connection is cached is kept while there is a slot
// to accept another one with, although not every accept has one.
func TestAnEmptySessionIsKeptWhileOthersCanBeAccepted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"), inSessions, func(w *world, g *relaytest.GatewayConfig) {
		g.Mode, w.lock, w.gateways.IdleTimeout, w.consumer.Concurrency = relaytest.ModePersistent, 2*time.Second, time.Hour, 2
	})
	w.run()
	id := w.enqueue(newCreate())
	w.until("it is confirmed", func() bool { return w.row(id).Status == store.Confirmed })
	w.until("one accept waits with the other slot", func() bool { return w.broker.Accepts(queue) == 1 })
	before := w.session(provider).LockedUntil
	w.until("its lock is renewed", func() bool { return w.session(provider).LockedUntil.After(before) })
}

// A gateway that comes back is served at once, although every slot is held by a
// session that is kept for another: more are kept than may be without one.
func TestAKeptSessionGivesItsSlotToOneWhoseGatewayIsBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"), inSessions, offline)
	w.consumer.Concurrency = 1
	w.run()
	id := w.enqueue(newCreate())
	w.kept(1)
	w.keepOthers(4)
	w.gateway.SetMode(relaytest.ModeOneShot)
	w.until("its action is confirmed", func() bool { return w.row(id).Status == store.Confirmed })
}

// No accept is ended for a session that was kept: that would end the connection,
// with every session that is held on it, where the accept had yet to make its claims.
func TestNoAcceptIsEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"), inSessions, offline, func(w *world, _ *relaytest.GatewayConfig) {
		w.gateways.IdleTimeout = time.Millisecond // as long as an empty session is held
		w.consumer.Breaker.Probes = []time.Duration{50 * time.Millisecond}
	})
	w.consumer.Concurrency = 4
	for i := range 4 {
		w.addGateway(fmt.Sprintf("well-%d", i), relaytest.ModeOneShot)
	}
	w.run()
	id := w.enqueue(newCreate())
	w.kept(1)
	w.until("all accepts wait", func() bool { return w.broker.Accepts(queue) == 4 })
	w.send(newCreate().messageTo("well-0"), newCreate().messageTo("well-1"), newCreate().messageTo("well-2"), newCreate().messageTo("well-3"))
	w.broker.Delay(10*time.Millisecond, time.Minute) // the accepts that follow take a while until they wait
	w.until("they are given back", func() bool {
		held := 0
		for _, s := range w.broker.Sessions(queue) {
			if s.Held {
				held++
			}
		}
		return held == 1
	})
	w.gateway.SetMode(relaytest.ModeOneShot)
	w.until("its action is confirmed", func() bool { return w.row(id).Status == store.Confirmed })
	w.until("all accepts wait", func() bool { return w.broker.Accepts(queue) >= 3 })
	if strings.Contains(w.log.String(), "trying again") || strings.Contains(w.log.String(), "session lost") {
		t.Errorf("the connection was lost\n%s", w.log)
	}
}

// A session that is accepted with a slot that was lent is given back untouched, and
// worked on once there is a slot.
func TestASessionWithoutASlotIsGivenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"), inSessions, offline)
	w.consumer.Concurrency = 1
	w.addGateway("other", relaytest.ModeOneShot)
	w.run()
	kept := newCreate()
	w.enqueue(kept)
	w.kept(1)
	w.until("an accept waits", func() bool { return w.broker.Accepts(queue) == 1 })
	probe := relaytest.Reply{Honest: true}
	w.gateway.Script(probe, probe)
	sent, goOn := w.stopAfter("exchange")
	w.gateway.SetMode(relaytest.ModeOneShot)
	sent() // with the accept's slot
	other := newCreate()
	w.send(other.messageTo("other"))
	w.until("the other is accepted and given back", func() bool { return w.broker.Accepts(queue) == 0 && !w.session("other").Held })
	if status := w.row(kept.id()).Status; status == store.Confirmed {
		t.Error("the slot was free by then")
	}
	goOn()
	w.until("the other is confirmed", func() bool { return w.row(other.id()).Status == store.Confirmed })
	w.confirmedIn(other.id(), 1)
}

// A session that is kept with a slot, since too many were kept without, gives it up
// once there is room among those: else others would wait until its gateway is back.
func TestAKeptSessionGivesItsSlotUpOnceItMay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"), inSessions, offline, func(w *world, _ *relaytest.GatewayConfig) { w.lock, w.most = 4*time.Second, 1 })
	w.consumer.Concurrency = 1
	w.addGateway("well", relaytest.ModeOneShot)
	w.run()
	odd := newCreate().message()
	odd.ApplicationProperties["DeadLetterReason"] = int64(7) // the SDK panics on it
	w.send(odd)
	w.until("its session is left to its lock, without a slot", func() bool { return w.told.series()[`worklist_unreadable_messages_total`] > 0 })
	w.keepOthers(4)
	well := newCreate()
	w.send(well.messageTo("well"))
	w.until("it is confirmed", func() bool { return w.row(well.id()).Status == store.Confirmed })
}

// A session that is left to its lock, with a slot since too many are kept without,
// gives that to one whose gateway is back.
func TestASessionLeftToItsLockGivesItsSlot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"), inSessions, offline, func(w *world, _ *relaytest.GatewayConfig) { w.lock = time.Minute })
	w.consumer.Concurrency = 1
	w.run()
	id := w.enqueue(newCreate())
	w.kept(1)
	w.keepOthers(3)
	odd := newCreate().messageTo("odd")
	odd.ApplicationProperties["DeadLetterReason"] = int64(7) // the SDK panics on it
	w.send(odd)
	w.until("its session is left to its lock", func() bool { return w.told.series()[`worklist_unreadable_messages_total`] > 0 })
	w.gateway.SetMode(relaytest.ModeOneShot)
	w.until("its action is confirmed", func() bool { return w.row(id).Status == store.Confirmed })
}

// kept waits until sessions have been kept n times.
func (w *world) kept(n int) {
	w.t.Helper()
	w.until(fmt.Sprint(n, " sessions are kept"), func() bool { return strings.Count(w.log.String(), "session kept") >= n })
}

// keepOthers has the sessions of n more gateways kept, which are away.
func (w *world) keepOthers(n int) {
	w.t.Helper()
	before := strings.Count(w.log.String(), "session kept")
	for i := range n {
		name := fmt.Sprintf("away-%d", i)
		w.addGateway(name, relaytest.ModeOffline)
		w.send(newCreate().messageTo(name))
		w.kept(before + i + 1)
	}
}
