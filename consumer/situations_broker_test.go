package consumer_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
)

// brokerSituations are about locks, settlements and the broker's own troubles.
var brokerSituations = []situation{
	{"64_lock_lost_while_waiting_for_the_ack", func(t *testing.T, url string) {
		both(t, url, func(w *world) {
			acked, goOn := w.stopAfter("exchange")
			id := w.enqueue(newCreate())
			acked()
			w.broker.ExpireLocks()
			w.until("the other delivery is postponed", func() bool { return w.queueState().Scheduled == 1 })
			goOn()
			w.until("the ack is recorded all the same", func() bool { return w.row(id).Status == store.Confirmed })
			w.noDeadLetter()
			w.confirmedIn(id, 1)
			w.writtenOnce(1)
		}, shortLease)
	}},
	{"64_no_failure_is_written_from_the_lost_side", func(t *testing.T, url string) {
		w := newWorld(t, url, shortLease, func(w *world, _ *relaytest.GatewayConfig) {
			w.lock = 4 * time.Second // the loss shows at the renewal
		})
		w.consumer.Retry.Delays = []time.Duration{time.Hour}
		w.run()
		w.gateway.Script(relaytest.Reply{Apply: true, KeepOpen: true})
		id := w.enqueue(newCreate())
		w.until("the frame is at the gateway", func() bool { return w.sentFrames() == 1 })
		w.broker.ExpireLocks()
		w.until("the loss is noticed", func() bool { return strings.Contains(w.log.String(), "lock not renewed") })
		w.relay.DropSenders(provider)
		w.until("the attempt is given up", func() bool { return len(w.attempts(id)) > 0 })
		if a := w.attempts(id)[0]; a.Result != "abandoned" || a.Answered || a.Sent != store.SentMaybe {
			t.Errorf("attempt %+v, want one abandoned that may have arrived", a)
		}
		w.until("the other delivery ends it", func() bool { return w.row(id).Status == store.Confirmed })
		if row := w.row(id); !row.Duplicate || row.RetryCount != 0 {
			t.Errorf("duplicate %v, %d retries, want true and none", row.Duplicate, row.RetryCount)
		}
		w.writtenOnce(1)
	}},
	{"64_what_stands_in_for_the_message_makes_its_settlement", func(t *testing.T, url string) {
		w := running(t, url, shortLease, func(w *world, _ *relaytest.GatewayConfig) { w.lock = 4 * time.Second })
		w.gateway.Script(relaytest.Reply{Text: `{"status":"error","message":"database is locked"}`})
		acked, goOn := w.stopAfter("exchange")
		id := w.enqueue(newCreate())
		acked()
		w.broker.ExpireLocks()
		w.until("the other delivery is postponed", func() bool { return w.queueState().Scheduled == 1 })
		w.until("the loss is noticed", func() bool { return strings.Contains(w.log.String(), "lock not renewed") })
		goOn()
		w.until("the lost side records what was answered, and sends no copy", func() bool { return w.row(id).RetryCount == 1 })
		w.noDeadLetter()
		w.confirmedIn(id, 2)
		w.writtenOnce(1)
	}},
	{"65_settling_fails_after_the_record", func(t *testing.T, url string) {
		both(t, url, func(w *world) {
			acked, goOn := w.stopAfter("exchange")
			id := w.enqueue(newCreate())
			acked()
			w.broker.DropConnections()
			goOn()
			w.until("it is confirmed", func() bool { return w.row(id).Status == store.Confirmed })
			expired := 0 // once for each settlement that failed, so that deliveries are not used up
			w.until("it is settled by a later delivery", func() bool {
				if failed := strings.Count(w.log.String(), "settled by a later delivery"); failed > expired {
					expired = failed
					w.broker.ExpireLocks()
				}
				q := w.queueState()
				return q.Active+q.Locked+q.Scheduled == 0
			})
			w.noDeadLetter()
			w.confirmedIn(id, 1)
			w.frames(1)
			if strings.Contains(w.log.String(), `"level":"ERROR"`) {
				t.Errorf("logged as an error\n%s", w.log)
			}
		}, shortLease, settlingSoonFails)
	}},
	{"66_settling_hangs", func(t *testing.T, url string) {
		w := newWorld(t, url, settlingSoonFails)
		w.consumer.Concurrency = 1
		w.run()
		acked, goOn := w.stopAfter("exchange")
		first, second := newCreate(), newCreate()
		w.enqueue(first, second)
		acked()
		w.broker.Delay(3*time.Second, time.Hour) // longer than settling may take
		goOn()
		w.until("settling is given up", func() bool { return strings.Contains(w.log.String(), "settled by a later delivery") })
		w.broker.Delay(over, over)
		w.until("the slot is free again", func() bool { return w.row(second.id()).Status == store.Confirmed })
		w.noDeadLetter()
		w.confirmedIn(first.id(), 1)
		w.writtenOnce(2)
	}},
	{"67_broker_drops_connections", disturbed(func(b *servicebustest.Server) { b.DropConnections() })},
	{"67_broker_detaches_links", disturbed(func(b *servicebustest.Server) { b.DetachLinks() })},
	{"67_broker_is_away", disturbed(func(b *servicebustest.Server) { b.Away(2 * time.Second) })},
	{"67_broker_throttles", disturbed(func(b *servicebustest.Server) { b.Throttle(time.Second) })},
	{"68_broker_says_nothing", func(t *testing.T, url string) {
		both(t, url, func(w *world) {
			w.until("it is ready", func() bool { return w.consumer.Ready() == nil })
			// An accept that is broken off before it waits may end the connection by itself.
			w.until("all accepts wait", func() bool { return !w.consumer.Sessions || w.broker.Accepts(queue) == 4 })
			w.broker.Delay(time.Hour, time.Hour) // what it says in this time is never heard
			w.until("the watchdog has the client made anew", func() bool { return strings.Contains(w.log.String(), "no answer of any kind") })
			w.broker.Delay(over, over)
			w.until("the broker is heard again", func() bool { return w.consumer.Ready() == nil })
			w.connectAnew()
			id := w.enqueue(newCreate())
			w.until("the action is confirmed", func() bool { return w.row(id).Status == store.Confirmed })
		}, settlingSoonFails, func(w *world, _ *relaytest.GatewayConfig) {
			w.consumer.Watchdog = 2 * time.Second
			w.consumer.Hurry(func(d *consumer.Waits) { d.ListenLimit = 2 * time.Second })
		})
	}},
	{"69_token_refused", func(t *testing.T, url string) {
		both(t, url, func(w *world) {
			w.until("it is ready", func() bool { return w.consumer.Ready() == nil })
			w.broker.RefuseTokens(time.Hour)
			w.broker.DropConnections()
			w.until("it is not ready", func() bool { return w.consumer.Ready() != nil })
			w.broker.RefuseTokens(over)
			w.until("it is ready again", func() bool { return w.consumer.Ready() == nil })
			w.noTightLoop()
			id := w.enqueue(newCreate())
			w.noDeadLetter()
			w.confirmedIn(id, 1)
		})
	}},
	{"69_queue_disabled", func(t *testing.T, url string) {
		both(t, url, func(w *world) {
			w.until("it is ready", func() bool { return w.consumer.Ready() == nil })
			w.broker.Disable(queue, true)
			w.until("it is not ready", func() bool { return w.consumer.Ready() != nil })
			w.broker.Disable(queue, false)
			w.until("it is ready again", func() bool { return w.consumer.Ready() == nil })
			w.noTightLoop()
			id := w.enqueue(newCreate())
			w.noDeadLetter()
			w.confirmedIn(id, 1)
		})
	}},
	{"64_lock_lost_while_the_gateway_is_dialled", lockLostWhileDialled},
	{"73_the_lock_is_renewed_while_the_service_stops", lockHeldWhileStopping},
	{"74_the_service_cannot_wait_for_an_ack", graceOver},
	{"63_the_copy_of_a_retry_is_refused", func(t *testing.T, url string) { copyRefused(t, url, listenKey.Key) }},
	{"63_the_copy_of_a_postponement_is_refused", func(t *testing.T, url string) { copyRefused(t, url, "") }},
}

