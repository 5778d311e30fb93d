package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// soon is for replays that nobody is there to confirm.
const soon = 50 * time.Millisecond

// The copy is what the producer sent, without what the dead letter's life left
// on it.
func TestReplayedCopy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"))
	a, contentType, session, expires := newCreate(), "application/json", "a session", time.Hour
	correlation, id := "SYN-CORRELATION", "SYN-ID"
	at := time.Date(2030, 5, 6, 7, 8, 9, 0, time.UTC)
	m := a.message()
	m.MessageID, m.ContentType, m.SessionID, m.CorrelationID, m.TimeToLive = &id, &contentType, &session, &correlation, &expires
	maps.Copy(m.ApplicationProperties, map[string]any{
		"traceparent": "00-SYN", "bytes": []byte("SYN"), "original_sequence_number": int64(3), "original_enqueued_at": at,
		"original_expires_at": at, "postponements": int64(2), "copied_from_sequence_number": int64(4), "stands_for_sequence_number": int64(5), "replays": int64(1),
	})
	w.died(m)
	report := w.replay(consumer.Replay{CanaryWait: soon})
	if report.Sent != 1 || report.Routes[0].State != consumer.RouteStopped || !strings.Contains(report.Routes[0].Why, "nobody received it") {
		t.Errorf("report %+v", report)
	}
	copied := w.onQueue()[0]
	want := map[string]any{
		"provider_id": provider, "synthetic_property": m.ApplicationProperties["synthetic_property"], "traceparent": "00-SYN", "bytes": []byte("SYN"),
		"original_sequence_number": int64(3), "original_enqueued_at": at, "replays": int64(2),
	}
	if diff := cmp.Diff(want, copied.ApplicationProperties); diff != "" {
		t.Error(diff)
	}
	if want := a.id() + ":1:replay:0"; copied.MessageID != want {
		t.Errorf("message id %q, want %q", copied.MessageID, want)
	}
	if string(copied.Body) != string(a.body()) || text(copied.SessionID) != session || text(copied.ContentType) != contentType || text(copied.CorrelationID) != correlation {
		t.Errorf("copy %+v", copied)
	}
	if *copied.TimeToLive != 0 || copied.ScheduledEnqueueTime != nil {
		t.Errorf("lives for %v, scheduled at %v", *copied.TimeToLive, copied.ScheduledEnqueueTime)
	}
	row := w.row(a.id())
	if row.Status != store.Pending || *row.ReplayedSequence != 1 || row.OutcomeOwed {
		t.Errorf("row %+v", row)
	}
}

// A message that says nothing of its own gets its place from what is known.
func TestReplayedCopyOfBareMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"))
	setting, a := "west", newCreate()
	w.addRelay(provider, &setting, w.relay.Addr(), provider, "LEEDS_KEY")
	sequence := w.died(&azservicebus.Message{Body: []byte("SYNTHETIC")})
	w.replay(consumer.Replay{CanaryWait: soon, With: map[string]consumer.Mended{sequence: {ProviderID: provider, SettingID: &setting, Body: a.body()}}})
	copied, dead := w.onQueue()[0], w.letters(consumer.DeadLetterFilter{})
	if len(dead) != 0 || string(copied.Body) != string(a.body()) || text(copied.SessionID) != consumer.SessionID(provider, &setting) {
		t.Errorf("copy %+v, and %d dead letters", copied, len(dead))
	}
	p := copied.ApplicationProperties
	if p["provider_id"] != provider || p["setting_id"] != setting || p["original_sequence_number"] != int64(1) || p["original_enqueued_at"] == nil {
		t.Errorf("properties %v", p)
	}
	w.run()
	w.drained()
	w.confirmedIn(a.id(), 1)
	w.audited(a.id(), "ada replay ticket 42 dead letter 1")
}

