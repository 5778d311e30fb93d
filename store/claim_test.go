package store_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

func TestFirstClaim(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		d := message(action1, 7)
		setting := "north"
		d.SettingID, d.ExpiresAt = &setting, start.Add(8*time.Hour)
		c := f.claim(d, store.Claimed)
		digest, until, expires := digest1, start.Add(lease), start.Add(8*time.Hour)
		want := store.Action{
			ActionID: action1, ActionType: "worklist.create_item", Creates: true, ProviderID: provider, SettingID: &setting,
			AccessionNumber: "ACC20260302AB12", BodySHA256: &digest, SequenceNumber: 7, EnqueuedAt: start.Add(-time.Second),
			ReceivedAt: start, UpdatedAt: start, ExpiresAt: &expires, Status: store.Pending, Attempt: 1,
			ClaimedUntil: &until, AttemptStartedAt: &[]time.Time{start}[0],
		}
		same(t, "claim", c, store.Claim{Verdict: store.Claimed, Action: want, Attempt: 1})
		same(t, "row", f.action(action1), want)
		if at := f.action(action1).ReceivedAt; at.Location() != time.UTC || at.Nanosecond() != 123456000 {
			t.Errorf("received at %v, want UTC with microseconds", at)
		}
	})
}

func TestClaimVerdicts(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) func(fixture) { return func(f fixture) { f.clock.advance(d) } }
	run := func(outcome func(store.Ref, int64) store.Outcome) func(fixture) {
		return func(f fixture) { f.run(message(action1, 1), outcome) }
	}
	held := func(f fixture) { f.claim(message(action1, 1), store.Claimed) }
	other := func(change func(*store.Delivery)) store.Delivery {
		d := message(action1, 9)
		change(&d)
		return d
	}
	otherProvider := other(func(d *store.Delivery) { d.ProviderID, d.BodySHA256 = "york", digest2 })
	otherContent := other(func(d *store.Delivery) { d.BodySHA256 = digest2 })
	later := other(func(d *store.Delivery) { d.EnqueuedAt = start.Add(time.Hour) })
	tests := []struct {
		name string
		past []func(fixture)
		d    store.Delivery
		want store.Verdict
	}{
		{"13 other provider, before content and confirmed", []func(fixture){run(confirmed)}, otherProvider, store.OtherProvider},
		{"12 other content, before confirmed", []func(fixture){run(confirmed)}, otherContent, store.OtherContent},
		{"12 other content, before failed", []func(fixture){run(expired)}, otherContent, store.OtherContent},
		{"12 other content, before claimed", []func(fixture){held}, otherContent, store.OtherContent},
		{"14 confirmed", []func(fixture){run(confirmed)}, message(action1, 9), store.AlreadyConfirmed},
		{"14 confirmed, before repeat", []func(fixture){run(confirmed)}, message(action1, 1), store.AlreadyConfirmed},
		{"15 failed", []func(fixture){run(expired)}, message(action1, 9), store.AlreadyFailed},
		{"15 failed without a frame, enqueued later", []func(fixture){run(expired)}, later, store.Claimed},
		{"15 failed after a frame, enqueued later", []func(fixture){run(timedOut), func(f fixture) {
			f.clock.advance(5 * time.Second)
			f.run(copyOf(message(action1, 1), 2), expired)
		}}, later, store.AlreadyFailed},
		{"a failed end is repeated, even if the broker's clock runs ahead", []func(fixture){run(expired)},
			func() store.Delivery { d := message(action1, 1); d.EnqueuedAt = start.Add(time.Hour); return d }(), store.Repeat},
		{"a retry is repeated", []func(fixture){run(timedOut)}, message(action1, 1), store.Repeat},
		{"a postponement is repeated", []func(fixture){run(postponed)}, message(action1, 1), store.Repeat},
		{"88 living claim", []func(fixture){held}, message(action1, 9), store.Busy},
		{"88 living claim, same message", []func(fixture){held}, message(action1, 1), store.Busy},
		{"88 the heir is at work", []func(fixture){run(noListener), func(f fixture) {
			f.claim(copyOf(message(action1, 1), 2), store.Claimed)
		}}, message(action1, 1), store.Busy},
		{"the heir crashed and its message comes again", []func(fixture){run(noListener), func(f fixture) {
			f.claim(copyOf(message(action1, 1), 2), store.Claimed)
			f.clock.advance(lease)
		}}, copyOf(message(action1, 1), 2), store.Claimed},
		{"the heir crashed and a stranger comes", []func(fixture){run(noListener), func(f fixture) {
			f.claim(copyOf(message(action1, 1), 2), store.Claimed)
			f.clock.advance(lease)
		}}, message(action1, 1), store.Waiting},
		{"88 living claim, up to its last microsecond", []func(fixture){held, at(lease - time.Microsecond)}, message(action1, 9), store.Busy},
		{"the lease has run out", []func(fixture){held, at(lease)}, message(action1, 9), store.Claimed},
		{"a stranger to a waiting action", []func(fixture){run(noListener)}, message(action1, 9), store.Waiting},
		{"a copy of another message", []func(fixture){run(noListener)}, copyOf(message(action1, 9), 10), store.Waiting},
		{"the heir", []func(fixture){run(noListener)}, copyOf(message(action1, 1), 2), store.Claimed},
		{"a stranger when the copy is ten minutes late", []func(fixture){run(noListener), at(10*time.Minute + 5*time.Second)}, message(action1, 9), store.Waiting},
		{"a stranger when the copy is later than that", []func(fixture){run(noListener), at(10*time.Minute + 5*time.Second + time.Microsecond)}, message(action1, 9), store.Claimed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			each(t, func(t *testing.T, f fixture) {
				for _, step := range test.past {
					step(f)
				}
				before := f.action(action1)
				c := f.claim(test.d, test.want)
				switch test.want {
				case store.Claimed:
					same(t, "attempt", c.Attempt, before.Attempt+1)
					same(t, "returned row", c.Action, f.action(action1))
				case store.OtherProvider:
					same(t, "answer reveals nothing", c, store.Claim{Verdict: store.OtherProvider})
				default:
					same(t, "returned row", c.Action, before)
				}
				if test.want != store.Claimed {
					same(t, "row is unchanged", f.action(action1), before)
				}
				if wait := test.want == store.Busy || test.want == store.Waiting; wait == c.Until.IsZero() {
					t.Errorf("until %v", c.Until)
				}
			})
		})
	}
}

