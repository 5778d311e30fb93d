package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/store"
)

func TestWorklistOutcome(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	each(t, func(t *testing.T, f fixture) {
		f.run(message(action1, 1), confirmed)
		o, err := f.WorklistOutcome(ctx, provider, action1)
		if err != nil {
			t.Fatal(err)
		}
		a := f.action(action1)
		same(t, "outcome", o, store.WorklistOutcome{
			ActionID: action1, ActionType: "worklist.create_item", ProviderID: provider, AccessionNumber: a.AccessionNumber, Status: store.Confirmed,
			Attempts: 1, EnqueuedAt: a.EnqueuedAt, SentAt: a.SentAt, ConfirmedAt: a.ConfirmedAt, UpdatedAt: a.UpdatedAt,
		})
		if zone := o.ConfirmedAt.Location(); zone != time.UTC {
			t.Error("in zone", zone)
		}
		if _, err := f.WorklistOutcome(ctx, "hull", action1); !errors.Is(err, store.ErrNoAction) {
			t.Error("another provider's:", err)
		}
	})
}

// What people do, and what the broker did, is owed to the producer; an ending
// by delivery is told by its delivery.
func TestOutcomesOwed(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	each(t, func(t *testing.T, f fixture) {
		owed := func(want ...string) (list []store.WorklistOutcome) {
			t.Helper()
			list, err := f.OutcomesOwed(ctx, 10)
			if err != nil {
				t.Fatal(err)
			}
			got := []string{}
			for _, o := range list {
				got = append(got, o.ActionID+" "+string(o.Status))
			}
			same(t, "owed", got, append([]string{}, want...))
			return list
		}
		must := func(errs ...error) {
			t.Helper()
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
		}
		f.run(message(action1, 1), expired)
		owed()
		f.run(withAccession(message(action2, 2), "SYN2"), noListener)
		must(f.OweOutcome(ctx, provider, action2)) // it has not ended
		owed()
		must(f.Withdraw(ctx, provider, action2, by))
		f.clock.advance(time.Second)
		must(f.OweOutcome(ctx, "hull", action1), f.OweOutcome(ctx, provider, action1))
		list := owed(action1+" failed", action2+" failed")

		// One that changed since it was read stays owed.
		f.clock.advance(time.Second)
		must(f.Resolve(ctx, provider, action2, store.Confirmed, by))
		must(f.OutcomeTold(ctx, list[0]), f.OutcomeTold(ctx, list[1]))
		list = owed(action2 + " confirmed")
		must(f.OutcomeTold(ctx, list[0]))
		owed()

		e, err := f.DeadLettered(ctx, store.Lost{Invalid: store.Invalid{ActionID: action3, ProviderID: provider, Reason: "TTLExpiredException", EnqueuedAt: start}}, by)
		must(err)
		same(t, "ending", e, store.MarkedFailed)
		owed(action3 + " failed")
	})
}

func withAccession(d store.Delivery, accession string) store.Delivery {
	d.AccessionNumber = accession
	return d
}

func TestActionsByID(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		f.run(message(action1, 1), confirmed)
		f.run(withAccession(message(action2, 2), "SYN2"), noListener)
		ids := make([]string, 1200) // more than one query takes
		for i := range ids {
			ids[i] = action3
		}
		ids[0], ids[1199] = action1, action2
		found, err := f.ActionsByID(context.Background(), ids)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "found", found, map[string]store.Action{action1: f.action(action1), action2: f.action(action2)})
	})
}
