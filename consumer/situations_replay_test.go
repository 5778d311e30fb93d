package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
)

// replaySituations are what people do about what failed.
var replaySituations = []situation{
	{"81_replay", func(t *testing.T, url string) {
		both(t, url, func(w *world) {
			w.gateway.SetMode(relaytest.ModeReject)
			a := newCreate()
			w.enqueue(a)
			w.deadLetter(consumer.ReasonGatewayRejected)
			letter := w.letters(consumer.DeadLetterFilter{})[0]

			w.gateway.SetMode(relaytest.ModeOneShot)
			report := w.replay(consumer.Replay{})
			if report.Sent != 1 || report.Confirmed != 1 || report.Routes[0].State != consumer.RouteCleared {
				t.Errorf("report %+v", report)
			}
			w.noDeadLetter()
			row := w.confirmedIn(a.id(), 2)
			if row.RetryCount != 0 || *row.ReplayedSequence != letter.SequenceNumber {
				t.Errorf("row %+v", row)
			}
			w.audited(a.id(), fmt.Sprintf("ada replay ticket 42 dead letter %d, GatewayRejected", letter.SequenceNumber))
			w.writtenOnce(1)
		})
	}},
	{"81_replay_of_what_may_have_arrived", func(t *testing.T, url string) {
		both(t, url, func(w *world) {
			w.gateway.Script(relaytest.Reply{Apply: true, Drop: true}) // it has the item, and its ack is lost
			a := newCreate()
			w.enqueue(a)
			w.deadLetter(consumer.ReasonRetriesExhausted)
			if report := w.replay(consumer.Replay{}); report.Confirmed != 1 {
				t.Errorf("report %+v", report)
			}
			w.noDeadLetter()
			if row := w.confirmedIn(a.id(), 2); !row.Duplicate {
				t.Error("the evidence of the earlier attempt was not used")
			}
			w.writtenOnce(1)
		}, func(w *world, _ *relaytest.GatewayConfig) {
			w.consumer.Retry.MostArrived = 1
		})
	}},
	{"82_replay_of_what_is_confirmed", func(t *testing.T, url string) {
		w := newWorld(t, url)
		stop := w.run()
		a := newCreate()
		w.enqueue(a)
		w.noDeadLetter()
		stop()
		w.send(a.message())
		w.bury(because("MaxDeliveryCountExceeded", ""))
		before := w.row(a.id())

		report := w.replay(consumer.Replay{})
		if report.Refused != 1 || !strings.Contains(report.Refusals[0].Why, "confirmed") {
			t.Errorf("report %+v", report)
		}
		w.sameRow(before)
		w.run()
		if report = w.replay(consumer.Replay{Force: true}); report.Sent != 1 || report.Confirmed != 0 {
			t.Errorf("forced: %+v", report)
		}
		w.noDeadLetter()
		w.sameRow(before)
		w.audited(a.id(), fmt.Sprintf("ada replay ticket 42 dead letter %d, confirmed already", 2))
		w.frames(1)
	}},
	{"83_replay_killed_half_way", killedHalfWay},
	{"84_replay_to_a_gateway_that_is_down", func(t *testing.T, url string) {
		both(t, url, func(w *world) {
			w.gateway.SetMode(relaytest.ModeReject)
			all := w.fail(20)
			w.gateway.SetMode(relaytest.ModeOffline)
			report := w.replay(consumer.Replay{CanaryWait: 5 * time.Second})
			if report.Sent != 1 || report.Confirmed != 0 || report.NotSent != 19 || report.NotReached != 0 {
				t.Errorf("report %+v", report)
			}
			route := report.Routes[0]
			if route.State != consumer.RouteStopped || !strings.Contains(route.Why, all[0].id()) || !strings.Contains(route.Why, "no_listener") {
				t.Errorf("route %+v", route)
			}
			if n := w.queueState().DeadLettered; n != 19 {
				t.Errorf("%d dead letters are left, want 19", n)
			}
			w.gateway.SetMode(relaytest.ModeOneShot)
			if report = w.replay(consumer.Replay{}); report.Sent != 19 || report.Confirmed != 1 || report.Refused != 0 {
				t.Errorf("after it is back: %+v", report)
			}
			w.until("all are confirmed", func() bool { return w.allConfirmed(all) })
			w.noDeadLetter()
			w.writtenOnce(20)
		}, func(w *world, _ *relaytest.GatewayConfig) {
			w.consumer.Retry.Delays = []time.Duration{6 * time.Second} // later than it is waited for
		})
	}},
	{"85_discard", func(t *testing.T, url string) {
		both(t, url, func(w *world) {
			w.gateway.SetMode(relaytest.ModeReject)
			a := w.fail(1)[0]
			before := w.row(a.id())
			if _, err := w.dead().Discard(context.Background(), consumer.Discard{By: store.By{Who: "ada"}}); err == nil {
				t.Error("discarded without a reason")
			}
			if report := w.discard(consumer.DeadLetterFilter{}); report.Discarded != 1 || report.Skipped+report.NotReached != 0 {
				t.Errorf("report %+v", report)
			}
			w.noDeadLetter()
			w.sameRow(before)
			w.audited(a.id(), "ada discard ticket 42 dead letter 1, GatewayRejected")
		})
	}},
	{"86_unreadable_dead_letters", func(t *testing.T, url string) {
		w := newWorld(t, url)
		var good []string
		for _, kind := range "rurrurr" {
			a := newCreate()
			w.send(a.message())
			if kind == 'u' {
				w.bury(odd)
				continue
			}
			good = append(good, a.id())
			w.bury(because("MaxDeliveryCountExceeded", ""))
		}
		var told []int64
		for _, l := range w.letters(consumer.DeadLetterFilter{}) {
			if l.Unreadable {
				told = append(told, l.SequenceNumber)
			}
		}
		if diff := cmp.Diff([]int64{2, 5}, told); diff != "" {
			t.Error(diff)
		}
		w.run()
		report := w.replay(consumer.Replay{})
		if report.Sent != 5 || report.Refused != 2 || report.NotReached != 0 || !strings.Contains(report.Refusals[0].Why, "portal") {
			t.Errorf("report %+v", report)
		}
		w.drained()
		for _, id := range good {
			w.hasRow(id, store.Confirmed, "", "")
		}
		if n := w.queueState().DeadLettered; n != 2 {
			t.Errorf("%d dead letters are left, want 2", n)
		}
	}},
	{"92_replay_with_mended_content", func(t *testing.T, url string) {
		both(t, url, func(w *world) {
			w.gateway.SetMode(relaytest.ModeReject)
			a := w.fail(1)[0]
			before := w.row(a.id())
			w.gateway.SetMode(relaytest.ModeOneShot)
			mended := a.with("parameters.worklist_item.procedure.modality", "CT")
			with := map[string]consumer.Mended{a.id(): {Body: mended.body()}}
			if report := w.replay(consumer.Replay{With: with}); report.Confirmed != 1 {
				t.Errorf("report %+v", report)
			}
			w.noDeadLetter()
			row := w.confirmedIn(a.id(), 2)
			w.audited(a.id(), fmt.Sprintf("ada replay ticket 42 dead letter 1, GatewayRejected; content %s replaced by %s", *before.BodySHA256, *row.BodySHA256))
			if frames := w.gateway.Frames(); !strings.Contains(string(frames[len(frames)-1]), `"CT"`) {
				t.Error("the gateway got the old content")
			}
		})
	}},
	{"92_mended_content_of_what_may_have_arrived", func(t *testing.T, url string) {
		w := running(t, url, func(w *world, _ *relaytest.GatewayConfig) {
			w.consumer.Retry.MostArrived, w.gateways.AckTimeout = 1, 500*time.Millisecond
		})
		w.gateway.SetMode(relaytest.ModeSilent)
		a := newCreate()
		w.enqueue(a)
		w.deadLetter(consumer.ReasonRetriesExhausted)
		before := w.row(a.id())
		with := map[string]consumer.Mended{a.id(): {Body: a.with("parameters.worklist_item.procedure.modality", "CT").body()}}
		report := w.replay(consumer.Replay{With: with})
		if report.Refused != 1 || !strings.Contains(report.Refusals[0].Why, "new action") {
			t.Errorf("report %+v", report)
		}
		w.sameRow(before)
		if n := w.queueState().DeadLettered; n != 1 {
			t.Errorf("%d dead letters, want 1", n)
		}
	}},
	{"93_a_person_resolves", func(t *testing.T, url string) {
		both(t, url, func(w *world) {
			w.gateway.Script(relaytest.Reply{Text: `{"status":"exists"}`})
			a := newCreate()
			w.enqueue(a)
			w.deadLetter(consumer.ReasonAccessionConflict)
			letter := w.letters(consumer.DeadLetterFilter{ActionID: a.id()})[0]
			w.must(w.store.Resolve(context.Background(), provider, a.id(), store.Confirmed, by))
			removed, err := w.dead().Remove(context.Background(), []int64{letter.SequenceNumber, 4711})
			if err != nil || removed != 1 {
				t.Errorf("removed %d, %v", removed, err)
			}
			w.noDeadLetter()
			w.hasRow(a.id(), store.Confirmed, "", "")
			w.audited(a.id(), "ada resolve ticket 42 failed to confirmed")
		})
	}},
	{"94_a_person_withdraws", func(t *testing.T, url string) {
		both(t, url, func(w *world) {
			w.gateway.SetMode(relaytest.ModeOffline)
			id := w.enqueue(newCreate())
			w.until("it waits for a retry", func() bool { return w.row(id).RetryCount > 0 })
			w.between(func() error { return w.store.Withdraw(context.Background(), provider, id, by) })
			w.gateway.SetMode(relaytest.ModeOneShot)
			w.noDeadLetter()
			w.hasRow(id, store.Failed, store.Withdrawn, relay.PhaseNoListener)
			w.audited(id, "ada withdraw ticket 42 ")
			w.frames(0)
		}, func(w *world, _ *relaytest.GatewayConfig) {
			w.consumer.Retry.Delays = []time.Duration{300 * time.Millisecond}
		})
	}},
	{"94_what_may_have_arrived_is_not_withdrawn", func(t *testing.T, url string) {
		w := running(t, url, func(w *world, _ *relaytest.GatewayConfig) {
			w.gateways.AckTimeout, w.consumer.Retry.Delays = 500*time.Millisecond, []time.Duration{time.Hour}
		})
		w.gateway.SetMode(relaytest.ModeSilent)
		id := w.enqueue(newCreate())
		w.waiting(1)
		before := w.row(id)
		if err := w.store.Withdraw(context.Background(), provider, id, by); !errors.Is(err, store.ErrMayHaveArrived) {
			t.Errorf("withdrawn: %v", err)
		}
		w.sameRow(before)
	}},
	{"81_the_copy_is_refused", replayCopyRefused},
	{"81_the_database_is_not_readied", replayNotReadied},
	{"92_the_plan_knows_what_may_have_arrived", planKnowsWhatMayHaveArrived},
	{"90_the_relay_changes_while_a_replay_waits", relayChangesDuringReplay},
}

