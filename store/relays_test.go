package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/worklist-relay/worklist-relay/store"
)

var by = store.By{Who: "ada", Why: "ticket 42"}

func TestRelays(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		ctx := context.Background()
		north, keyName, keyVariable := "north", "send", "RELAY_KEY_LEEDS"
		relays := []store.Relay{
			{ProviderID: "leeds", Namespace: "ns", HybridConnection: "hc-leeds"},
			{ProviderID: "leeds", SettingID: &north, Namespace: "ns", HybridConnection: "sites/hc-north", KeyName: &keyName, KeyVariable: &keyVariable},
			{ProviderID: "york", SettingID: &north, Namespace: "ns", HybridConnection: "hc-york"},
		}
		for i := range relays {
			if err := f.AddRelay(ctx, relays[i], by); err != nil {
				t.Fatal(err)
			}
			relays[i].CreatedAt, relays[i].UpdatedAt = start, start
			if err := f.AddRelay(ctx, relays[i], by); !errors.Is(err, store.ErrRelayExists) {
				t.Error("added twice:", err)
			}
		}
		expect := func(providerID string, settingID *string, want store.Relay, wantErr error) {
			t.Helper()
			got, err := f.Relay(ctx, providerID, settingID)
			if !errors.Is(err, wantErr) {
				t.Error(err)
			}
			same(t, "relay", got, want)
		}
		south := "south"
		expect("leeds", nil, relays[0], nil)
		expect("leeds", &north, relays[1], nil)
		expect("leeds", &south, store.Relay{}, store.ErrNoRelay)
		expect("york", nil, store.Relay{}, store.ErrNoRelay)
		expect("york", &north, relays[2], nil)
		expect("", nil, store.Relay{}, store.ErrNoRelay)

		all, err := f.Relays(ctx, "")
		same(t, "all", all, relays)
		own, err2 := f.Relays(ctx, "leeds")
		same(t, "own", own, relays[:2])
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}

		now := f.clock.advance(time.Hour)
		relays[1].HybridConnection, relays[1].KeyName, relays[1].KeyVariable, relays[1].UpdatedAt = "hc-north", nil, nil, now
		if err := f.ReplaceRelay(ctx, relays[1], by); err != nil {
			t.Fatal(err)
		}
		expect("leeds", &north, relays[1], nil)
		if err := f.RemoveRelay(ctx, "leeds", nil, by); err != nil {
			t.Fatal(err)
		}
		expect("leeds", nil, store.Relay{}, store.ErrNoRelay)
		expect("leeds", &north, relays[1], nil)
		if err := f.RemoveRelay(ctx, "leeds", nil, by); !errors.Is(err, store.ErrNoRelay) {
			t.Error(err)
		}
	})
}

func TestRelayChangesAreAudited(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		ctx := context.Background()
		r := store.Relay{ProviderID: "leeds", Namespace: "ns", HybridConnection: "hc"}
		if err := errors.Join(f.AddRelay(ctx, r, by), f.ReplaceRelay(ctx, r, by), f.RemoveRelay(ctx, "leeds", nil, by)); err != nil {
			t.Fatal(err)
		}
		if err := f.AddRelay(ctx, store.Relay{ProviderID: "leeds"}, by); err == nil {
			t.Error("added a relay to nowhere")
		}
		var got []store.AuditEntry
		if err := raw(t, f.url).Select(&got, "SELECT who, verb, provider_id, relay, why, detail FROM audit ORDER BY id"); err != nil {
			t.Fatal(err)
		}
		name := "ns/hc"
		entry := store.AuditEntry{Who: "ada", ProviderID: "leeds", Relay: &name, Why: "ticket 42", Detail: "leeds (default)"}
		want := []store.AuditEntry{entry, entry, entry}
		want[0].Verb, want[1].Verb, want[2].Verb = "add relay", "replace relay", "remove relay"
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRelayChecks(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		name, empty := "send", ""
		for what, r := range map[string]store.Relay{
			"no provider":            {Namespace: "ns", HybridConnection: "hc"},
			"no namespace":           {ProviderID: "leeds", HybridConnection: "hc"},
			"empty setting":          {ProviderID: "leeds", SettingID: &empty, Namespace: "ns", HybridConnection: "hc"},
			"key without variable":   {ProviderID: "leeds", Namespace: "ns", HybridConnection: "hc", KeyName: &name},
			"variable without a key": {ProviderID: "leeds", Namespace: "ns", HybridConnection: "hc", KeyVariable: &name, KeyName: &empty},
		} {
			if err := f.AddRelay(context.Background(), r, by); err == nil {
				t.Errorf("%s was added", what)
			}
		}
	})
}
