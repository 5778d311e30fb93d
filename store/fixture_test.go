package store_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

const (
	action1  = "11111111-1111-4111-8111-111111111111"
	action2  = "22222222-2222-4222-8222-222222222222"
	action3  = "33333333-3333-4333-8333-333333333333"
	digest1  = "1111"
	digest2  = "2222"
	provider = "leeds"
	gateway  = "ns.servicebus.windows.net/hc-leeds"
	lease    = time.Minute
)

var start = time.Date(2026, 3, 2, 9, 0, 0, 123456000, time.UTC)

// clock is a time that the test moves.
type clock struct {
	mu sync.Mutex // guards at
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
	return c.at
}

// failer is what the helpers need of a test, and rapid has too.
type failer interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

// fixture is an open store whose calls fail the test.
type fixture struct {
	*store.Store
	t     failer
	clock *clock
	url   string
}

func open(t testing.TB, url string) fixture {
	t.Helper()
	c := &clock{at: start}
	return fixture{storetest.Open(t, url, store.WithClock(c.now)), t, c, url}
}

func each(t *testing.T, test func(t *testing.T, f fixture)) {
	t.Helper()
	storetest.Each(t, func(t *testing.T, url string) {
		test(t, open(t, url))
	})
}

// message is a create's first message, number sequence on the queue.
func message(actionID string, sequence int64) store.Delivery {
	return store.Delivery{
		ActionID: actionID, ActionType: "worklist.create_item", Create: true,
		ProviderID: provider, AccessionNumber: "ACC20260302AB12", BodySHA256: digest1,
		SequenceNumber: sequence, OriginalSequence: sequence, EnqueuedAt: start.Add(-time.Second), Lease: lease,
	}
}

// copyOf is the scheduled copy of d under a new number.
func copyOf(d store.Delivery, sequence int64) store.Delivery {
	d.CopiedFrom, d.SequenceNumber = d.SequenceNumber, sequence
	return d
}

func (f fixture) claim(d store.Delivery, want store.Verdict) store.Claim {
	f.t.Helper()
	c, err := f.Claim(context.Background(), d)
	if err != nil {
		f.t.Fatal(err)
	}
	if c.Verdict != want {
		f.t.Fatalf("claim of message %d: %v, want %v", d.SequenceNumber, c.Verdict, want)
	}
	return c
}

func (f fixture) mark(ref store.Ref) {
	f.t.Helper()
	if err := f.MarkSent(context.Background(), ref, gateway, lease); err != nil {
		f.t.Fatal(err)
	}
}

func (f fixture) record(o store.Outcome) {
	f.t.Helper()
	if err := f.Record(context.Background(), o); err != nil {
		f.t.Fatal(err)
	}
}

// run claims a message, marks it sent unless the outcome says no, and records.
func (f fixture) run(d store.Delivery, outcome func(store.Ref, int64) store.Outcome) store.Outcome {
	f.t.Helper()
	o := outcome(f.claim(d, store.Claimed).Ref(), d.SequenceNumber)
	if o.Sent != store.SentNo {
		f.mark(o.Ref)
	}
	f.record(o)
	return o
}

func (f fixture) action(actionID string) store.Action {
	f.t.Helper()
	a, _, _, err := f.Action(context.Background(), "", actionID)
	if err != nil {
		f.t.Fatal(err)
	}
	return a
}

func (f fixture) attempts(actionID string) []store.Attempt {
	f.t.Helper()
	_, attempts, _, err := f.Action(context.Background(), "", actionID)
	if err != nil {
		f.t.Fatal(err)
	}
	return attempts
}

func (f fixture) audit(actionID string) []store.AuditEntry {
	f.t.Helper()
	_, _, audit, err := f.Action(context.Background(), "", actionID)
	if err != nil {
		f.t.Fatal(err)
	}
	return audit
}

func confirmed(ref store.Ref, sequence int64) store.Outcome {
	return store.Outcome{
		Ref: ref, SequenceNumber: sequence, Status: store.Confirmed, Settlement: store.Complete,
		Relay: gateway, Sent: store.SentYes, Answered: true, Spent: true,
	}
}

// timedOut is an ack that never came, to be tried again in five seconds.
func timedOut(ref store.Ref, sequence int64) store.Outcome {
	return store.Outcome{
		Ref: ref, SequenceNumber: sequence, Status: store.Sent, Settlement: store.Retry, NextRetryAt: start.Add(5 * time.Second),
		Phase: "ack_timeout", Error: "ack hc-leeds: none within 35 s", Relay: gateway, Sent: store.SentMaybe, Spent: true,
	}
}

// noListener is a failure that certainly sent nothing.
func noListener(ref store.Ref, sequence int64) store.Outcome {
	return store.Outcome{
		Ref: ref, SequenceNumber: sequence, Status: store.Pending, Settlement: store.Retry, NextRetryAt: start.Add(5 * time.Second),
		Phase: "no_listener", Error: "connect hc-leeds: 404 no listener", Code: 404, Relay: gateway, Sent: store.SentNo, Spent: true,
	}
}

func postponed(ref store.Ref, sequence int64) store.Outcome {
	return store.Outcome{
		Ref: ref, SequenceNumber: sequence, Status: store.Pending, Settlement: store.Postpone, NextRetryAt: start.Add(30 * time.Second), Sent: store.SentNo,
	}
}

func expired(ref store.Ref, sequence int64) store.Outcome {
	return store.Outcome{
		Ref: ref, SequenceNumber: sequence, Status: store.Failed, Settlement: store.DeadLetter,
		Reason: "Expired", Description: "the clinic day is over", Sent: store.SentNo,
	}
}

func same[T any](t failer, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
