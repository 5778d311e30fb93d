package store_test

import (
	"context"
	"errors"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// claiming claims into claims[i].
func (f fixture) claiming(ctx context.Context, claims []store.Claim, i int, d store.Delivery) func() error {
	return func() (err error) {
		claims[i], err = f.Claim(ctx, d)
		return err
	}
}

// TestGatheredClaimsWithALateAnswer: claims that were made are known to those who
// made them, also where the answer took longer than others would wait: else every
// one of them would look like another delivery's until its lease ends.
func TestGatheredClaimsWithALateAnswer(t *testing.T) {
	t.Parallel()
	server, address := startQuiet(t, storetest.URL(t, "postgres"))
	f, _ := openDriven(t, address, within(20*time.Millisecond))
	claims := make([]store.Claim, 3)
	release := server.hold()
	time.AfterFunc(200*time.Millisecond, release)
	wantErrors(t, f.together(t, f.claiming(t.Context(), claims, 0, nth(1)), f.claiming(t.Context(), claims, 1, nth(2)), f.claiming(t.Context(), claims, 2, nth(3))), nil, nil, nil)
	for _, c := range claims {
		same(t, "verdict", c.Verdict, store.Claimed)
	}
}

// inserting is a transaction that made the row of an action and has not ended.
func (f fixture) inserting(t *testing.T, actionID string) *sqlx.Tx {
	t.Helper()
	model := f.claim(nth(99), store.Claimed)
	tx, err := raw(t, f.url).Beginx()
	f.must(err)
	if _, err := tx.Exec(`INSERT INTO actions SELECT (json_populate_record(a, json_build_object('action_id', $1::text))).*
		FROM actions a WHERE action_id = $2`, actionID, model.Action.ActionID); err != nil {
		t.Fatal(err)
	}
	return tx
}

// TestGatheredClaimBesideAnInsert: claims do not stay for a row that only one of
// them needs, as they would for a late answer.
func TestGatheredClaimBesideAnInsert(t *testing.T) {
	t.Parallel()
	f, d := openDriven(t, storetest.URL(t, "postgres"), within(100*time.Millisecond))
	tx := f.inserting(t, nth(2).ActionID)
	others := make(chan struct{}, 2)
	go func() {
		<-others
		<-others
		f.must(tx.Rollback()) // only now
	}()
	claims := make([]store.Claim, 3)
	then := func(claim func() error) func() error {
		return func() error {
			defer func() { others <- struct{}{} }()
			return claim()
		}
	}
	wantErrors(t, f.together(t, then(f.claiming(t.Context(), claims, 0, nth(1))), f.claiming(t.Context(), claims, 1, nth(2)), then(f.claiming(t.Context(), claims, 2, nth(3)))), nil, nil, nil)
	for _, c := range claims {
		same(t, "verdict", c.Verdict, store.Claimed)
	}
	if fault, _ := errors.AsType[*pq.Error](d.refused); fault == nil || fault.Code != "55P03" { // lock_not_available
		t.Errorf("the statement for several ended with %v", d.refused)
	}
}

// TestGatheredInOrder: two processes that write the same rows do not wait for each
// other, whatever order their deliveries came in.
func TestGatheredInOrder(t *testing.T) {
	t.Parallel()
	f, d := openGathering(t)
	tx := f.inserting(t, nth(2).ActionID)
	address, err := url.Parse(f.url)
	f.must(err)
	query := address.Query()
	query.Set("application_name", "other "+query.Get("search_path"))
	address.RawQuery = query.Encode()
	other, also := openDriven(t, address.String(), within(4*time.Minute))
	watching := raw(t, f.url)

	mine, theirs := make([]store.Claim, 3), make([]store.Claim, 3)
	done := make(chan []error, 2)
	go func() {
		done <- f.together(t, f.claiming(t.Context(), mine, 0, nth(1)), f.claiming(t.Context(), mine, 1, nth(2)), f.claiming(t.Context(), mine, 2, nth(3)))
	}()
	await(t, d.under)
	go func() {
		done <- other.together(t, other.claiming(t.Context(), theirs, 0, nth(3)), other.claiming(t.Context(), theirs, 1, nth(2)), other.claiming(t.Context(), theirs, 2, nth(1)))
	}()
	await(t, func() (waits bool) {
		f.must(watching.Get(&waits, `SELECT EXISTS (SELECT 1 FROM pg_stat_activity a JOIN pg_locks l USING (pid)
			WHERE a.application_name = 'other ' || current_schema() AND NOT l.granted)`))
		return waits
	})
	f.must(tx.Rollback())
	wantErrors(t, <-done, nil, nil, nil)
	wantErrors(t, <-done, nil, nil, nil)
	for i := range mine {
		same(t, "verdicts", []store.Verdict{mine[i].Verdict, theirs[2-i].Verdict}, []store.Verdict{store.Claimed, store.Busy})
	}
	f.must(errors.Join(d.refused, also.refused))
}

// TestGatheredText: what is no text reaches no row as another text, neither as what
// is written nor as the name of the action.
func TestGatheredText(t *testing.T) {
	t.Parallel()
	f, _ := openGathering(t)
	refs := f.claimed(3)
	named := nth(11)
	named.ActionID = "x\uFFFD"
	ref := f.claim(named, store.Claimed).Ref()
	ref.ActionID = "x\xff"
	for i, bad := range []func() error{
		f.marking(ref),
		func() error { return f.MarkSent(context.Background(), refs[1], "ns/\xff", lease) },
		func() error { return f.MarkSent(context.Background(), refs[1], "ns/\x00", lease) },
	} {
		errs := f.together(t, f.marking(refs[0]), bad, f.marking(refs[2]))
		if errs[0] != nil || errs[1] == nil || errs[2] != nil {
			t.Errorf("write %d: %v", i, errs)
		}
	}
	for _, id := range []string{named.ActionID, refs[1].ActionID} {
		same(t, "status of "+id, f.action(id).Status, store.Pending)
	}
}

// TestGatheredAndCutOff: whatever answers are lost, what a caller was told is so, and
// of two deliveries at most one is claimed.
func TestGatheredAndCutOff(t *testing.T) {
	t.Parallel()
	f := open(t, storetest.URL(t, "postgres"))
	server, address := startQuiet(t, f.url)
	s := storetest.Open(t, address, store.WithClock(f.clock.now))
	server.cutting(4)

	actions, callers := 24, 8 // and as many again, for the second deliveries
	if suite.Long() {
		actions, callers = 120, 20
	}
	claimed, told := make([]atomic.Int32, actions), make([]atomic.Pointer[store.Status], actions)
	var wait sync.WaitGroup
	for caller := range 2 * callers {
		wait.Go(func() {
			for i := caller / 2; i < actions; i += callers {
				c, err := s.Claim(t.Context(), nth(int64(i+1)))
				if err != nil || c.Verdict != store.Claimed {
					continue // it may be claimed by nobody: an answer was lost
				}
				claimed[i].Add(1)
				told[i].Store(new(seen(t, s, c.Ref(), int64(i+1))))
			}
		})
	}
	wait.Wait()
	server.cutting(0)
	for i := range told {
		if n := claimed[i].Load(); n > 1 {
			t.Errorf("action %d was claimed %d times", i, n)
		}
		if status := told[i].Load(); status != nil {
			a := f.action(nth(int64(i + 1)).ActionID)
			same(t, "status, attempts", []any{a.Status, a.Attempt, len(f.attempts(a.ActionID))}, []any{*status, 1, 1})
		}
	}
}

// seen marks and records an attempt, each until it is told that it did.
func seen(t *testing.T, s *store.Store, ref store.Ref, sequence int64) store.Status {
	o := confirmed(ref, sequence)
	if sequence%2 == 0 {
		o = timedOut(ref, sequence)
	}
	for _, write := range []func() error{
		func() error { return s.MarkSent(t.Context(), ref, gateway, lease) },
		func() error { return s.Record(t.Context(), o) },
	} {
		err := write()
		for store.Unavailable(err) {
			err = write()
		}
		if err != nil {
			t.Errorf("attempt of message %d: %v", sequence, err)
		}
	}
	return o.Status
}
