package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// reconcileSituations are what the broker does on its own, and what is left
// without a message.
var reconcileSituations = []situation{
	{"78_the_broker_dead_letters_by_delivery_count", func(t *testing.T, url string) {
		w := newWorld(t, url)
		w.consumer.Retry.Delays = []time.Duration{time.Second}
		w.gateway.SetMode(relaytest.ModeOffline)
		stop := w.run()
		a := newCreate()
		w.enqueue(a)
		w.until("the create waits for a retry", func() bool { return w.row(a.id()).RetryCount > 0 })
		stop()
		w.exhaust(1)

		before := w.row(a.id())
		if found := w.reconcile(); found.StillAlive != 1 || found.MarkedFailed.Count != 0 {
			t.Errorf("a moment after its next try: %+v", found)
		}
		w.sameRow(before)
		w.ahead.Store(int64(11 * time.Minute)) // the row counts as alive for 10 min
		found := w.reconcile()
		if found.MarkedFailed.Count != 1 || found.MarkedFailed.First[0].ActionID != a.id() || found.Stranded.Count != 0 {
			t.Errorf("long after its next try: %+v", found)
		}
		w.hasRow(a.id(), store.Failed, "MaxDeliveryCountExceeded", relay.PhaseNoListener)
		if found = w.reconcile(); found.EndedBefore != 1 || found.MarkedFailed.Count != 0 {
			t.Errorf("again: %+v", found)
		}
		_, _, audit, err := w.store.Action(context.Background(), provider, a.id())
		w.must(err)
		if len(audit) != 1 || audit[0].Who != "worklist-relay" || audit[0].Verb != "reconcile" {
			t.Errorf("audit %+v", audit)
		}

		w.gateway.SetMode(relaytest.ModeOneShot)
		w.run()
		w.enqueue(a) // no frame was written, so the producer may send it again
		w.drained()
		w.hasRow(a.id(), store.Confirmed, "", "")
		w.frames(1)
	}},
	{"78_the_broker_dead_letters_by_time_to_live", func(t *testing.T, url string) {
		w := newWorld(t, url)
		// No consumer saw the message: the row is made of the dead letter.
		a, ttl := newCreate(), 10*time.Millisecond
		m := a.message()
		m.TimeToLive = &ttl
		w.send(m)
		w.until("it is dead-lettered", func() bool { return w.queueState().DeadLettered == 1 })
		again := a.message()
		w.send(again) // the producer's resend is on the queue before anybody looks

		found := w.reconcile()
		want := []consumer.Marked{{ActionID: a.id(), ProviderID: provider, Reason: "TTLExpiredException", SequenceNumber: 1}}
		if diff := cmp.Diff(want, found.MarkedFailed.First); diff != "" {
			t.Error(diff)
		}
		row := w.hasRow(a.id(), store.Failed, "TTLExpiredException", "")
		if row.AccessionNumber != a.accession() || text(row.LastError) == "" {
			t.Errorf("row %+v", row)
		}
		w.run()
		w.drained()
		w.hasRow(a.id(), store.Confirmed, "", "")
	}},
	{"79_stranded_before_the_frame", func(t *testing.T, url string) {
		stranded(t, url, relaytest.ModeOffline, store.Pending)
	}},
	{"79_stranded_after_the_frame", func(t *testing.T, url string) {
		stranded(t, url, relaytest.ModeSilent, store.Sent)
	}},
}

// stranded loses the message of an action that waits for its retry.
func stranded(t *testing.T, url string, mode relaytest.Mode, status store.Status) {
	w := newWorld(t, url)
	w.consumer.Retry.Delays = []time.Duration{time.Minute}
	w.gateways.AckTimeout = 2 * time.Second
	w.gateway.SetMode(mode)
	w.run()
	a := newCreate()
	w.enqueue(a)
	w.waiting(1)
	w.must(w.link().CancelScheduledMessages(context.Background(), []int64{w.broker.Messages(queue)[0].SequenceNumber}, nil))

	before := w.row(a.id())
	w.ahead.Store(int64(time.Until(before.NextTry()) + 14*time.Minute))
	if found := w.reconcile(); found.Found() {
		t.Errorf("14 min after its next try: %+v", found)
	}
	w.ahead.Add(int64(time.Minute))
	found := w.reconcile()
	if found.Stranded.Count != 1 || found.Stranded.First[0].ActionID != a.id() || found.Stranded.First[0].Status != status {
		t.Errorf("stranded: %+v", found.Stranded)
	}
	if diff := cmp.Diff(&consumer.QueueCounts{}, found.Counts); diff != "" {
		t.Errorf("the queue's counts: %s", diff)
	}
	w.sameRow(before)
	w.nothingDied()

	w.gateway.SetMode(relaytest.ModeOneShot)
	w.enqueue(a)
	w.noDeadLetter()
	w.hasRow(a.id(), store.Confirmed, "", "")
	if found := w.reconcile(); found.Found() {
		t.Errorf("after the resend: %+v", found)
	}
}

