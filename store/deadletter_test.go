package store_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// lost is a create's message, number sequence, after ten deliveries.
func lost(actionID string, sequence int64) store.Lost {
	return store.Lost{
		Invalid: store.Invalid{
			ActionID: actionID, ActionType: "worklist.create_item", ProviderID: provider, AccessionNumber: "ACC20260302AB12",
			Reason: "MaxDeliveryCountExceeded", Description: "ten deliveries", SequenceNumber: sequence, EnqueuedAt: start.Add(-time.Second),
		},
		BodySHA256: digest1,
	}
}

func (f fixture) deadLettered(l store.Lost, want store.Ending) {
	f.t.Helper()
	would, err := f.WouldEnd(context.Background(), l)
	if err != nil {
		f.t.Fatal(err)
	}
	got, err := f.DeadLettered(context.Background(), l, by)
	if err != nil {
		f.t.Fatal(err)
	}
	if would != want || got != want {
		f.t.Fatalf("would be %v and is %v, want %v", would, got, want)
	}
}

// late is past the time for which an action due at start plus d counts as alive.
func (f fixture) late(d time.Duration) { f.clock.advance(d + 10*time.Minute + time.Microsecond) }

func TestDeadLettered(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		f.run(message(action1, 1), timedOut)
		f.late(5 * time.Second)
		f.deadLettered(lost(action1, 2), store.MarkedFailed)
		a := f.action(action1)
		same(t, "row", []any{a.Status, value(a.Reason), value(a.LastError), value(a.LastPhase), a.NextRetryAt == nil, a.UpdatedAt},
			[]any{store.Failed, "MaxDeliveryCountExceeded", "ten deliveries", "ack_timeout", true, f.clock.now()})
		same(t, "failed since it was due", value(a.FailedAt), start.Add(5*time.Second))
		same(t, "evidence", []any{a.HoldsAccession, f.attempts(action1)[0].Sent}, []any{true, store.SentMaybe})
		entry := f.audit(action1)[0]
		same(t, "audit", []string{entry.Who, entry.Verb, entry.Why, entry.Detail},
			[]string{"ada", "reconcile", "ticket 42", "dead-lettered by the broker: MaxDeliveryCountExceeded"})
		f.claim(copyOf(message(action1, 1), 2), store.AlreadyFailed) // its settlement is forgotten

		// It is told once.
		f.clock.advance(time.Second)
		f.deadLettered(lost(action1, 2), store.EndedBefore)
		same(t, "row", f.action(action1), a)
		same(t, "audit entries", len(f.audit(action1)), 1)
	})
}

// An action is alive for as long as others wait for it.
func TestDeadLetteredWhileAlive(t *testing.T) {
	t.Parallel()
	abandoned := func(f fixture) {
		ref := f.claim(message(action1, 1), store.Claimed).Ref()
		f.mark(ref)
		if err := f.Abandon(context.Background(), ref); err != nil {
			f.t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		past func(fixture)
		due  time.Duration // after start
	}{
		"waits for a retry":          {func(f fixture) { f.run(message(action1, 1), noListener) }, 5 * time.Second},
		"postponed":                  {func(f fixture) { f.run(message(action1, 1), postponed) }, 30 * time.Second},
		"being worked on":            {func(f fixture) { f.claim(message(action1, 1), store.Claimed) }, lease},
		"being sent":                 {func(f fixture) { f.mark(f.claim(message(action1, 1), store.Claimed).Ref()) }, lease},
		"given back, no retry known": {abandoned, 0},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, f fixture) {
				test.past(f)
				before := f.action(action1)
				f.clock.advance(test.due + 10*time.Minute)
				f.deadLettered(lost(action1, 1), store.StillAlive)
				same(t, "row", f.action(action1), before)
				f.clock.advance(time.Microsecond)
				f.deadLettered(lost(action1, 1), store.MarkedFailed)
				a := f.action(action1)
				same(t, "failed since, claim", []any{value(a.FailedAt), a.ClaimedUntil == nil}, []any{start.Add(test.due), true})
			})
		})
	}
	t.Run("an attempt nobody ended stays as evidence", func(t *testing.T) {
		each(t, func(t *testing.T, f fixture) {
			f.mark(f.claim(message(action1, 1), store.Claimed).Ref())
			f.late(lease)
			f.deadLettered(lost(action1, 1), store.MarkedFailed)
			left := f.attempts(action1)[0]
			same(t, "attempt", []any{left.Sent, left.Answered, left.Result}, []any{store.SentMaybe, false, "abandoned"})
		})
	})
}

func TestDeadLetteredLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	foreign, changed, invalid := lost(action1, 9), lost(action1, 9), lost(action1, 9)
	foreign.ProviderID, changed.BodySHA256, invalid.BodySHA256 = "york", digest2, ""
	pending := func(f fixture) { f.run(message(action1, 1), noListener) }
	done := func(f fixture) { f.run(message(action1, 1), confirmed) }
	failed := func(f fixture) { f.run(message(action1, 1), expired) }
	for name, test := range map[string]struct {
		past func(fixture)
		lost store.Lost
		want store.Ending
	}{
		"confirmed":                  {done, lost(action1, 1), store.EndedBefore},
		"failed":                     {failed, lost(action1, 1), store.EndedBefore},
		"another provider's":         {pending, foreign, store.NotItsMessage},
		"another provider's, ended":  {done, foreign, store.NotItsMessage},
		"other content":              {pending, changed, store.NotItsMessage},
		"other content, ended":       {failed, changed, store.NotItsMessage},
		"an invalid message":         {pending, invalid, store.NotItsMessage},
		"an invalid message, failed": {failed, invalid, store.EndedBefore},
		"of an earlier life":         {func(f fixture) { f.run(message(action1, 7), noListener) }, lost(action1, 1), store.EndedBefore},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, f fixture) {
				test.past(f)
				f.late(time.Hour)
				before := f.action(action1)
				f.deadLettered(test.lost, test.want)
				same(t, "row", f.action(action1), before)
				same(t, "audit entries", len(f.audit(action1)), 0)
			})
		})
	}
}

func TestDeadLetteredWithoutARow(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		ctx := context.Background()
		l := lost(action1, 1)
		l.EnqueuedAt, l.Reason = start.Add(-time.Minute), strings.Repeat("é", 2000)+"\x00"
		f.deadLettered(l, store.MarkedFailed)
		a := f.action(action1)
		same(t, "row", []any{a.Status, len(value(a.Reason)), value(a.LastError), value(a.FailedAt), a.ProviderID, a.AccessionNumber, a.BodySHA256 == nil},
			[]any{store.Failed, 2048, "ten deliveries", start.Add(-time.Minute), provider, "ACC20260302AB12", true})
		same(t, "audit", f.audit(action1)[0].Verb, "reconcile")
		f.deadLettered(l, store.EndedBefore)
		same(t, "audit entries", len(f.audit(action1)), 1)

		// Its own message comes to nothing; one enqueued since is a resend, also
		// when it was on the queue before the dead letter was found.
		own := message(action1, 9)
		own.EnqueuedAt = l.EnqueuedAt
		f.claim(own, store.AlreadyFailed)
		f.claim(message(action1, 9), store.Claimed)

		for what, enqueued := range map[string]time.Time{action2: {}, action3: start.Add(time.Hour)} {
			l := lost(what, 2)
			l.EnqueuedAt = enqueued
			f.deadLettered(l, store.MarkedFailed)
			same(t, "failed now", value(f.action(what).FailedAt), start)
		}
		l.ActionID = ""
		if _, err := f.DeadLettered(ctx, l, by); err == nil {
			t.Error("recorded without an action id")
		}
	})
}

// Replicas that reconcile at once tell of a dead letter once.
func TestDeadLetteredFromTwoReplicas(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		replicas := []fixture{open(t, url), open(t, url)}
		replicas[0].run(message(action1, 1), noListener)
		for _, f := range replicas {
			f.late(5 * time.Second)
		}
		for _, id := range []string{action1, action2} { // with a row and without
			var wait sync.WaitGroup
			found, errs := make([]store.Ending, 2), make([]error, 2)
			for i, f := range replicas {
				wait.Go(func() { found[i], errs[i] = f.DeadLettered(context.Background(), lost(id, 1), by) })
			}
			wait.Wait()
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
			if found[0] == found[1] || min(found[0], found[1]) != store.EndedBefore || max(found[0], found[1]) != store.MarkedFailed {
				t.Errorf("%s: %v", id, found)
			}
			same(t, "audit entries", len(replicas[0].audit(id)), 1)
		}
	})
}