// Actions failed while ten hospitals were down, and one of them still is.
func TestReplayToManyGateways(t *testing.T) {
	t.Parallel()
	for _, sessions := range []bool{false, true} {
		t.Run(fmt.Sprintf("sessions %v", sessions), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, storetest.URL(t, "sqlite"), func(w *world, _ *relaytest.GatewayConfig) { w.sessions = sessions })
			const gateways = 10
			each := 4
			if suite.Long() {
				each = 100
			}
			var messages []*azservicebus.Message
			all := make(map[string][]action)
			for i := range gateways {
				name, mode := fmt.Sprintf("gw-%d", i), relaytest.ModePersistent
				if i == 7 {
					mode = relaytest.ModeOffline
				}
				w.addGateway(name, mode)
			}
			for range each {
				for i := range gateways {
					name, a := fmt.Sprintf("gw-%d", i), newCreate()
					messages, all[name] = append(messages, a.messageTo(name)), append(all[name], a)
				}
			}
			w.buryMessages(messages...)
			w.consumer.Retry.Delays = []time.Duration{time.Hour}
			w.run()
			began, last := time.Now(), consumer.ReplayProgress{}
			report := w.replay(consumer.Replay{Progress: func(p consumer.ReplayProgress) {
				if p.Of != gateways*each || p.Sent < last.Sent || p.Cleared < last.Cleared || p.Waiting > gateways {
					t.Errorf("progress %+v after %+v", p, last)
				}
				last = p
			}})
			t.Logf("%d dead letters in %s", gateways*each, time.Since(began).Round(time.Millisecond))
			if report.Sent != (gateways-1)*each+1 || report.Confirmed != gateways-1 || report.NotSent != each-1 || report.Refused+report.NotReached+report.Uncompleted != 0 {
				t.Errorf("report %+v", report)
			}
			if last.Sent != report.Sent || last.Cleared != report.Confirmed || last.Waiting != 0 {
				t.Errorf("last progress %+v, and the report %+v", last, report)
			}
			for i, r := range report.Routes {
				state, sent := consumer.RouteCleared, each
				if i == 7 {
					state, sent = consumer.RouteStopped, 1
				}
				if r.State != state || r.Sent != sent || r.Selected != each || (r.Why == "") == (i == 7) {
					t.Errorf("route %+v", r)
				}
			}
			if why := report.Routes[7].Why; !strings.Contains(why, "no_listener") || !strings.Contains(why, "next try") {
				t.Errorf("stopped since %q", why)
			}
			for name, actions := range all {
				if name != "gw-7" {
					w.until(name+" has confirmed all", func() bool { return w.allConfirmed(actions) })
				}
			}
			w.until("what was sent ahead to one gateway waits, and its rest is dead", func() bool {
				q := w.queueState()
				return q.DeadLettered == each-1 && q.Active+q.Locked+q.Scheduled == 1
			})
			w.clear()
		})
	}
}

// What is not wanted is free again when a replay ends, and what others have
// locked is left to them.
func TestReplayAmongOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"), func(w *world, _ *relaytest.GatewayConfig) { w.lock = time.Minute })
	w.addGateway("hull", relaytest.ModePersistent)
	w.hurryDead = func(d *consumer.Waits) { d.FirstBackoff = time.Second } // which it waits for what still comes, as it ends
	for range 20 {
		w.died(newCreate().messageTo("york"))
		w.died(newCreate().messageTo("hull"))
	}
	dead, err := w.client.NewReceiverForQueue(queue, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	w.must(err)
	defer dead.Close(context.Background())
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for taken := 0; taken < 10; { // five of either
		messages, err := dead.ReceiveMessages(ctx, 10-taken, nil)
		w.must(err)
		taken += len(messages)
	}
	w.run()
	report := w.replay(consumer.Replay{Filter: consumer.DeadLetterFilter{ProviderID: "hull"}})
	if report.Sent != 0 || report.NotReached != 1 || report.NotSent != 19 || !strings.Contains(report.Routes[0].Why, "locked by somebody else") {
		t.Errorf("what was to go ahead is locked: %+v", report)
	}
	report = w.replay(consumer.Replay{Filter: consumer.DeadLetterFilter{ProviderID: "hull"}, Canary: 6})
	if report.Sent != 15 || report.NotReached != 5 || !strings.Contains(report.Routes[0].Why, "5 not reached") {
		t.Errorf("report %+v", report)
	}
	locked := 0
	for _, m := range w.broker.Messages(deadName) {
		if m.State == "locked" {
			locked++
		}
	}
	if n := w.queueState().DeadLettered; n != 25 || locked != 10 {
		t.Errorf("%d dead letters, %d locked, want 25 and the test's own 10", n, locked)
	}
}