// reconciler is one of the world's queue and database.
func (w *world) reconciler() *consumer.Reconciler {
	return &consumer.Reconciler{
		Connect: w.connect, Queue: queue, Store: w.store, Log: w.consumer.Log, Now: w.now,
		Counts: func(context.Context) (consumer.QueueCounts, error) {
			q := w.queueState()
			return consumer.QueueCounts{Active: int64(q.Active + q.Locked), Scheduled: int64(q.Scheduled), DeadLettered: int64(q.DeadLettered)}, nil
		},
	}
}

func (w *world) reconcile() consumer.Reconciliation {
	w.t.Helper()
	found, err := w.reconciler().Reconcile(context.Background())
	w.must(err)
	return found
}

func (w *world) nothingDied() {
	w.t.Helper()
	if n := w.queueState().DeadLettered; n != 0 {
		w.t.Errorf("%d dead letters, want none", n)
	}
}

// exhaust gives back what is on the queue until n dead letters are there.
func (w *world) exhaust(n int) {
	w.t.Helper()
	receiver, err := w.client.NewReceiverForQueue(queue, nil)
	w.must(err)
	defer receiver.Close(context.Background())
	for w.queueState().DeadLettered < n {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		messages, err := receiver.ReceiveMessages(ctx, 1, nil)
		cancel()
		w.must(err)
		for _, m := range messages {
			w.must(receiver.AbandonMessage(context.Background(), m, nil))
		}
	}
}

// bury dead-letters what is on the queue, message by message, as told. nil completes.
func (w *world) bury(as ...*azservicebus.DeadLetterOptions) {
	w.t.Helper()
	receiver, err := w.client.NewReceiverForQueue(queue, nil)
	w.must(err)
	defer receiver.Close(context.Background())
	for _, options := range as {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		messages, err := receiver.ReceiveMessages(ctx, 1, &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: time.Millisecond})
		cancel()
		w.must(err)
		if options == nil {
			w.must(receiver.CompleteMessage(context.Background(), messages[0], nil))
		} else {
			w.must(receiver.DeadLetterMessage(context.Background(), messages[0], options))
		}
	}
}

func because(reason, description string) *azservicebus.DeadLetterOptions {
	return &azservicebus.DeadLetterOptions{Reason: &reason, ErrorDescription: &description}
}

// What is not the broker's doing, or not an action's last word, changes no row.
func TestReconcileTellsDeadLettersApart(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		stop := w.run()
		done := newCreate()
		w.enqueue(done)
		w.noDeadLetter()
		stop()
		before := w.row(done.id())
		foreign := done.message()
		foreign.ApplicationProperties["provider_id"] = "hull"
		byHand := newCreate()
		w.send(
			newCreate().message(), done.message(), foreign, done.with("source_system", 7).message(),
			newCreate().with("action_id", nil).message(), byHand.message(), done.with("schema_version", 2).message(),
		)
		broken := because("MaxDeliveryCountExceeded", "ten deliveries")
		w.bury(because("NoRelay", ""), broken, broken, broken, broken, &azservicebus.DeadLetterOptions{}, broken)

		found := w.reconcile()
		want := consumer.Reconciliation{
			LookedAt: 7, Own: 1, EndedBefore: 3, OfNoAction: 2, Counts: &consumer.QueueCounts{DeadLettered: 7},
			MarkedFailed: consumer.Listed[consumer.Marked]{Count: 1, First: []consumer.Marked{
				{ActionID: byHand.id(), ProviderID: provider, Reason: "DeadLettered", SequenceNumber: w.broker.Messages(deadName)[5].SequenceNumber},
			}},
			Unreadable: consumer.Listed[int64]{First: []int64{}}, Stranded: consumer.Listed[store.Action]{First: []store.Action{}},
		}
		if diff := cmp.Diff(want, found); diff != "" {
			t.Error(diff)
		}
		w.sameRow(before)
		w.hasRow(byHand.id(), store.Failed, "DeadLettered", "")
		leaktest.Check(t, "what was found", fmt.Sprintf("%+v", found))
	})
}

const deadName = queue + "/$DeadLetterQueue"

// Lists are bounded, counts are not, and pages are turned.
func TestReconcileManyDeadLetters(t *testing.T) {
	t.Parallel()
	const many = 230
	w := newWorld(t, storetest.URL(t, "sqlite"))
	var as []*azservicebus.DeadLetterOptions
	var all []action
	for range many {
		all, as = append(all, newCreate()), append(as, because("MaxDeliveryCountExceeded", ""))
	}
	w.enqueue(all...)
	w.bury(as...)
	found := w.reconcile()
	if found.LookedAt != many || found.MarkedFailed.Count != many || len(found.MarkedFailed.First) != 100 {
		t.Errorf("looked at %d, marked %d, listed %d", found.LookedAt, found.MarkedFailed.Count, len(found.MarkedFailed.First))
	}
	if found = w.reconcile(); found.EndedBefore != many {
		t.Errorf("again: %d had ended", found.EndedBefore)
	}
}