// killedHalfWay: the replay ends after a copy was sent and before its dead letter
// was completed.
func killedHalfWay(t *testing.T, url string) {
	const many = 40
	both(t, url, func(w *world) {
		w.gateway.SetMode(relaytest.ModeReject)
		all := w.fail(many)
		w.gateway.SetMode(relaytest.ModePersistent)
		ctx, kill := context.WithCancel(context.Background())
		defer kill()
		half := consumer.Replay{By: by, Progress: func(p consumer.ReplayProgress) {
			if p.Sent == many/2 && ctx.Err() == nil {
				w.broker.ExpireLocks() // the copy is sent, and the dead letter can no longer be completed
				kill()
			}
		}}
		first, err := w.dead().Replay(ctx, half)
		w.must(err)
		if !first.Interrupted || first.Sent != many/2 || first.Uncompleted != 1 || first.NotSent != many/2 {
			t.Errorf("killed: %+v", first)
		}
		if n := w.queueState().DeadLettered; n != many/2+1 {
			t.Errorf("%d dead letters are left, want %d", n, many/2+1)
		}
		w.drained()            // the copy of the one that was not completed is confirmed
		w.broker.ExpireLocks() // what came to the first while it ended is free again
		second := w.replay(consumer.Replay{})
		if second.Sent != many/2 || second.Leftover != 1 || second.Refused+second.NotReached+second.NotSent != 0 {
			t.Errorf("again: %+v", second)
		}
		w.until("all are confirmed", func() bool { return w.allConfirmed(all) })
		w.noDeadLetter()
		w.writtenOnce(many)
		if found := w.reconcile(); found.Found() || found.LookedAt != 0 {
			t.Errorf("reconciled: %+v", found)
		}
	}, shortLease)
}

