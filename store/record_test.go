package store_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/store"
)

func TestRecordConfirmed(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		f.run(message(action1, 1), timedOut)
		f.clock.advance(5 * time.Second)
		c := f.claim(copyOf(message(action1, 1), 2), store.Claimed)
		marked := f.clock.advance(time.Second)
		f.mark(c.Ref())
		a := f.action(action1)
		same(t, "marked", []time.Time{value(a.AttemptSentAt), value(a.SentAt), value(a.ClaimedUntil)}, []time.Time{marked, start, marked.Add(lease)})
		o := confirmed(c.Ref(), 2)
		o.Duplicate = true
		o.Timings = store.Timings{DNS: time.Millisecond, Connect: 2 * time.Millisecond, TLS: 3 * time.Millisecond, Handshake: 4 * time.Millisecond, Ack: 5 * time.Second, Reused: true}
		now := f.clock.advance(time.Second)
		f.record(o)
		a = f.action(action1)
		same(t, "status", a.Status, store.Confirmed)
		same(t, "confirmed at", value(a.ConfirmedAt), now)
		same(t, "first sent at", value(a.SentAt), start)
		same(t, "left over", []bool{a.LastError != nil, a.LastPhase != nil, a.NextRetryAt != nil, a.ClaimedUntil != nil}, make([]bool, 4))
		same(t, "duplicate, holds accession", []bool{a.Duplicate, a.HoldsAccession}, []bool{true, true})
		same(t, "tries, retries", []int{a.Attempts, a.RetryCount}, []int{2, 1})
		same(t, "relay", value(a.Relay), gateway)
		relay := gateway
		same(t, "attempt", f.attempts(action1)[1], store.Attempt{
			ActionID: action1, Attempt: 2, ProviderID: provider, Relay: &relay, StartedAt: start.Add(5 * time.Second), SentAt: &marked, EndedAt: now,
			Sent: store.SentYes, Answered: true, Reused: true, DNSUs: 1000, ConnectUs: 2000, TLSUs: 3000, HandshakeUs: 4000, AckUs: 5000000, Result: "confirmed",
		})
	})
}

func TestRecordCounts(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		d := message(action1, 1)
		counts := func() []int {
			a := f.action(action1)
			return []int{a.Attempts, a.RetryCount, a.PostponeCount, len(f.attempts(action1))}
		}
		for i, step := range []struct {
			outcome func(store.Ref, int64) store.Outcome
			want    []int
		}{
			{postponed, []int{0, 0, 1, 0}},
			{postponed, []int{0, 0, 2, 0}},
			{noListener, []int{1, 1, 0, 1}},
			{postponed, []int{1, 1, 1, 1}},
			{expired, []int{1, 1, 1, 1}},
		} {
			f.run(d, step.outcome)
			same(t, "tries, retries, postponements, rows", counts(), step.want)
			d = copyOf(d, int64(i+2))
		}
		a := f.action(action1)
		same(t, "reason and last failure", []string{value(a.Reason), value(a.LastPhase), value(a.LastError)}, []string{"Expired", "no_listener", "the clinic day is over"})
		same(t, "failed", []bool{a.FailedAt != nil, a.NextRetryAt != nil, a.HoldsAccession}, []bool{true, false, false})
	})
}

// Every write of an attempt that is not the row's own is refused, except that
// it may confirm.
func TestFence(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	lost := map[string]func(f fixture, ref store.Ref){
		"taken over": func(f fixture, _ store.Ref) { f.clock.advance(lease); f.claim(message(action1, 1), store.Claimed) },
		"released": func(f fixture, ref store.Ref) {
			if err := f.Release(ctx, ref); err != nil {
				f.t.Fatal(err)
			}
		},
		"abandoned": func(f fixture, ref store.Ref) {
			f.mark(ref)
			if err := f.Abandon(ctx, ref); err != nil {
				f.t.Fatal(err)
			}
		},
		"recorded":  func(f fixture, ref store.Ref) { f.record(noListener(ref, 1)) },
		"failed":    func(f fixture, ref store.Ref) { f.record(expired(ref, 1)) },
		"confirmed": func(f fixture, ref store.Ref) { f.record(confirmed(ref, 1)) },
	}
	for name, lose := range lost {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, f fixture) {
				ref := f.claim(message(action1, 1), store.Claimed).Ref()
				lose(f, ref)
				before := f.action(action1)
				late := timedOut(ref, 1)
				stale := map[string]error{
					"mark":    f.MarkSent(ctx, ref, gateway, lease),
					"release": f.Release(ctx, ref),
					"abandon": f.Abandon(ctx, ref),
					"record":  f.Record(ctx, late),
				}
				for verb, err := range stale {
					if !errors.Is(err, store.ErrStale) || store.Unavailable(err) {
						t.Errorf("%s: %v", verb, err)
					}
				}
				if final := errors.Is(stale["record"], store.ErrFinal); final != (name == "confirmed") {
					t.Errorf("record: %v", stale["record"])
				}
				same(t, "row", f.action(action1), before)
				f.record(confirmed(ref, 1))
				same(t, "status", f.action(action1).Status, store.Confirmed)
				f.claim(message(action1, 1), store.AlreadyConfirmed)
			})
		})
	}
}