func TestWhenToLookAgain(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		f.run(message(action1, 1), noListener)
		same(t, "before the retry", f.claim(message(action1, 9), store.Waiting).Until, start.Add(5*time.Second))
		now := f.clock.advance(time.Minute)
		same(t, "the copy is late", f.claim(message(action1, 9), store.Waiting).Until, start.Add(5*time.Second))
		f.claim(copyOf(message(action1, 1), 2), store.Claimed)
		same(t, "being worked on", f.claim(message(action1, 9), store.Busy).Until, now.Add(lease))
	})
}

func TestRepeatSaysHowToSettle(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		f.run(message(action1, 1), expired)
		a := f.claim(message(action1, 1), store.Repeat).Action
		same(t, "settlement", value(a.Settlement), store.DeadLetter)
		same(t, "reason", value(a.SettlementReason), "Expired")
		same(t, "description", value(a.SettlementDescription), "the clinic day is over")
		same(t, "reason of the row", value(a.Reason), "Expired")

		f.run(message(action2, 2), noListener)
		a = f.claim(message(action2, 2), store.Repeat).Action
		same(t, "settlement", value(a.Settlement), store.Retry)
		same(t, "next try", value(a.NextRetryAt), start.Add(5*time.Second))

		// Once the heir has been at work, the first message is a stranger.
		f.run(copyOf(message(action2, 2), 3), noListener)
		f.claim(message(action2, 2), store.Waiting)
		f.claim(copyOf(message(action2, 2), 3), store.Repeat)
	})
}

func TestReleaseStandsAsBefore(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		ctx := context.Background()
		first := f.claim(message(action1, 1), store.Claimed)
		if err := f.Release(ctx, first.Ref()); err != nil {
			t.Fatal(err)
		}
		f.run(message(action1, 1), noListener)
		before := f.action(action1)
		f.clock.advance(5 * time.Second)
		heir := copyOf(message(action1, 1), 2)
		c := f.claim(heir, store.Claimed)
		if err := f.Release(ctx, c.Ref()); err != nil {
			t.Fatal(err)
		}
		after := f.action(action1)
		same(t, "the number is not given out again", after.Attempt, before.Attempt+1)
		after.Attempt, after.AttemptStartedAt, after.AttemptRelay, after.UpdatedAt = before.Attempt, before.AttemptStartedAt, before.AttemptRelay, before.UpdatedAt
		same(t, "row", after, before)
		same(t, "attempts", len(f.attempts(action1)), 1)
		f.claim(message(action1, 1), store.Repeat)
		f.claim(heir, store.Claimed)
	})
}