// A replay that is slower than its locks keeps the order all the same.
func TestReplaySlowerThanLocks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"), func(w *world, g *relaytest.GatewayConfig) {
		w.lock, g.Mode = time.Second, relaytest.ModePersistent
	})
	ids := w.buryMany(20, provider)
	w.consumer.Concurrency = 1
	w.run()
	began := time.Now()
	for sent := 0; sent < len(ids); {
		report, err := w.dead().Replay(context.Background(), consumer.Replay{By: by, Rate: 8})
		if err != nil && !strings.Contains(err.Error(), "a lock ran out before work began") { // which a slow machine may see
			t.Fatal(err)
		}
		if sent += report.Sent; report.NotReached+report.Uncompleted != 0 {
			t.Errorf("report %+v", report)
		}
	}
	if took := time.Since(began); took < time.Duration(len(ids)-1)*time.Second/8 {
		t.Errorf("%d were sent in %s", len(ids), took)
	}
	w.noDeadLetter()
	var sent []string
	for _, frame := range w.gateway.Frames() {
		at := slices.IndexFunc(ids, func(id string) bool { return strings.Contains(string(frame), id) })
		sent = append(sent, ids[at])
	}
	if diff := cmp.Diff(ids, sent); diff != "" {
		t.Error(diff)
	}
}

// Two people replay the same at once.
func TestReplaysAtOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		w.gateway.SetMode(relaytest.ModePersistent)
		const many = 60
		ids := w.buryMany(many, provider)
		w.run()
		var reports [2]consumer.ReplayReport
		var replaying sync.WaitGroup
		for i := range reports {
			replaying.Go(func() {
				var err error
				reports[i], err = w.dead().Replay(context.Background(), consumer.Replay{By: by})
				w.check(err)
			})
		}
		replaying.Wait()
		w.broker.ExpireLocks() // what came to one of them while it ended is free again
		last := w.replay(consumer.Replay{})
		if sent := reports[0].Sent + reports[1].Sent + last.Sent; sent != many {
			t.Errorf("%d were sent, want %d: %+v, then %+v", sent, many, reports, last)
		}
		w.noDeadLetter()
		for _, id := range ids {
			w.confirmedIn(id, 1)
		}
		w.writtenOnce(many)
	})
}

// A dead letter of the broker's whose replay was cut short before it was completed
// is not its action's end.
func TestReconcileAfterAReplayThatWasCutShort(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		a := newCreate()
		w.died(a.message())
		ctx, kill := context.WithCancel(context.Background())
		defer kill()
		report, err := w.dead().Replay(ctx, consumer.Replay{By: by, Progress: func(consumer.ReplayProgress) {
			w.broker.ExpireLocks()
			kill()
		}})
		w.must(err)
		if report.Sent != 1 || report.Uncompleted != 1 || w.queueState().DeadLettered != 1 {
			t.Errorf("report %+v", report)
		}
		w.ahead.Store(int64(time.Hour))
		before := w.row(a.id())
		if found := w.reconcile(); found.EndedBefore != 1 || found.MarkedFailed.Count != 0 {
			t.Errorf("reconciled: %+v", found)
		}
		w.sameRow(before)
		w.run()
		w.drained()
		w.confirmedIn(a.id(), 1)
		w.broker.ExpireLocks() // what came to the first replay while it ended is free again
		if report := w.replay(consumer.Replay{}); report.Leftover != 1 {
			t.Errorf("again: %+v", report)
		}
		w.noDeadLetter()
	})
}

// Where a dead letter cannot be completed it is met again, and its copy is not
// sent again.
func TestReplayWhoseCompletionFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"))
	ids := w.buryMany(5, provider)
	report := w.replay(consumer.Replay{Canary: len(ids), CanaryWait: soon, Progress: func(p consumer.ReplayProgress) {
		if p.Sent == 2 {
			w.broker.ExpireLocks()
		}
	}})
	if report.Sent != len(ids) || report.Uncompleted+report.NotReached+report.Leftover != 0 {
		t.Errorf("report %+v", report)
	}
	if copies := w.onQueue(); len(copies) != len(ids) {
		t.Errorf("%d copies, want %d", len(copies), len(ids))
	}
	w.nothingDied()
}

