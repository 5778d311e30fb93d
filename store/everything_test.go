package store_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/worklist-relay/worklist-relay/store"
)

// everything makes each statement of the store at least once, among rows that
// are there.
func (f fixture) everything(ctx context.Context) {
	f.t.Helper()
	f.deliveries()
	f.endings(ctx)
	f.service(ctx)
	f.relays(ctx)
	f.operators(ctx)
	f.listings(ctx)
	f.database(ctx)
}

func (f fixture) must(err error, wanted ...error) {
	f.t.Helper()
	for _, want := range wanted {
		if errors.Is(err, want) {
			return
		}
	}
	if err != nil || len(wanted) > 0 {
		f.t.Fatalf("%v, want %v", err, wanted)
	}
}

// nth is a create of its own accession number, never seen before.
func nth(n int64) store.Delivery {
	return withAccession(message(fmt.Sprintf("11111111-1111-4111-8111-%012d", n), n), fmt.Sprint("SYN", n))
}

// deliveries takes actions from their claim to each end that a delivery has.
func (f fixture) deliveries() {
	ctx := context.Background()
	refused := func(ref store.Ref, sequence int64) store.Outcome {
		o := confirmed(ref, sequence)
		o.Status, o.Settlement, o.Reason, o.Phase = store.Failed, store.DeadLetter, "GatewayRejected", "ack_error"
		return o
	}
	for i, outcome := range []func(store.Ref, int64) store.Outcome{confirmed, timedOut, noListener, postponed, expired, refused} {
		f.run(nth(int64(1+i)), outcome)
	}
	f.claim(nth(1), store.AlreadyConfirmed)
	f.claim(copyOf(nth(2), 20), store.Claimed) // with a history
	after := nth(5)
	after.SequenceNumber, after.OriginalSequence, after.EnqueuedAt = 29, 29, f.clock.advance(time.Second)
	f.claim(after, store.Claimed) // anew, as nothing was sent
	second := withAccession(nth(21), nth(1).AccessionNumber)
	f.must(f.MarkSent(ctx, f.claim(second, store.Claimed).Ref(), gateway, lease), store.ErrAccessionHeld)

	later := nth(23)
	stale := f.claim(nth(22), store.Claimed).Ref()
	f.mark(stale)
	f.clock.advance(2 * lease)
	f.claim(copyOf(nth(22), 24), store.Claimed) // what its lease left open
	f.record(confirmed(stale, 22))              // after all
	f.must(f.Record(ctx, timedOut(stale, 22)), store.ErrFinal)
	f.run(later, timedOut)
	later.OriginalSequence, later.SequenceNumber = 9, 25
	f.claim(later, store.Waiting) // and goes ahead

	f.must(f.Release(ctx, f.claim(nth(26), store.Claimed).Ref()))
	given := f.claim(nth(27), store.Claimed).Ref()
	f.mark(given)
	f.must(f.Abandon(ctx, given))
	f.must(f.RecordInvalid(ctx, store.Invalid{ActionID: nth(28).ActionID, Reason: "InvalidMessage", EnqueuedAt: start}))
}

// endings are of messages that the broker gave up.
func (f fixture) endings(ctx context.Context) {
	f.deadLettered(lost(nth(40).ActionID, 40), store.MarkedFailed) // has no row
	open := nth(41)
	f.mark(f.claim(open, store.Claimed).Ref())
	f.late(lease)
	f.deadLettered(lost(open.ActionID, 41), store.MarkedFailed)
	owed, err := f.OutcomesOwed(ctx, 10)
	f.must(err)
	f.must(f.OutcomeTold(ctx, owed[0]))
	f.must(f.OweOutcome(ctx, provider, nth(1).ActionID))
}