func TestAbandonKeepsTheEvidence(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		ctx := context.Background()
		f.run(message(action1, 1), noListener)
		f.clock.advance(5 * time.Second)
		heir := copyOf(message(action1, 1), 2)
		c := f.claim(heir, store.Claimed)
		f.mark(c.Ref())
		now := f.clock.advance(time.Second)
		if err := f.Abandon(ctx, c.Ref()); err != nil {
			t.Fatal(err)
		}
		a := f.action(action1)
		same(t, "row", []any{a.Status, a.ClaimedUntil == nil, a.NextRetryAt == nil, a.Attempts, a.HoldsAccession, a.UpdatedAt},
			[]any{store.Sent, true, true, 2, true, now})
		left := f.attempts(action1)[1]
		same(t, "attempt", []any{left.Result, left.Sent, left.Answered, left.EndedAt}, []any{"abandoned", store.SentMaybe, false, now})

		again := f.claim(heir, store.Claimed)
		same(t, "history", again.History, store.History{MaybeSent: 1, Unanswered: []string{gateway}})
		if err := f.Abandon(ctx, again.Ref()); err != nil {
			t.Fatal(err)
		}
		f.claim(message(action1, 1), store.Claimed) // whose settlement failed: it neither repeats nor waits
		f.record(confirmed(c.Ref(), 2))             // the first was acked all the same
		f.claim(heir, store.AlreadyConfirmed)
	})
}

func TestAbandonWithoutAFrame(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		if err := f.Abandon(context.Background(), f.claim(message(action1, 1), store.Claimed).Ref()); err != nil {
			t.Fatal(err)
		}
		same(t, "status", f.action(action1).Status, store.Pending)
		same(t, "sent", f.attempts(action1)[0].Sent, store.SentNo)
		same(t, "history", f.claim(message(action1, 1), store.Claimed).History, store.History{})
	})
}

func TestTakeover(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		marked     bool
		sent       string
		unanswered []string
	}{
		{"60 killed after the sent mark", true, store.SentMaybe, []string{gateway}},
		{"killed before it", false, store.SentNo, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			each(t, func(t *testing.T, f fixture) {
				lost := f.claim(message(action1, 1), store.Claimed)
				if test.marked {
					f.mark(lost.Ref())
				}
				now := f.clock.advance(lease)
				c := f.claim(message(action1, 1), store.Claimed)
				maybe := len(test.unanswered)
				same(t, "history", c.History, store.History{MaybeSent: maybe, Unanswered: test.unanswered})
				same(t, "tries", c.Action.Attempts, 1)
				ended := f.attempts(action1)[0]
				same(t, "sent", ended.Sent, test.sent)
				same(t, "result", ended.Result, "abandoned")
				same(t, "ended", ended.EndedAt, now)
				same(t, "started", ended.StartedAt, start)
				same(t, "marked", ended.SentAt != nil, test.marked)
				same(t, "open attempt is not marked", c.Action.AttemptSentAt, nil)
			})
		})
	}
}

func TestStartsAfresh(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		d := message(action1, 1)
		d.ExpiresAt = start.Add(time.Hour)
		f.run(d, func(ref store.Ref, sequence int64) store.Outcome {
			o := noListener(ref, sequence)
			o.Phase = "rejected"
			return o
		})
		f.clock.advance(5 * time.Second)
		same(t, "history", f.claim(copyOf(d, 2), store.Claimed).History, store.History{Rejected: 1})
		f.record(expired(store.Ref{ProviderID: provider, ActionID: action1, Attempt: 2}, 2))
		now := f.clock.advance(time.Hour)
		again := message(action1, 50)
		again.EnqueuedAt, again.ExpiresAt = now, now.Add(time.Hour)
		c := f.claim(again, store.Claimed)
		a := f.action(action1)
		same(t, "returned row", c.Action, a)
		same(t, "status", a.Status, store.Pending)
		same(t, "tries, retries, postponements", []int{a.Attempts, a.RetryCount, a.PostponeCount}, []int{0, 0, 0})
		same(t, "sequence", a.SequenceNumber, 50)
		same(t, "expiry", value(a.ExpiresAt), now.Add(time.Hour))
		same(t, "ends", []any{a.FailedAt, a.Reason, a.LastError, a.Settlement}, []any{(*time.Time)(nil), (*string)(nil), (*string)(nil), (*store.Settlement)(nil)})
		same(t, "fence goes on", a.Attempt, 3)
		same(t, "attempts stay", len(f.attempts(action1)), 1)
		same(t, "and count no more", c.History, store.History{})
		entry := f.audit(action1)[0]
		same(t, "audit", []string{entry.Verb, entry.Who, entry.ProviderID, entry.Detail}, []string{"restart", "worklist-relay", provider, "had failed: Expired"})
	})
}

// A resend may be received before what it repeats. What was enqueued between the
// two still finds the action ahead of it.
func TestResendReceivedFirst(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		update := message(action2, 7)
		update.ActionType, update.Create = "worklist.update_status", false
		f.claim(message(action1, 9), store.Claimed)
		f.claim(message(action1, 5), store.Busy)
		if c := f.claim(update, store.Claimed); c.Earlier == nil || c.Earlier.ActionID != action1 {
			t.Errorf("earlier %+v, want the create", c.Earlier)
		}
		same(t, "its place", f.action(action1).SequenceNumber, int64(5))
		f.claim(message(action1, 6), store.Busy)
		same(t, "its place", f.action(action1).SequenceNumber, int64(5))
	})
}