// The very same outcome of another attempt is not the one that is told.
func TestRecordedByAnother(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		first := f.claim(message(action1, 1), store.Claimed).Ref()
		f.clock.advance(lease)
		f.record(expired(f.claim(message(action1, 1), store.Claimed).Ref(), 1))
		before := f.action(action1)
		if err := f.Record(context.Background(), expired(first, 1)); !errors.Is(err, store.ErrStale) {
			t.Error(err)
		}
		same(t, "row", f.action(action1), before)
	})
}

func TestFenceKnowsTheProvider(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		ctx := context.Background()
		ref := f.claim(message(action1, 1), store.Claimed).Ref()
		for _, foreign := range []string{"york", ""} {
			ref.ProviderID = foreign
			before := f.action(action1)
			if err := f.MarkSent(ctx, ref, gateway, lease); !errors.Is(err, store.ErrStale) {
				t.Error("mark:", err)
			}
			if err := f.Release(ctx, ref); !errors.Is(err, store.ErrStale) {
				t.Error("release:", err)
			}
			if err := f.Abandon(ctx, ref); !errors.Is(err, store.ErrStale) {
				t.Error("abandon:", err)
			}
			if err := f.Record(ctx, confirmed(ref, 1)); !errors.Is(err, store.ErrNoAction) {
				t.Error("record:", err)
			}
			same(t, "row", f.action(action1), before)
		}
	})
}

func TestMarkedIsNotReleased(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		ref := f.claim(message(action1, 1), store.Claimed).Ref()
		f.mark(ref)
		f.mark(ref)
		if err := f.Release(context.Background(), ref); !errors.Is(err, store.ErrStale) {
			t.Error(err)
		}
		same(t, "the claim lives", f.claim(message(action1, 1), store.Busy).Action.Status, store.Sent)
	})
}

// A lost lock: the second delivery is at work when the first reads its ack.
func TestLateConfirmation(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		ctx := context.Background()
		first := f.claim(message(action1, 1), store.Claimed).Ref()
		f.mark(first)
		f.clock.advance(lease)
		second := f.claim(message(action1, 1), store.Claimed).Ref()
		f.mark(second)
		f.record(confirmed(first, 1))
		a := f.action(action1)
		same(t, "status", a.Status, store.Confirmed)
		same(t, "holds", a.HoldsAccession, true)
		attempts := f.attempts(action1)
		same(t, "first", []any{attempts[0].Sent, attempts[0].Answered, attempts[0].Result, attempts[0].StartedAt}, []any{store.SentYes, true, "confirmed", start})
		same(t, "second", []any{attempts[1].Sent, attempts[1].Answered, attempts[1].Result}, []any{store.SentMaybe, false, "abandoned"})
		if err := f.Record(ctx, timedOut(second, 1)); !errors.Is(err, store.ErrFinal) {
			t.Error(err)
		}
		if err := f.MarkSent(ctx, second, gateway, lease); !errors.Is(err, store.ErrStale) {
			t.Error(err)
		}
		f.record(confirmed(second, 1))
		same(t, "confirmed once", f.action(action1), a)
		same(t, "second was answered too", f.attempts(action1)[1].Answered, true)
	})
}

func TestRecordAgainIsHarmless(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		d := message(action1, 1)
		for i, outcome := range []func(store.Ref, int64) store.Outcome{noListener, postponed, timedOut, confirmed} {
			o := f.run(d, outcome)
			before := f.action(action1)
			rows := f.attempts(action1)
			f.clock.advance(time.Second)
			f.record(o)
			same(t, "row", f.action(action1), before)
			same(t, "attempts", len(f.attempts(action1)), len(rows))
			d = copyOf(d, int64(i+2))
		}
		o := f.run(message(action2, 20), expired)
		f.record(o)
	})
}

