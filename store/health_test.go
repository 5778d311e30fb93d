package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/store"
)

// sick is a gateway whose breaker has just opened, everything known.
func sick(relay string) store.Health {
	at := func(d time.Duration) *time.Time { t := start.Add(d); return &t }
	phase := "no_listener"
	return store.Health{
		Relay: relay, Failures: 3, FailingSince: at(-10 * time.Second), OpenedAt: at(0), Probes: 1, NextProbeAt: at(5 * time.Second),
		LastLifeAt: at(-time.Minute), LastPhase: &phase, LastFailureAt: at(0),
	}
}

func (f fixture) health(relay string) store.Health {
	f.t.Helper()
	h, err := f.Health(context.Background(), relay)
	if err != nil {
		f.t.Fatal(err)
	}
	return h
}

func (f fixture) save(h store.Health) {
	f.t.Helper()
	if err := f.SaveHealth(context.Background(), h); err != nil {
		f.t.Fatal(err)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		ctx := context.Background()
		if _, err := f.Health(ctx, gateway); !errors.Is(err, store.ErrNoHealth) {
			t.Error(err)
		}
		all, err := f.Healths(ctx)
		same(t, "none", all, []store.Health{})
		want := sick(gateway)
		f.save(want)
		want.UpdatedAt = start
		same(t, "first", f.health(gateway), want)
		if zone := f.health(gateway).NextProbeAt.Location(); zone != time.UTC {
			t.Error("in zone", zone)
		}

		// It got well: what was known of its sickness goes.
		well := store.Health{Relay: "NS.servicebus.windows.net/HC-Leeds", LastLifeAt: want.NextProbeAt}
		now := f.clock.advance(time.Minute)
		f.save(well)
		well.Relay, well.UpdatedAt = gateway, now
		same(t, "second", f.health("NS.SERVICEBUS.windows.net/hc-leeds"), well)

		other := store.Health{Relay: "ns.servicebus.windows.net/hc-hull", UpdatedAt: now}
		f.save(other)
		all, err2 := f.Healths(ctx)
		same(t, "all", all, []store.Health{other, well})
		if err := errors.Join(err, err2, f.SaveHealth(ctx, other)); err != nil {
			t.Error(err)
		}
		for _, relay := range []string{"", "ns/\x00"} {
			if err := f.SaveHealth(ctx, store.Health{Relay: relay}); err == nil || store.Unavailable(err) {
				t.Errorf("relay %q: %v", relay, err)
			}
		}
	})
}

// Replicas write what they know in any order.
func TestLastLifeIsNeverOlder(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		h := sick(gateway)
		life := *h.LastLifeAt
		for _, step := range []struct{ write, want time.Time }{
			{life, life},
			{life.Add(-time.Microsecond), life},
			{time.Time{}, life},
			{life.Add(time.Microsecond), life.Add(time.Microsecond)},
			{life.Truncate(time.Second), life.Add(time.Microsecond)},
		} {
			h.LastLifeAt = nil
			if !step.write.IsZero() {
				h.LastLifeAt = &step.write
			}
			f.save(h)
			same(t, "last life", value(f.health(gateway).LastLifeAt), step.want)
		}
		unknown := store.Health{Relay: "ns/unknown"}
		f.save(unknown)
		unknown.LastLifeAt = &life
		f.save(unknown)
		same(t, "first life", value(f.health("ns/unknown").LastLifeAt), life)
	})
}

func TestSaveHealthLeavesTheHold(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		h := sick(gateway)
		f.save(h)
		if _, err := raw(t, f.url).Exec("UPDATE gateway_health SET held_at = updated_at, held_by = 'ada', held_why = 'new disk'"); err != nil {
			t.Fatal(err)
		}
		f.save(h)
		h.HeldBy = &[]string{"nobody"}[0]
		f.save(h)
		got := f.health(gateway)
		same(t, "held", []any{value(got.HeldAt), value(got.HeldBy), value(got.HeldWhy)}, []any{start, "ada", "new disk"})
	})
}

func TestTakeProbe(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		ctx := context.Background()
		take := func(relay string, due, next time.Time, want bool) {
			t.Helper()
			before := f.clock.advance(time.Second)
			mine, err := f.TakeProbe(ctx, relay, due, next)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "mine", mine, want)
			if mine {
				h := f.health(relay)
				same(t, "next probe, updated", []time.Time{value(h.NextProbeAt), h.UpdatedAt}, []time.Time{next, before})
			}
		}
		due, next := start.Add(5*time.Second), start.Add(15*time.Second)
		take(gateway, due, next, false) // nothing known
		f.save(sick(gateway))
		f.save(sick("ns/other"))
		take(gateway, due.Add(time.Microsecond), next, false)
		take(gateway, due, next, true)
		take(gateway, due, next, false)
		take("NS.servicebus.windows.net/hc-leeds", next, next.Add(time.Minute), true)
		same(t, "the other", value(f.health("ns/other").NextProbeAt), due)
		closed := sick(gateway)
		closed.OpenedAt = nil
		f.save(closed)
		take(gateway, due, next, false)
	})
}

// Of replicas that ask at once, one probes: a hospital that wakes up is not
// greeted by all of them.
func TestOneReplicaTakesTheProbe(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		f.save(sick(gateway))
		due := *sick(gateway).NextProbeAt
		replicas := []fixture{f, open(t, f.url)}
		for round := range 20 {
			next := due.Add(time.Duration(round+1) * time.Second)
			var wait sync.WaitGroup
			mine, errs := make([]bool, len(replicas)), make([]error, len(replicas))
			for i, replica := range replicas {
				wait.Go(func() { mine[i], errs[i] = replica.TakeProbe(context.Background(), gateway, due, next) })
			}
			wait.Wait()
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
			if mine[0] == mine[1] {
				t.Fatalf("round %d: %v", round, mine)
			}
			due = next
		}
	})
}