func TestEarlierAndHolder(t *testing.T) {
	t.Parallel()
	update := func(id string, sequence int64) store.Delivery {
		d := message(id, sequence)
		d.ActionType, d.Create, d.BodySHA256 = "worklist.update_status", false, digest2
		return d
	}
	each(t, func(t *testing.T, f fixture) {
		f.run(message(action1, 5), noListener)
		c := f.claim(update(action2, 6), store.Claimed)
		if c.Earlier == nil || c.Earlier.ActionID != action1 || !c.Earlier.NextTry().Equal(start.Add(5*time.Second)) {
			t.Fatalf("earlier %+v", c.Earlier)
		}
		// The lower number decides, not the time of arrival: the copy carries it.
		f.record(postponed(c.Ref(), 6))
		f.clock.advance(5 * time.Second)
		heir := f.claim(copyOf(message(action1, 5), 8), store.Claimed)
		same(t, "nothing is earlier", heir.Earlier, nil)
		f.mark(heir.Ref())
		f.clock.advance(25 * time.Second)
		c = f.claim(copyOf(update(action2, 6), 9), store.Claimed)
		same(t, "its lease counts", c.Earlier.NextTry(), start.Add(5*time.Second+lease))
		f.record(confirmed(heir.Ref(), 8))
		f.record(postponed(c.Ref(), 9))
		c = f.claim(copyOf(copyOf(update(action2, 6), 9), 10), store.Claimed)
		same(t, "resolved", c.Earlier, nil)
		same(t, "an update asks for no holder", c.Holder, nil)

		c = f.claim(message(action3, 20), store.Claimed)
		if c.Holder == nil || c.Holder.ActionID != action1 || c.Earlier == nil || c.Earlier.ActionID != action2 {
			t.Fatalf("holder %+v, earlier %+v", c.Holder, c.Earlier)
		}
		elsewhere := message("44444444-4444-4444-8444-444444444444", 30)
		elsewhere.ProviderID = "york"
		c = f.claim(elsewhere, store.Claimed)
		same(t, "another provider's accession is another", []*store.Action{c.Earlier, c.Holder}, []*store.Action{nil, nil})
		f.record(postponed(c.Ref(), 30))
		c = f.claim(copyOf(elsewhere, 31), store.Claimed) // which reads what the first needed not
		same(t, "and so it is the next time", []*store.Action{c.Earlier, c.Holder}, []*store.Action{nil, nil})
	})
}

func TestStrandedBlocksNobody(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		f.run(message(action1, 1), noListener)
		f.clock.advance(10*time.Minute + 5*time.Second)
		if f.claim(message(action2, 2), store.Claimed).Earlier == nil {
			t.Error("ten minutes past its next try it is alive")
		}
		f.clock.advance(time.Microsecond)
		same(t, "earlier", f.claim(message(action3, 3), store.Claimed).Earlier.ActionID, action2)
	})
}

func TestOneOfManyIsClaimed(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		stores := []fixture{open(t, url), open(t, url)}
		for round := range 5 {
			claims := make([]store.Claim, 8)
			errs := make([]error, len(claims))
			var wait sync.WaitGroup
			for i := range claims {
				wait.Go(func() {
					claims[i], errs[i] = stores[i%2].Claim(context.Background(), message(action1, 1))
				})
			}
			wait.Wait()
			won := 0
			for i, c := range claims {
				if errs[i] != nil {
					t.Fatal(errs[i])
				}
				if c.Verdict == store.Claimed {
					won++
					same(t, "attempt", c.Attempt, round+1)
				} else {
					same(t, "verdict", c.Verdict, store.Busy)
				}
			}
			same(t, "winners", won, 1)
			stores[0].clock.advance(lease)
			stores[1].clock.advance(lease)
		}
		same(t, "attempts taken over", len(stores[0].attempts(action1)), 4)
	})
}

func TestClaimRefusesWhatCannotBeStored(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		for name, change := range map[string]func(*store.Delivery){
			"NUL":         func(d *store.Delivery) { d.AccessionNumber = "ACC\x00" },
			"UTF-8":       func(d *store.Delivery) { d.ActionType = "\xff" },
			"no provider": func(d *store.Delivery) { d.ProviderID = "" },
			"no lease":    func(d *store.Delivery) { d.Lease = 0 },
		} {
			d := message(action1, 1)
			change(&d)
			if _, err := f.Claim(context.Background(), d); err == nil || store.Unavailable(err) || strings.Contains(err.Error(), "pq:") {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