// What became of an action while its dead letter was at hand, SQL knows.
func TestReplayOfWhatWasSettledMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"))
	w.gateway.SetMode(relaytest.ModeReject)
	w.failed()
	second := w.failed()
	report := w.replay(consumer.Replay{Canary: 2, CanaryWait: soon, Progress: func(p consumer.ReplayProgress) {
		if p.Sent == 1 && p.Refused == 0 {
			w.must(w.store.Resolve(context.Background(), provider, second.id(), store.Confirmed, by))
		}
	}})
	if report.Sent != 1 || report.Refused != 1 || !strings.Contains(report.Refusals[0].Why, "is confirmed") || w.queueState().DeadLettered != 1 {
		t.Errorf("report %+v", report)
	}
}

// A replay that ended before the copy was sent is simply made again.
func TestReplayThatWasOnlyBegun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"))
	w.gateway.SetMode(relaytest.ModeReject)
	a := w.failed()
	row := w.row(a.id())
	w.must(w.store.Reopen(context.Background(), store.Replay{ProviderID: provider, ActionID: a.id(), BodySHA256: *row.BodySHA256, DeadLetter: row.SequenceNumber}, by))
	w.gateway.SetMode(relaytest.ModeOneShot)
	w.run()
	if report := w.replay(consumer.Replay{}); report.Confirmed != 1 {
		t.Errorf("report %+v", report)
	}
	w.noDeadLetter()
	w.writtenOnce(1)
}

// A gateway that is held back meanwhile gets no more, and the report says so.
func TestReplayToAGatewayHeldMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"))
	w.buryMany(3, provider)
	report := w.replay(consumer.Replay{CanaryWait: soon, Progress: func(p consumer.ReplayProgress) {
		if err := w.store.HoldGateway(context.Background(), w.relay.Addr()+"/"+provider, by); err != nil && !errors.Is(err, store.ErrHeld) {
			t.Error(err)
		}
	}})
	if report.Sent != 1 || report.NotSent != 2 || !strings.Contains(report.Routes[0].Why, "held back by ada (ticket 42)") {
		t.Errorf("report %+v", report)
	}
}

// Nothing is sent that SQL does not know of.
func TestReplayWithoutDatabase(t *testing.T) {
	t.Parallel()
	w, p := behindProxy(t)
	w.proxy = p
	w.consumer.ClaimLease = 2 * time.Second // of an attempt that cannot be given up while the database is away
	ids := w.buryMany(10, provider)
	w.run()
	report, err := w.dead().Replay(context.Background(), consumer.Replay{By: by, Progress: func(p consumer.ReplayProgress) {
		if p.Sent == 4 {
			w.proxy.cut.Store(true)
			w.proxy.closeAll()
		}
	}})
	if !store.Unavailable(err) || report.Sent != 4 || report.NotSent != 6 || report.Interrupted {
		t.Errorf("report %+v, %v", report, err)
	}
	p.cut.Store(false)
	w.broker.ExpireLocks()
	if report := w.replay(consumer.Replay{}); report.Sent != 6 {
		t.Errorf("when it is back: %+v", report)
	}
	w.noDeadLetter()
	for _, id := range ids {
		w.hasRow(id, store.Confirmed, "", "")
	}
}

func TestReplayIsSigned(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"))
	for _, by := range []store.By{{}, {Who: "ada"}, {Why: "ticket 42"}} {
		if _, err := w.dead().Replay(context.Background(), consumer.Replay{By: by}); err == nil {
			t.Errorf("replayed by %+v", by)
		}
	}
	if _, err := (&consumer.DeadLetters{}).Replay(context.Background(), consumer.Replay{By: by}); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("without fields: %v", err)
	}
}

// onQueue are the messages that wait on a plain queue.
func (w *world) onQueue() []*azservicebus.ReceivedMessage {
	w.t.Helper()
	receiver, err := w.client.NewReceiverForQueue(queue, nil)
	w.must(err)
	defer receiver.Close(context.Background())
	messages, err := receiver.PeekMessages(context.Background(), 100, nil)
	w.must(err)
	if len(messages) == 0 {
		w.t.Fatal("nothing is on the queue")
	}
	return messages
}