// What counts as evidence: marked sent, not known to be without effect, never
// answered.
func TestEvidence(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		end  func(*store.Outcome)
		want store.History
	}{
		{"no ack", func(*store.Outcome) {}, store.History{MaybeSent: 1, Unanswered: []string{gateway}}},
		{"answered, unreadable", func(o *store.Outcome) { o.Phase, o.Answered = "ack_invalid", true }, store.History{MaybeSent: 1}},
		{"closed without a reply", func(o *store.Outcome) { o.Phase, o.Answered = "ack_closed", true }, store.History{MaybeSent: 1}},
		{"certainly not written", func(o *store.Outcome) { o.Phase, o.Sent = "send", store.SentNo }, store.History{}},
		{"rejected", func(o *store.Outcome) { o.Phase, o.Sent = "rejected", store.SentNo }, store.History{Rejected: 1}},
		{"elsewhere", func(o *store.Outcome) { o.Relay = "ns/hc-york" }, store.History{MaybeSent: 1, Unanswered: []string{"ns/hc-york"}}},
		{"no try spent", func(o *store.Outcome) { o.Spent = false }, store.History{MaybeSent: 1, Unanswered: []string{gateway}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			each(t, func(t *testing.T, f fixture) {
				ref := f.claim(message(action1, 1), store.Claimed).Ref()
				f.mark(ref)
				o := timedOut(ref, 1)
				test.end(&o)
				f.record(o)
				heir := copyOf(message(action1, 1), 2)
				same(t, "history", f.claim(heir, store.Claimed).History, test.want)
			})
		})
	}
	t.Run("failed to connect is none", func(t *testing.T) {
		each(t, func(t *testing.T, f fixture) {
			f.run(message(action1, 1), noListener)
			same(t, "history", f.claim(copyOf(message(action1, 1), 2), store.Claimed).History, store.History{})
		})
	})
}

func TestRecordInvalid(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		ctx := context.Background()
		invalid := store.Invalid{
			ActionID: action1, ActionType: "worklist.create_item", AccessionNumber: strings.Repeat("é", 1000) + "\x00",
			Reason: "InvalidMessage", Description: "parameters.worklist_item.scheduled.date", SequenceNumber: 1, EnqueuedAt: start,
		}
		if err := f.RecordInvalid(ctx, invalid); err != nil {
			t.Fatal(err)
		}
		a := f.action(action1)
		same(t, "row", []any{a.Status, value(a.Reason), value(a.LastError), a.BodySHA256 == nil, a.AccessionNumber},
			[]any{store.Failed, "InvalidMessage", "parameters.worklist_item.scheduled.date", true, strings.Repeat("é", 32)})

		// A mended message, enqueued later, is a fresh start: nothing contradicts it.
		f.claim(message(action1, 9), store.AlreadyFailed)
		d := message(action1, 9)
		d.EnqueuedAt = f.clock.advance(time.Minute)
		f.run(d, confirmed)
		before := f.action(action1)
		same(t, "adopted", []string{before.ProviderID, value(before.BodySHA256), before.AccessionNumber}, []string{provider, digest1, d.AccessionNumber})
		if err := f.RecordInvalid(ctx, invalid); err != nil {
			t.Fatal(err)
		}
		same(t, "an existing row is left alone", f.action(action1), before)
	})
}

func TestRecordRefusesNonsense(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		ctx := context.Background()
		ref := f.claim(message(action1, 1), store.Claimed).Ref()
		before := f.action(action1)
		for name, change := range map[string]func(*store.Outcome){
			"status":     func(o *store.Outcome) { o.Status = "lost" },
			"settlement": func(o *store.Outcome) { o.Settlement = "" },
			"sent":       func(o *store.Outcome) { o.Sent = "" },
		} {
			o := timedOut(ref, 1)
			change(&o)
			if err := f.Record(ctx, o); err == nil || errors.Is(err, store.ErrStale) || store.Unavailable(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		same(t, "row", f.action(action1), before)
		ref.ActionID = action2
		if err := f.Record(ctx, confirmed(ref, 1)); !errors.Is(err, store.ErrNoAction) {
			t.Error(err)
		}
	})
}
