package store_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// queue is a SQLite store whose writes wait until the test lets them, all together.
type queue struct {
	fixture
	*driven
	t    *testing.T
	free func() // ends the lock that they wait for
}

// patient has SQLite wait for another process for as long as it takes.
var patient = store.WithWaits(func(w *store.Waits) { w.Busy = 4 * time.Minute })

func newQueue(t *testing.T) *queue {
	f, d := openDriven(t, storetest.URL(t, "sqlite"), patient)
	return &queue{fixture: f, driven: d, t: t}
}

// hold makes writes wait, as another process would.
func (q *queue) hold() {
	q.t.Helper()
	conn, err := raw(q.t, q.url).Conn(context.Background())
	if err != nil {
		q.t.Fatal(err)
	}
	if _, err := conn.ExecContext(context.Background(), "BEGIN IMMEDIATE"); err != nil {
		q.t.Fatal(err)
	}
	q.free = func() {
		if _, err := conn.ExecContext(context.Background(), "ROLLBACK"); err != nil {
			q.t.Error(err)
		}
		if err := conn.Close(); err != nil {
			q.t.Error(err)
		}
	}
}

// start begins writes one after the other and returns when all wait; answers
// frees them and returns what each was told.
func (q *queue) start(writes ...func() error) (answers func() []error) {
	q.t.Helper()
	q.hold()
	errs := make([]error, len(writes))
	var wait sync.WaitGroup
	for i, write := range writes {
		wait.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					errs[i] = fmt.Errorf("panicked: %v", p)
				}
			}()
			errs[i] = write()
		})
		await(q.t, func() bool { return q.Waiting() == i+1 })
	}
	return func() []error {
		q.free()
		wait.Wait()
		return errs
	}
}

func (q *queue) marking(ref store.Ref) func() error {
	return func() error { return q.MarkSent(context.Background(), ref, gateway, lease) }
}

// claims makes n claimed actions, each with an accession number of its own.
func (q *queue) claims(n int) (refs []store.Ref) {
	q.t.Helper()
	for i := range n {
		d := message(fmt.Sprintf("00000000-0000-4000-8000-%012d", i), int64(i+1))
		d.AccessionNumber = fmt.Sprint("ACC", i)
		refs = append(refs, q.claim(d, store.Claimed).Ref())
	}
	return refs
}

func (q *queue) statuses(refs []store.Ref) (all []store.Status) {
	for _, ref := range refs {
		all = append(all, q.action(ref.ActionID).Status)
	}
	return all
}

func TestWritesThatWaitShareATransaction(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	refs := q.claims(4)
	answers := q.start(q.marking(refs[0]), q.marking(refs[1]), q.marking(refs[2]), q.marking(refs[3]))
	statements, transactions := q.since(func() {
		same(t, "errors", answers(), make([]error, 4))
	})
	same(t, "statements, transactions", []int{statements, transactions}, []int{4, 1})
	same(t, "statuses", q.statuses(refs), []store.Status{store.Sent, store.Sent, store.Sent, store.Sent})
}

// What a write merely finds out costs nobody the shared transaction.
func TestRefusedInASharedTransaction(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	a, b := q.claim(message(action1, 1), store.Claimed).Ref(), q.claim(message(action2, 2), store.Claimed).Ref()
	stale := a
	stale.Attempt = 7
	answers := q.start(q.marking(stale), q.marking(b), q.marking(a), func() error {
		return q.Release(context.Background(), b) // which is marked by then
	})
	var errs []error
	statements, transactions := q.since(func() { errs = answers() })
	same(t, "statements, transactions", []int{statements, transactions}, []int{4, 1})
	for i, want := range []error{store.ErrStale, nil, store.ErrAccessionHeld, store.ErrStale} {
		if !errors.Is(errs[i], want) {
			t.Errorf("write %d: %v, want %v", i, errs[i], want)
		}
	}
	same(t, "statuses", q.statuses([]store.Ref{a, b}), []store.Status{store.Pending, store.Sent})
}

