package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/store"
)

func TestHoldGateway(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	each(t, func(t *testing.T, f fixture) {
		must := func(err, want error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Fatalf("%v, want %v", err, want)
			}
		}
		held := func() []string {
			h := f.health(gateway)
			at := ""
			if h.HeldAt != nil {
				at = h.HeldAt.Format(time.TimeOnly)
			}
			return []string{at, value(h.HeldBy), value(h.HeldWhy)}
		}
		must(f.ReleaseGateway(ctx, gateway, by), store.ErrNotHeld) // nothing is known of it
		must(f.HoldGateway(ctx, "NS.servicebus.windows.net/hc-Leeds", by), nil)
		same(t, "held", held(), []string{"09:00:00", "ada", "ticket 42"})
		f.clock.advance(time.Minute)
		must(f.HoldGateway(ctx, gateway, store.By{Who: "bob", Why: "again"}), store.ErrHeld)
		f.save(sick(gateway)) // what replicas learn meanwhile does not release it
		same(t, "still", held(), []string{"09:00:00", "ada", "ticket 42"})
		must(f.ReleaseGateway(ctx, gateway, by), nil)
		same(t, "released", held(), []string{"", "", ""})
		must(f.ReleaseGateway(ctx, gateway, by), store.ErrNotHeld)
		must(f.HoldGateway(ctx, gateway, by), nil) // one that is known can be held too
		same(t, "again", held(), []string{"09:01:00", "ada", "ticket 42"})

		entries, err := f.RelayAudit(ctx, gateway)
		must(err, nil)
		var did []string
		for _, e := range entries {
			did = append(did, e.Who+" "+e.Verb)
		}
		same(t, "audit", did, []string{"ada hold", "ada release", "ada hold"})
	})
}

func TestPutRelays(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	each(t, func(t *testing.T, f fixture) {
		north := "north"
		relays := []store.Relay{
			{ProviderID: "hull", Namespace: "ns.servicebus.windows.net", HybridConnection: "hc-hull"},
			{ProviderID: "leeds", SettingID: &north, Namespace: "ns.servicebus.windows.net", HybridConnection: "hc-north"},
		}
		put := func(replace bool, want error, counts ...int) {
			t.Helper()
			added, changed, err := f.PutRelays(ctx, relays, replace, by)
			if !errors.Is(err, want) {
				t.Fatal(err)
			}
			same(t, "added, changed", []int{added, changed}, counts)
		}
		put(false, nil, 2, 0)
		put(false, nil, 0, 0) // the same again
		relays[1].HybridConnection = "hc-moved"
		relays = append(relays, store.Relay{ProviderID: "york", Namespace: "ns.servicebus.windows.net", HybridConnection: "hc-york"})
		put(false, store.ErrRelayExists, 0, 0)
		if all, err := f.Relays(ctx, ""); err != nil || len(all) != 2 {
			t.Error("all or none:", all, err)
		}
		put(true, nil, 1, 1)
		if r, err := f.Relay(ctx, "leeds", &north); err != nil || r.HybridConnection != "hc-moved" {
			t.Error(r, err)
		}
	})
}