// A dry run finds the same and changes nothing.
func TestReconcileDryRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"))
	w.consumer.Retry.Delays = []time.Duration{time.Second}
	w.gateway.SetMode(relaytest.ModeOffline)
	stop := w.run()
	waiting, unseen := newCreate(), newCreate()
	w.enqueue(waiting)
	w.until("it waits for a retry", func() bool { return w.row(waiting.id()).RetryCount > 0 })
	stop()
	w.exhaust(1)
	w.send(unseen.message())
	w.bury(because("TTLExpiredException", ""))
	w.ahead.Store(int64(time.Hour))
	before := w.row(waiting.id())
	r := w.reconciler()
	r.DryRun = true
	for range 2 {
		found, err := r.Reconcile(context.Background())
		w.must(err)
		if !found.DryRun || found.MarkedFailed.Count != 2 || found.Stranded.Count != 0 || len(found.Stranded.First) != 0 {
			t.Errorf("dry run: %+v", found)
		}
	}
	w.sameRow(before)
	if row := w.row(unseen.id()); row.ActionID != "" {
		t.Errorf("row %+v", row)
	}
	if found := w.reconcile(); found.DryRun || found.MarkedFailed.Count != 2 || found.Stranded.Count != 0 {
		t.Errorf("for good: %+v", found)
	}
}

// Run outlives an outage, and logs a line when it has found something.
func TestReconcilerRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"))
	r := w.reconciler()
	r.Counts = func(context.Context) (consumer.QueueCounts, error) {
		return consumer.QueueCounts{}, errors.New("not allowed")
	}
	var calls atomic.Int64
	r.Connect = func() (*azservicebus.Client, error) {
		if calls.Add(1) == 1 {
			return nil, errors.New("no such host")
		}
		return w.connect()
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx, 10*time.Millisecond)
	}()
	w.until("it looked a few times", func() bool { return calls.Load() > 3 })
	if log := w.log.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "no such host") {
		t.Errorf("nothing was found, and logged:\n%s", log)
	}
	w.send(newCreate().message())
	w.bury(because("TTLExpiredException", ""))
	w.until("it is marked failed", func() bool {
		counts, err := w.store.Counts(context.Background())
		w.must(err)
		return counts[store.Failed] == 1
	})
	seen := calls.Load()
	w.until("it looked again", func() bool { return calls.Load() > seen+2 })
	cancel()
	<-done
	if n := strings.Count(w.log.String(), `"marked_failed":1`); n != 1 {
		t.Errorf("%d lines of what was found once:\n%s", n, w.log)
	}
	found, err := r.Reconcile(context.Background())
	if err != nil || found.Counts != nil || found.CountsUnknown != "not allowed" {
		t.Errorf("without counts: %+v, %v", found, err)
	}
}

// odd makes a dead letter that the SDK panics on.
var odd = &azservicebus.DeadLetterOptions{PropertiesToModify: map[string]any{"DeadLetterReason": int64(7)}}

// In the patterns, r is a dead letter that can be read, u one that cannot, and
// a dot a sequence number without one.
func TestUnreadableDeadLetters(t *testing.T) {
	t.Parallel()
	long, gap := strings.Repeat("r", 60), strings.Repeat(".", 80)
	for pattern, want := range map[string][]int64{
		"u":                          {1},
		"rur":                        {2},
		"ur":                         {1},
		"ru":                         {2},
		"..u...r":                    {3},
		"r....u":                     {6},
		"urur":                       {1, 3},
		"r....u.r.u":                 {6, 10},
		"r" + gap + "u" + gap + "r":  {82},
		"r." + gap + "u" + gap + "r": {83},
		long + "u" + long + "u":      {61, 122},
		"u" + long:                   {1},
		long + "....u......" + "r":   {65},
		"ruur":                       {3}, // next to each other: the first is hidden by the second
	} {
		t.Run(strings.NewReplacer(long, "R", gap, "-").Replace(pattern), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, storetest.URL(t, "sqlite"))
			var as []*azservicebus.DeadLetterOptions
			for _, kind := range pattern {
				w.send(newCreate().message())
				as = append(as, map[rune]*azservicebus.DeadLetterOptions{'u': odd, 'r': because("NoRelay", ""), '.': nil}[kind])
			}
			w.bury(as...)
			found := w.reconcile()
			if diff := cmp.Diff(want, found.Unreadable.First); diff != "" {
				t.Error(diff)
			}
			if n := strings.Count(pattern, "r"); found.Own != n || found.LookedAt != n+len(want) {
				t.Errorf("%d read of %d, want %d", found.Own, found.LookedAt, n)
			}
		})
	}
}