// Two claims of one action in one transaction: one is Claimed, as ever.
func TestClaimsInASharedTransaction(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	claims := make([]store.Claim, 3)
	claiming := func(i int, d store.Delivery) func() error {
		return func() (err error) { claims[i], err = q.Claim(context.Background(), d); return err }
	}
	later := message(action2, 9)
	same(t, "errors", q.start(claiming(0, message(action1, 1)), claiming(1, message(action1, 1)), claiming(2, later))(), make([]error, 3))
	same(t, "verdicts", []store.Verdict{claims[0].Verdict, claims[1].Verdict, claims[2].Verdict}, []store.Verdict{store.Claimed, store.Busy, store.Claimed})
	if earlier := claims[2].Earlier; earlier == nil || earlier.ActionID != action1 {
		t.Errorf("earlier %+v, want the one that was claimed before it", earlier)
	}
}

// A write that fails, a driver that panics in one, and commits that fail harm
// nobody else.
func TestFaultInASharedTransaction(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, test := range []struct {
		name string
		harm func(q *queue, bad *store.Outcome)
		bad  bool // the second write is refused
	}{
		{"a write fails", func(_ *queue, bad *store.Outcome) { bad.Settlement = "lost" }, true},
		{"a write panics", func(q *queue, bad *store.Outcome) {
			bad.Error, q.at, q.do = "boom", "boom", func() { panic("as it was told") }
		}, true},
		{"the commit fails", func(q *queue, _ *store.Outcome) { q.failCommits = 1 }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			q := newQueue(t)
			refs := q.claims(3)
			var writes []func() error
			for i, ref := range refs {
				o := confirmed(ref, int64(i+1))
				if i == 1 {
					test.harm(q, &o)
				}
				writes = append(writes, func() error { return q.Record(ctx, o) })
			}
			errs := q.start(writes...)()
			if errs[0] != nil || errs[2] != nil || test.bad != (errs[1] != nil) {
				t.Error(errs)
			}
			want := []store.Status{store.Confirmed, store.Confirmed, store.Confirmed}
			if test.bad {
				want[1] = store.Pending
			}
			same(t, "statuses", q.statuses(refs), want)
			for i, ref := range refs {
				same(t, "attempts", len(q.attempts(ref.ActionID)) == 1, want[i] == store.Confirmed)
			}
			q.claim(message(action1, 10), store.Claimed) // the connection is good
		})
	}
}

// One whose commit fails alone is told so, and nothing of it is there.
func TestFailedCommitIsTold(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	ref := q.claims(1)[0]
	q.failCommits = 1
	if err := q.MarkSent(context.Background(), ref, gateway, lease); !store.Unavailable(err) {
		t.Error(err)
	}
	same(t, "status", q.action(ref.ActionID).Status, store.Pending)
	q.mark(ref)
}

// A context that ends while its write waits takes out that write and no other,
// also where its caller was to lead.
func TestContextOfAWriteThatWaits(t *testing.T) {
	t.Parallel()
	for gone := range 3 {
		t.Run(fmt.Sprint(gone), func(t *testing.T) {
			q := newQueue(t)
			refs := q.claims(3)
			ctx, cancel := context.WithCancel(context.Background())
			writes := []func() error{q.marking(refs[0]), q.marking(refs[1]), q.marking(refs[2])}
			writes[gone] = func() error { return q.MarkSent(ctx, refs[gone], gateway, lease) }
			answers := q.start(writes...)
			cancel()
			await(t, func() bool { return q.Waiting() == 2 })
			want := []store.Status{store.Sent, store.Sent, store.Sent}
			want[gone] = store.Pending
			for i, err := range answers() {
				if i == gone != errors.Is(err, context.Canceled) || i != gone && err != nil {
					t.Errorf("write %d: %v", i, err)
				}
			}
			same(t, "statuses", q.statuses(refs), want)
		})
	}
}

