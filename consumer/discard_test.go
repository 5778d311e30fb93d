package consumer_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// What of an action that is not at its end stays, and says why; the rest goes.
func TestDiscardTellsDeadLettersApart(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		w.consumer.Retry.Delays = []time.Duration{time.Hour}
		stop := w.run()
		done, waits, late := newCreate(), newCreate(), newCreate()
		w.enqueue(done)
		w.noDeadLetter()
		w.gateway.SetMode(relaytest.ModeOffline)
		w.enqueue(late)
		w.waiting(1)
		w.ahead.Store(int64(2 * time.Hour)) // the row counts as alive no more
		w.enqueue(waits)
		w.waiting(2)
		stop()
		w.gateway.SetMode(relaytest.ModeReject)
		begun := w.failed()
		row := w.row(begun.id())
		w.must(w.store.Reopen(context.Background(), store.Replay{ProviderID: provider, ActionID: begun.id(), BodySHA256: *row.BodySHA256, DeadLetter: row.SequenceNumber}, by))
		foreign, unknown, invalid := done.message(), newCreate(), newCreate().with("schema_version", 2)
		foreign.ApplicationProperties["provider_id"] = "hull"
		for _, m := range []*azservicebus.Message{done.message(), waits.message(), late.message(), foreign, unknown.message(), invalid.message(), {Body: []byte("SYNTHETIC")}} {
			w.died(m)
		}
		w.send(newCreate().message())
		w.bury(odd)
		rows := []store.Action{w.row(done.id()), w.row(waits.id()), w.row(begun.id())}

		report := w.discard(consumer.DeadLetterFilter{})
		if report.Discarded != 6 || report.Skipped != 3 || report.NotReached != 0 {
			t.Errorf("report %+v", report)
		}
		for id, why := range map[string]string{begun.id(): "replay was begun", waits.id(): "another message of it is expected", "": "portal"} {
			if !slices.ContainsFunc(report.Skips, func(s consumer.DiscardSkip) bool { return s.Letter.ActionID == id && strings.Contains(s.Why, why) }) {
				t.Errorf("nothing is skipped since %q: %+v", why, report.Skips)
			}
		}
		for _, before := range rows {
			w.sameRow(before)
		}
		w.hasRow(late.id(), store.Failed, "MaxDeliveryCountExceeded", "no_listener")
		w.hasRow(unknown.id(), store.Failed, "MaxDeliveryCountExceeded", "")
		w.hasRow(invalid.id(), store.Failed, "MaxDeliveryCountExceeded", "")
		w.audited(unknown.id(), "worklist-relay reconcile the broker dead-lettered its message dead-lettered by the broker: MaxDeliveryCountExceeded",
			"ada discard ticket 42 dead letter 11, MaxDeliveryCountExceeded")
		w.audited(waits.id())
		if n := w.queueState().DeadLettered; n != 3 {
			t.Errorf("%d dead letters are left, want 3", n)
		}
		told, err := json.Marshal(report)
		w.must(err)
		leaktest.Check(t, "the report", string(told))
	})
}

// When it is interrupted, what was not begun is left as it was.
func TestDiscardInterrupted(t *testing.T) {
	t.Parallel()
	const many = 60
	w := newWorld(t, storetest.URL(t, "sqlite"))
	w.buryMany(many, provider)
	ctx, interrupt := context.WithCancel(context.Background())
	defer interrupt()
	var written atomic.Int64
	d := w.dead()
	d.Store = storetest.Open(t, w.url, store.WithClock(func() time.Time {
		if written.Add(1) == many/2 { // SQL is told something, with its time, before one is removed
			interrupt()
		}
		return w.now()
	}))
	report, err := d.Discard(ctx, consumer.Discard{By: by})
	w.must(err)
	if !report.Interrupted || report.Discarded+report.NotReached != many || report.Discarded == 0 || report.NotReached == 0 {
		t.Errorf("report %+v", report)
	}
	if n := w.queueState().DeadLettered; n != report.NotReached {
		t.Errorf("%d dead letters are left, want %d", n, report.NotReached)
	}
	if again := w.discard(consumer.DeadLetterFilter{}); again.Discarded != report.NotReached {
		t.Errorf("again: %+v", again)
	}
	w.noDeadLetter()
}

// To reach the last of a long queue everything before it is locked, and given back.
func TestRemovePastMany(t *testing.T) {
	t.Parallel()
	many := 2100 // on two links
	if suite.Long() {
		many = 4300
	}
	w := newWorld(t, storetest.URL(t, "sqlite"), func(w *world, _ *relaytest.GatewayConfig) { w.lock = 5 * time.Minute })
	w.hurryDead = func(d *consumer.Waits) { d.SendDeadline = patience } // for all that is given back
	w.buryMany(many, provider)
	removed, err := w.dead().Remove(context.Background(), []int64{1, int64(many)})
	w.must(err)
	locked := 0
	for _, m := range w.broker.Messages(deadName) {
		if m.State != "active" {
			locked++
		}
	}
	if removed != 2 || w.queueState().DeadLettered != many-2 || locked != 0 {
		t.Errorf("removed %d, left %d and %d of them locked", removed, w.queueState().DeadLettered, locked)
	}
	w.clear()
}

// A dead letter that cannot be read, and comes while others are removed, costs
// those that come with it no more than a lock.
func TestRemoveBesideAnUnreadableOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"))
	w.buryMany(5, provider)
	all := []int64{1, 2, 3, 4, 5}
	d := w.dead()
	var calls atomic.Int64
	d.Connect = func() (*azservicebus.Client, error) {
		if calls.Add(1) == 2 { // the queue was looked through
			w.send(newCreate().message())
			w.bury(odd)
		}
		return w.connect()
	}
	before, err := d.Remove(context.Background(), all) // none, unless they came one by one
	w.must(err)
	w.broker.ExpireLocks()
	if removed, err := w.dead().Remove(context.Background(), all); err != nil || before+removed != len(all) {
		t.Errorf("removed %d, then %d, %v", before, removed, err)
	}
	if n := w.queueState().DeadLettered; n != 1 {
		t.Errorf("%d dead letters are left, want the one that cannot be read", n)
	}
}