// both runs a situation on a plain queue and on a session queue; change may
// alter the world before it starts.
func both(t *testing.T, url string, test func(*world), change ...func(*world, *relaytest.GatewayConfig)) {
	t.Helper()
	test(running(t, url, change...))
	if t.Failed() {
		t.Log("on the plain queue")
		return
	}
	test(running(t, url, append(change, inSessions)...))
}

// disturbed is the situation of a fault of the broker while actions flow.
func disturbed(fault func(*servicebustest.Server)) func(*testing.T, string) {
	return func(t *testing.T, url string) {
		both(t, url, func(w *world) {
			var all []action
			for range 30 {
				all = append(all, newCreate())
			}
			w.gateway.Script(repeat(len(all), relaytest.Reply{Honest: true, Apply: true, After: 10 * time.Millisecond})...)
			w.enqueue(all...)
			w.until("some are sent", func() bool { return w.sentFrames() > 5 })
			fault(w.broker)
			w.until("all are confirmed", func() bool {
				// Locks that the fault left behind run out.
				if q := w.queueState(); q.Active == 0 && q.Locked > 0 && w.sentFrames() >= len(all) {
					w.broker.ExpireLocks()
				}
				return w.allConfirmed(all)
			})
			w.noTightLoop()
			for _, a := range all {
				w.hasRow(a.id(), store.Confirmed, "", "")
			}
			w.writtenOnce(len(all))
		}, shortLease, settlingSoonFails, func(w *world, _ *relaytest.GatewayConfig) { w.lock, w.most = 3*time.Second, 1000 })
	}
}

// over ends a fault of the broker that was to last for longer.
const over = time.Nanosecond

// shortLease lets a message that meets a living claim come again soon.
func shortLease(w *world, _ *relaytest.GatewayConfig) {
	w.gateways.AckTimeout, w.consumer.ClaimLease = 3*time.Second, 500*time.Millisecond
}

// settlingSoonFails where the broker does not answer. What it wrongly gives up is
// settled by a later delivery.
func settlingSoonFails(w *world, _ *relaytest.GatewayConfig) {
	w.consumer.Hurry(func(d *consumer.Waits) { d.SettleDeadline = 500 * time.Millisecond })
}

// noTightLoop checks that trouble did not make the consumer connect in a hurry.
func (w *world) noTightLoop() {
	w.t.Helper()
	if n := w.connects.Load(); n > 20 {
		w.t.Errorf("%d clients were opened", n)
	}
	if n := strings.Count(w.log.String(), "trying again"); n > 20 {
		w.t.Errorf("the queue was tried %d times", n)
	}
}

// connectAnew replaces the test's own client, after a fault that it did not
// survive either.
func (w *world) connectAnew() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = w.client.Close(ctx)
	client, err := w.connect()
	w.must(err)
	w.client, w.sender = client, nil // which is closed with the world
}

func (w *world) allConfirmed(all []action) bool {
	w.t.Helper()
	return !slices.ContainsFunc(all, func(a action) bool {
		id := a.id()
		w.confirmed[id] = w.confirmed[id] || w.row(id).Status == store.Confirmed // which is never left
		return !w.confirmed[id]
	})
}