// A context that ends when the transaction is under way ends nothing, not even the
// write of its own caller, who leads.
func TestContextOfAWriteThatHasBegun(t *testing.T) {
	t.Parallel()
	for gone := range 2 {
		t.Run(fmt.Sprint(gone), func(t *testing.T) {
			q := newQueue(t)
			refs := q.claims(3)
			ctx, cancel := context.WithCancel(context.Background())
			writes := []func() error{q.marking(refs[0]), q.marking(refs[1]), q.marking(refs[2])}
			writes[gone] = func() error { return q.MarkSent(ctx, refs[gone], gateway, lease) }
			q.at, q.do = refs[1].ActionID, cancel
			answers := q.start(writes...)
			_, transactions := q.since(func() { same(t, "errors", answers(), make([]error, 3)) })
			same(t, "transactions", transactions, 1)
			same(t, "statuses", q.statuses(refs), []store.Status{store.Sent, store.Sent, store.Sent})
		})
	}
}

// A context that ends between the last statement of a transaction and its commit is
// the error: a deadline says that the same call may succeed later.
func TestContextEndsBeforeACommit(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	for i, ref := range q.claims(100) { // in some of them database/sql takes the transaction back before it is asked to commit it
		ctx, cancel := context.WithCancel(context.Background())
		statements := 0
		q.after = func() {
			if statements++; statements == 2 {
				cancel()
				runtime.Gosched()
			}
		}
		if err := q.Abandon(ctx, ref); !errors.Is(err, context.Canceled) {
			t.Fatal(i, err)
		}
		q.after = nil
		same(t, "claim", q.action(ref.ActionID).ClaimedUntil != nil, true)
	}
}

// A crowd of callers, some of whom give up or fail, against what each was told.
func TestCrowdSharesTransactions(t *testing.T) {
	t.Parallel()
	f, d := openDriven(t, storetest.URL(t, "sqlite"))
	const callers, rounds = 24, 6
	told := make([]map[string]store.Status, callers) // what each knows of its actions
	var wait sync.WaitGroup
	for caller := range callers {
		told[caller] = map[string]store.Status{}
		wait.Go(func() {
			for round := range rounds {
				d := message(fmt.Sprintf("00000000-0000-4000-8000-%06d%06d", caller, round), int64(caller*rounds+round+1))
				d.AccessionNumber = fmt.Sprint("ACC", caller/2, "/", round) // two callers want each
				if status := oneOfCrowd(f, d, caller%5); status != "" {
					told[caller][d.ActionID] = status
				}
			}
		})
	}
	statements, transactions := d.since(wait.Wait)
	if transactions >= statements {
		t.Errorf("%d statements in %d transactions", statements, transactions)
	}
	holders := map[string]int{}
	for _, known := range told {
		for id, status := range known {
			a := f.action(id)
			same(t, id, a.Status, status)
			if a.HoldsAccession {
				holders[a.AccessionNumber]++
			}
		}
	}
	for number, n := range holders {
		same(t, number, n, 1)
	}
}

// oneOfCrowd sees one action through and says how far it certainly came; "" for
// an action that met another of its accession number.
func oneOfCrowd(f fixture, d store.Delivery, kind int) store.Status {
	ctx := context.Background()
	c, err := f.Claim(ctx, d)
	if err != nil {
		f.t.Errorf("claim: %v", err)
		return ""
	}
	if kind == 4 {
		short, cancel := context.WithTimeout(ctx, time.Microsecond)
		defer cancel()
		if f.Release(short, c.Ref()) == nil {
			return store.Pending
		}
		return ""
	}
	switch err := f.MarkSent(ctx, c.Ref(), gateway, lease); {
	case errors.Is(err, store.ErrAccessionHeld):
		return store.Pending
	case err != nil:
		f.t.Errorf("mark: %v", err)
		return ""
	}
	o := confirmed(c.Ref(), d.SequenceNumber)
	if kind == 3 {
		o.Sent = "nonsense"
	}
	if err := f.Record(ctx, o); (err != nil) != (kind == 3) {
		f.t.Errorf("record: %v", err)
	}
	if kind == 3 {
		return store.Sent
	}
	return store.Confirmed
}
