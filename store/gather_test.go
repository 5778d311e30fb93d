package store_test

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jmoiron/sqlx"

	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// together does writes that are gathered, and returns what each was told.
func (f fixture) together(t *testing.T, writes ...func() error) []error {
	t.Helper()
	release := f.Gathering()
	errs := make([]error, len(writes))
	var wait sync.WaitGroup
	for i, write := range writes {
		wait.Go(func() { errs[i] = write() })
		await(t, func() bool { return f.Waiting() == i+1 })
	}
	release()
	wait.Wait()
	return errs
}

// openGathering is PostgreSQL, with the driver's calls seen. A statement for several
// takes as long as it needs.
func openGathering(t *testing.T) (fixture, *driven) {
	t.Helper()
	return openDriven(t, storetest.URL(t, "postgres"), within(4*time.Minute))
}

// within bounds a statement for several, and how long it waits for a row.
func within(limit time.Duration) store.Option {
	return store.WithWaits(func(w *store.Waits) { w.Gather, w.Stay = limit, 4*time.Minute })
}

// claimed makes n claimed actions, each with an accession number of its own.
func (f fixture) claimed(n int) (refs []store.Ref) {
	f.t.Helper()
	for i := range n {
		refs = append(refs, f.claim(nth(int64(i+1)), store.Claimed).Ref())
	}
	return refs
}

func (f fixture) marking(ref store.Ref) func() error {
	return func() error { return f.MarkSent(context.Background(), ref, gateway, lease) }
}

// wantErrors compares what writes were told.
func wantErrors(t *testing.T, got []error, want ...error) {
	t.Helper()
	for i := range want {
		if !errors.Is(got[i], want[i]) {
			t.Errorf("write %d: %v, want %v", i, got[i], want[i])
		}
	}
}

// gathers takes n actions from claim to record, with one statement a step, and
// returns their ids. around does each step.
func (f fixture) gathers(t *testing.T, first, n int, around func(step func())) (ids []string) {
	t.Helper()
	var claims, marks, records []func() error
	refs := make([]store.Ref, n)
	for i := range n {
		sequence := int64(first + i)
		ids = append(ids, nth(sequence).ActionID)
		claims = append(claims, func() error {
			c, err := f.Claim(context.Background(), nth(sequence))
			refs[i] = c.Ref()
			if err == nil && c.Verdict != store.Claimed {
				err = errors.New(c.Verdict.String())
			}
			return err
		})
		marks = append(marks, func() error { return f.marking(refs[i])() })
		records = append(records, func() error { return f.Record(context.Background(), confirmed(refs[i], sequence)) })
	}
	for _, step := range [][]func() error{claims, marks, records} {
		around(func() { wantErrors(t, f.together(t, step...), make([]error, n)...) })
	}
	return ids
}

func TestGathered(t *testing.T) {
	t.Parallel()
	f, d := openGathering(t)
	ids := f.gathers(t, 1, 5, func(step func()) {
		statements, transactions := d.since(step)
		same(t, "statements, transactions", []int{statements, transactions}, []int{1, 1})
	})
	for _, id := range ids {
		same(t, "status", f.action(id).Status, store.Confirmed)
	}
}

