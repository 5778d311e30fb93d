package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/store"
)

func TestReopen(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	fail := func(f fixture, outcome func(store.Ref, int64) store.Outcome) {
		f.run(message(action1, 1), outcome)
		f.clock.advance(5 * time.Second)
		f.run(copyOf(message(action1, 1), 2), expired)
	}
	t.Run("nothing arrived", func(t *testing.T) {
		each(t, func(t *testing.T, f fixture) {
			fail(f, noListener)
			if err := f.Reopen(ctx, store.Replay{ProviderID: provider, ActionID: action1, BodySHA256: digest2, Mended: true, DeadLetter: 2}, by); err != nil {
				t.Fatal(err)
			}
			a := f.action(action1)
			same(t, "status", a.Status, store.Pending)
			same(t, "counts", []int{a.Attempts, a.RetryCount, a.PostponeCount, len(f.attempts(action1))}, []int{1, 0, 0, 1})
			same(t, "left over", []bool{a.FailedAt != nil, a.Reason != nil, a.NextRetryAt != nil, a.Settlement != nil}, make([]bool, 4))
			f.claim(copyOf(message(action1, 2), 3), store.OtherContent)
			d := copyOf(message(action1, 2), 3)
			d.BodySHA256 = digest2
			same(t, "history", f.claim(d, store.Claimed).History, store.History{})
			entry := f.audit(action1)[0]
			same(t, "audit", []string{entry.Who, entry.Verb, entry.Why, entry.Detail}, []string{"ada", "replay", "ticket 42", "dead letter 2, Expired; content 1111 replaced by 2222"})
		})
	})
	t.Run("may have arrived: evidence stays, the count starts anew", func(t *testing.T) {
		each(t, func(t *testing.T, f fixture) {
			fail(f, timedOut)
			if err := f.Reopen(ctx, store.Replay{ProviderID: provider, ActionID: action1, BodySHA256: digest2, Mended: true, DeadLetter: 2}, by); !errors.Is(err, store.ErrMayHaveArrived) {
				t.Error("mended:", err)
			}
			if err := f.Reopen(ctx, store.Replay{ProviderID: provider, ActionID: action1, BodySHA256: digest1, DeadLetter: 2}, by); err != nil {
				t.Fatal(err)
			}
			same(t, "status", f.action(action1).Status, store.Sent)
			same(t, "history", f.claim(copyOf(message(action1, 2), 3), store.Claimed).History, store.History{Unanswered: []string{gateway}})
		})
	})
}

func TestResolve(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	each(t, func(t *testing.T, f fixture) {
		f.run(message(action1, 1), timedOut)
		if err := f.Resolve(ctx, provider, action1, store.Failed, by); err != nil {
			t.Fatal(err)
		}
		a := f.action(action1)
		same(t, "failed", []any{a.Status, value(a.Reason), a.NextRetryAt == nil, a.HoldsAccession}, []any{store.Failed, "Resolved", true, true})
		f.claim(message(action1, 1), store.AlreadyFailed) // not the retry that was recorded
		if err := f.Resolve(ctx, provider, action1, store.Confirmed, by); err != nil {
			t.Fatal(err)
		}
		a = f.action(action1)
		same(t, "confirmed", []any{a.Status, a.Reason == nil, a.FailedAt == nil, a.LastError == nil}, []any{store.Confirmed, true, true, true})
		f.claim(message(action1, 1), store.AlreadyConfirmed)
		same(t, "evidence", f.attempts(action1)[0].Sent, store.SentMaybe)
		same(t, "audit", []string{f.audit(action1)[0].Detail, f.audit(action1)[1].Detail}, []string{"sent to failed", "failed to confirmed"})

		f.run(message(action2, 2), expired)
		if err := f.Resolve(ctx, provider, action2, store.Confirmed, by); !errors.Is(err, store.ErrAccessionHeld) {
			t.Error(err)
		}
		if err := f.Resolve(ctx, provider, action2, store.Sent, by); err == nil {
			t.Error("resolved as sent")
		}
	})
}

func TestWithdraw(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	each(t, func(t *testing.T, f fixture) {
		f.run(message(action1, 1), noListener)
		if err := f.Withdraw(ctx, provider, action1, by); err != nil {
			t.Fatal(err)
		}
		c := f.claim(copyOf(message(action1, 1), 2), store.AlreadyFailed)
		same(t, "reason", value(c.Action.Reason), store.Withdrawn)
		if err := f.Withdraw(ctx, provider, action1, by); err == nil {
			t.Error("withdrew what had ended")
		}
		f.run(message(action2, 3), timedOut)
		if err := f.Withdraw(ctx, provider, action2, by); !errors.Is(err, store.ErrMayHaveArrived) {
			t.Error(err)
		}
		// A crash after the sent mark counts, though nobody has archived it yet.
		f.mark(f.claim(copyOf(message(action2, 3), 4), store.Claimed).Ref())
		lost := message(action3, 5)
		lost.AccessionNumber = "ACC20260302CD34"
		f.mark(f.claim(lost, store.Claimed).Ref())
		f.clock.advance(lease)
		if err := f.Withdraw(ctx, provider, action3, by); !errors.Is(err, store.ErrMayHaveArrived) {
			t.Error(err)
		}
	})
}

func TestOperatorsAreRefused(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	each(t, func(t *testing.T, f fixture) {
		verbs := map[string]func(providerID, actionID string) error{
			"reopen": func(p, a string) error {
				return f.Reopen(ctx, store.Replay{ProviderID: p, ActionID: a, BodySHA256: digest1, DeadLetter: 2}, by)
			},
			"resolve":  func(p, a string) error { return f.Resolve(ctx, p, a, store.Failed, by) },
			"withdraw": func(p, a string) error { return f.Withdraw(ctx, p, a, by) },
		}
		f.run(message(action1, 1), confirmed)
		f.claim(message(action2, 2), store.Claimed)
		before := []store.Action{f.action(action1), f.action(action2)}
		for name, verb := range verbs {
			for _, test := range []struct {
				provider, action string
				want             error
			}{
				{provider, action1, store.ErrConfirmed},
				{provider, action2, store.ErrClaimed},
				{"york", action2, store.ErrNoAction},
				{"", action2, store.ErrNoAction},
				{provider, action3, store.ErrNoAction},
			} {
				if err := verb(test.provider, test.action); !errors.Is(err, test.want) {
					t.Errorf("%s: %v, want %v", name, err, test.want)
				}
			}
		}
		same(t, "rows", []store.Action{f.action(action1), f.action(action2)}, before)
	})
}

func TestAudit(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		f.run(message(action1, 1), expired)
		id := action1
		entry := store.AuditEntry{Who: "ada", Verb: "discard", ProviderID: provider, ActionID: &id, Why: "test\x00data"}
		if err := f.Audit(context.Background(), entry); err != nil {
			t.Fatal(err)
		}
		entry.ID, entry.At, entry.Why = 1, start, "test\uFFFDdata"
		same(t, "audit", f.audit(action1), []store.AuditEntry{entry})
	})
}