// between does what a person may do while no attempt is being made.
func (w *world) between(deed func() error) {
	w.t.Helper()
	w.until("no attempt is being made", func() bool {
		err := deed()
		if !errors.Is(err, store.ErrClaimed) {
			w.must(err)
		}
		return err == nil
	})
}

var by = store.By{Who: "ada", Why: "ticket 42"}

// replay replays for by, and fails the test on an error.
func (w *world) replay(r consumer.Replay) consumer.ReplayReport {
	w.t.Helper()
	r.By = by
	report, err := w.dead().Replay(context.Background(), r)
	w.must(err)
	return report
}

func (w *world) discard(f consumer.DeadLetterFilter) consumer.DiscardReport {
	w.t.Helper()
	report, err := w.dead().Discard(context.Background(), consumer.Discard{Filter: f, By: by})
	w.must(err)
	return report
}

// fail enqueues n creates that the running consumer dead-letters.
func (w *world) fail(n int) (all []action) {
	w.t.Helper()
	for range n {
		all = append(all, newCreate())
	}
	before := w.queueState().DeadLettered
	w.enqueue(all...)
	w.until("all are dead-lettered", func() bool { return w.queueState().DeadLettered == before+n })
	return all
}

// audited checks the action's audit entries: who, verb, why and detail of each.
func (w *world) audited(id string, want ...string) {
	w.t.Helper()
	_, _, audit, err := w.store.Action(context.Background(), "", id)
	w.must(err)
	var entries []string
	for _, e := range audit {
		entries = append(entries, strings.Join([]string{e.Who, e.Verb, e.Why, e.Detail}, " "))
	}
	if diff := cmp.Diff(want, entries); diff != "" {
		w.t.Errorf("audit of %s: %s", id, diff)
	}
}