// TestGatheredAlike: what a statement for several writes is what one for each does.
func TestGatheredAlike(t *testing.T) {
	t.Parallel()
	outcomes := []func(store.Ref, int64) store.Outcome{confirmed, timedOut, noListener, func(ref store.Ref, sequence int64) store.Outcome {
		o := timedOut(ref, math.MaxInt64-1)
		o.Error, o.Description, o.Code = "quoted \"'\\ ü \u2028 <&> {FROM each} $1\n", "déjà vu", 1006
		o.Timings = store.Timings{DNS: 1500, Connect: time.Second, TLS: time.Microsecond, Ack: time.Hour, Reused: true}
		return o
	}, func(ref store.Ref, sequence int64) store.Outcome {
		o := confirmed(ref, sequence)
		o.Status, o.Settlement, o.Reason, o.Phase = store.Failed, store.DeadLetter, "GatewayRejected", "ack_error"
		return o
	}}
	var rows [2][]any
	for i, gathered := range []bool{false, true} {
		f, _ := openGathering(t)
		do := func(writes ...func() error) {
			if gathered {
				wantErrors(t, f.together(t, writes...), make([]error, len(writes))...)
				return
			}
			for _, write := range writes {
				f.must(write())
			}
		}
		setting := `main "x" \`
		refs := make([]store.Ref, len(outcomes))
		var claims, marks, records []func() error
		for i, outcome := range outcomes {
			d := nth(int64(i + 1))
			d.OriginalSequence = math.MaxInt64 - int64(i)
			if i%2 == 0 {
				d.SettingID, d.ExpiresAt, d.Create = &setting, start.Add(time.Hour), false
			}
			claims = append(claims, func() error {
				c, err := f.Claim(context.Background(), d)
				refs[i] = c.Ref()
				return err
			})
			marks = append(marks, func() error { return f.MarkSent(context.Background(), refs[i], `ns/"hc"`, lease) })
			records = append(records, func() error { return f.Record(context.Background(), outcome(refs[i], int64(i+1))) })
		}
		do(claims...)
		do(marks...)
		do(records...)
		for _, ref := range refs {
			action, attempts, audit, err := f.Action(context.Background(), provider, ref.ActionID)
			f.must(err)
			rows[i] = append(rows[i], action, attempts, audit)
		}
	}
	if diff := cmp.Diff(rows[0], rows[1]); diff != "" {
		t.Error("each by itself (-), gathered (+):", diff)
	}
}

// TestGatheredRefusals: what one may not write costs nobody else theirs.
func TestGatheredRefusals(t *testing.T) {
	t.Parallel()
	f, _ := openGathering(t)
	refs := f.claimed(3)
	stale := refs[0]
	stale.Attempt = 7
	wantErrors(t, f.together(t, f.marking(refs[0]), f.marking(stale), f.marking(refs[1])), nil, store.ErrStale, nil)

	// Two creates of one accession number: the whole statement fails.
	one, other := withAccession(nth(11), "SYN-ONE"), withAccession(nth(12), "SYN-ONE")
	a, b := f.claim(one, store.Claimed).Ref(), f.claim(other, store.Claimed).Ref()
	errs := f.together(t, f.marking(a), f.marking(b), f.marking(refs[2]))
	if held := errors.Is(errs[0], store.ErrAccessionHeld); held == errors.Is(errs[1], store.ErrAccessionHeld) || errs[2] != nil {
		t.Errorf("marks of one accession number and of another: %v", errs)
	}
	same(t, "statuses", []store.Status{f.action(refs[0].ActionID).Status, f.action(refs[1].ActionID).Status, f.action(refs[2].ActionID).Status},
		[]store.Status{store.Sent, store.Sent, store.Sent})
}

// TestGatheredClaimsOfOneAction: one of them is claimed, whichever.
func TestGatheredClaimsOfOneAction(t *testing.T) {
	t.Parallel()
	f, _ := openGathering(t)
	verdicts := make([]store.Verdict, 4)
	var claims []func() error
	for i := range verdicts {
		d := nth(1)
		if i == 3 {
			d = nth(2)
		}
		claims = append(claims, func() error {
			c, err := f.Claim(context.Background(), d)
			verdicts[i] = c.Verdict
			return err
		})
	}
	wantErrors(t, f.together(t, claims...), nil, nil, nil, nil)
	counts := map[store.Verdict]int{}
	for _, v := range verdicts {
		counts[v]++
	}
	same(t, "verdicts", counts, map[store.Verdict]int{store.Claimed: 2, store.Busy: 2})
}

// TestGatheredBesideALock: a row that somebody else locks holds up its own write
// alone, in the end.
func TestGatheredBesideALock(t *testing.T) {
	t.Parallel()
	f, _ := openDriven(t, storetest.URL(t, "postgres"), within(100*time.Millisecond))
	refs := f.claimed(3)
	tx, err := raw(t, f.url).Beginx()
	f.must(err)
	if _, err := tx.Exec("SELECT 1 FROM actions WHERE action_id = $1 FOR UPDATE", refs[1].ActionID); err != nil {
		t.Fatal(err)
	}
	var others sync.WaitGroup
	others.Add(2)
	marking := func(ref store.Ref) func() error {
		return func() error {
			defer others.Done()
			return f.marking(ref)()
		}
	}
	locked := f.marking(refs[1])
	go func() {
		others.Wait()
		f.must(tx.Rollback()) // only now
	}()
	wantErrors(t, f.together(t, marking(refs[0]), locked, marking(refs[2])), nil, nil, nil)
}

// TestGatheredAndGone: who does not wait any longer harms nobody, and what had not
// begun is not written.
func TestGatheredAndGone(t *testing.T) {
	t.Parallel()
	f, _ := openGathering(t)
	refs := f.claimed(3)
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan struct{})
	leaving := func(ref store.Ref) func() error {
		return func() error {
			defer func() { gone <- struct{}{} }()
			return f.MarkSent(ctx, ref, gateway, lease)
		}
	}
	release := f.Gathering()
	errs := make([]error, 3)
	var wait sync.WaitGroup
	for i, write := range []func() error{leaving(refs[0]), f.marking(refs[1]), f.marking(refs[2])} {
		wait.Go(func() { errs[i] = write() })
		await(t, func() bool { return f.Waiting() == i+1 })
	}
	cancel()
	<-gone
	release()
	wait.Wait()
	wantErrors(t, errs, context.Canceled, nil, nil)
	same(t, "status of what was left", f.action(refs[0].ActionID).Status, store.Pending)
	f.mark(refs[0])
}

// leaving is a context that ends while a statement is under way, which tx keeps
// waiting until then.
func (f fixture) leaving(t *testing.T, d *driven, tx *sqlx.Tx) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		await(t, func() bool { return d.under() })
		cancel()
		f.must(tx.Rollback())
	}()
	return ctx
}

// TestGatheredByOneWhoLeaves: the end of its leader's context does not end a
// statement that others are in.
func TestGatheredByOneWhoLeaves(t *testing.T) {
	t.Parallel()
	f, d := openGathering(t)
	refs := f.claimed(3)
	tx, err := raw(t, f.url).Beginx()
	f.must(err)
	if _, err := tx.Exec("SELECT 1 FROM actions WHERE action_id = $1 FOR UPDATE", refs[1].ActionID); err != nil {
		t.Fatal(err)
	}
	ctx := f.leaving(t, d, tx)
	statements, _ := d.since(func() {
		wantErrors(t, f.together(t, func() error { return f.MarkSent(ctx, refs[0], gateway, lease) }, f.marking(refs[1]), f.marking(refs[2])), nil, nil, nil)
	})
	same(t, "statements", statements, 1)
}

// TestGatheredClaimOfOneWhoLeaves: a claim that is made is known to its caller, who
// can give it up: the next delivery would find it busy until its lease ends.
func TestGatheredClaimOfOneWhoLeaves(t *testing.T) {
	t.Parallel()
	f, d := openGathering(t)
	tx, err := raw(t, f.url).Beginx()
	f.must(err)
	if _, err := tx.Exec("LOCK TABLE actions IN SHARE MODE"); err != nil {
		t.Fatal(err)
	}
	ctx := f.leaving(t, d, tx)
	claims := make([]store.Claim, 3)
	var writes []func() error
	for i := range claims {
		writes = append(writes, f.claiming(ctx, claims, i, nth(int64(i+1))))
	}
	statements, _ := d.since(func() { wantErrors(t, f.together(t, writes...), nil, nil, nil) })
	same(t, "statements", statements, 1)
	for _, c := range claims {
		same(t, "verdict", c.Verdict, store.Claimed)
		f.must(f.Release(context.Background(), c.Ref()))
	}
}