// service is what the service asks besides.
func (f fixture) service(ctx context.Context) {
	relay := store.Relay{ProviderID: provider, Namespace: "ns.servicebus.windows.net", HybridConnection: "hc-leeds"}
	f.must(f.AddRelay(ctx, relay, by))
	_, err := f.Relay(ctx, provider, nil)
	f.must(err)
	_, err = f.WorklistOutcome(ctx, provider, nth(1).ActionID)
	f.must(err)
	f.save(sick(gateway))
	f.health(gateway)
	_, err = f.TakeProbe(ctx, gateway, *sick(gateway).NextProbeAt, f.clock.now())
	f.must(err)
	_, err = f.Standings(ctx)
	f.must(err)
	_, err = f.CountOutcomesOwed(ctx)
	f.must(err)
	f.must(f.Writable(ctx))
}

func (f fixture) relays(ctx context.Context) {
	relay := store.Relay{ProviderID: "hull", Namespace: "ns.servicebus.windows.net", HybridConnection: "hc-hull"}
	f.must(f.ReplaceRelay(ctx, relay, by))
	changed, fresh := relay, relay
	changed.HybridConnection, fresh.ProviderID = "hc-hull-2", "york"
	_, _, err := f.PutRelays(ctx, []store.Relay{changed, fresh}, true, by)
	f.must(err)
	f.must(f.RemoveRelay(ctx, "york", nil, by))
	f.must(f.HoldGateway(ctx, gateway, by))
	f.must(f.ReleaseGateway(ctx, gateway, by))
	_, err = f.RelayAudit(ctx, gateway)
	f.must(err)
	_, err = f.Healths(ctx)
	f.must(err)
	for _, of := range []string{"", provider} {
		_, err = f.Relays(ctx, of)
		f.must(err)
	}
	_, err = f.Traffic(ctx, time.Now().Add(-time.Hour))
	f.must(err)
}

// operators is what people do to actions.
func (f fixture) operators(ctx context.Context) {
	f.run(nth(60), noListener)
	f.clock.advance(5 * time.Second)
	f.run(copyOf(nth(60), 61), expired)
	again := store.Replay{ProviderID: provider, ActionID: nth(60).ActionID, BodySHA256: digest2, Mended: true, DeadLetter: 61}
	f.must(f.Reopen(ctx, again, by))
	f.must(f.Withdraw(ctx, provider, nth(60).ActionID, by))
	f.run(nth(62), timedOut)
	f.must(f.Resolve(ctx, provider, nth(62).ActionID, store.Failed, by))
	f.must(f.Audit(ctx, store.AuditEntry{Who: "ada", Verb: "discard", ProviderID: provider, Why: "ticket 42"}))
}

// filters each set one field of a filter.
var filters = []store.ActionFilter{
	{}, {ProviderID: provider}, {Status: store.Failed}, {Relay: "hc-leeds"}, {AccessionNumber: "SYN1"}, {ActionID: nth(1).ActionID},
	{Reason: "Expired"}, {Phase: "ack_timeout"}, {Since: time.Now().Add(-time.Hour)}, {Until: time.Now().Add(-1000 * time.Hour)},
	{Overdue: start.Add(time.Minute)}, {Limit: 10},
}

func (f fixture) listings(ctx context.Context) {
	for _, filter := range filters {
		_, err := f.Actions(ctx, filter)
		f.must(err)
		_, err = f.CountActions(ctx, filter)
		f.must(err)
	}
	f.action(nth(1).ActionID)
	_, err := f.ActionsByID(ctx, []string{nth(1).ActionID, nth(2).ActionID})
	f.must(err)
	_, err = f.Counts(ctx)
	f.must(err)
}

// database is what is asked of the database itself.
func (f fixture) database(ctx context.Context) {
	f.must(f.Ping(ctx))
	f.must(f.TryWrite(ctx))
	f.must(f.CheckSchema(ctx))
	f.must(f.Migrate(ctx))
	_, _, err := f.Version(ctx)
	f.must(err)
	_, err = f.Inspect(ctx)
	f.must(err)
}
