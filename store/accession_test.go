package store_test

import (
	"context"
	"errors"
	"testing"

	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

func TestAccessionIsHeldOnce(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	tests := []struct {
		name string
		end  func(*store.Outcome)
		free bool
	}{
		{"confirmed", func(o *store.Outcome) { *o = confirmed(o.Ref, o.SequenceNumber) }, false},
		{"possibly arrived", func(*store.Outcome) {}, false},
		{"possibly arrived and given up", func(o *store.Outcome) { o.Status, o.Settlement = store.Failed, store.DeadLetter }, false},
		{"certainly not written", func(o *store.Outcome) { o.Sent = store.SentNo }, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			each(t, func(t *testing.T, f fixture) {
				second := f.claim(message(action2, 2), store.Claimed).Ref()
				first := f.claim(message(action1, 1), store.Claimed).Ref()
				f.mark(first)
				o := timedOut(first, 1)
				test.end(&o)
				f.record(o)
				same(t, "holds", f.action(action1).HoldsAccession, !test.free)
				err := f.MarkSent(ctx, second, gateway, lease)
				if test.free != (err == nil) || (err != nil && !errors.Is(err, store.ErrAccessionHeld)) {
					t.Error(err)
				}
				if err != nil {
					same(t, "not marked", f.action(action2).SentAt, nil)
				}
			})
		})
	}
	t.Run("an earlier maybe keeps it", func(t *testing.T) {
		each(t, func(t *testing.T, f fixture) {
			f.run(message(action1, 1), timedOut)
			f.run(copyOf(message(action1, 1), 2), expired)
			same(t, "holds", f.action(action1).HoldsAccession, true)
		})
	})
	t.Run("updates hold nothing", func(t *testing.T) {
		each(t, func(t *testing.T, f fixture) {
			d := message(action1, 1)
			d.Create = false
			f.run(d, confirmed)
			f.run(message(action2, 2), confirmed)
			same(t, "holds", []bool{f.action(action1).HoldsAccession, f.action(action2).HoldsAccession}, []bool{false, true})
		})
	})
	t.Run("other providers and numbers are free", func(t *testing.T) {
		each(t, func(t *testing.T, f fixture) {
			f.run(message(action1, 1), confirmed)
			elsewhere, another := message(action2, 2), message(action3, 3)
			elsewhere.ProviderID, another.AccessionNumber = "york", "ACC20260302CD34"
			f.run(elsewhere, confirmed)
			f.run(another, confirmed)
		})
	})
}

func TestAccessionRace(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		f, g := open(t, url), open(t, url)
		errs := make(chan error, 2)
		a, b := f.claim(message(action1, 1), store.Claimed).Ref(), g.claim(message(action2, 2), store.Claimed).Ref()
		go func() { errs <- f.MarkSent(context.Background(), a, gateway, lease) }()
		go func() { errs <- g.MarkSent(context.Background(), b, gateway, lease) }()
		held := 0
		for range 2 {
			if err := <-errs; errors.Is(err, store.ErrAccessionHeld) {
				held++
			} else if err != nil {
				t.Error(err)
			}
		}
		same(t, "refused", held, 1)
	})
}
