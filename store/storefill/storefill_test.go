package storefill_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storefill"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(suite.Tests(m).Run()) }

func TestFill(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	storetest.Each(t, func(t *testing.T, url string) {
		s := storetest.Open(t, url)
		for range 2 { // on top of each other
			if err := storefill.Fill(ctx, url, 150); err != nil {
				t.Fatal(err)
			}
		}
		counts, err := s.Counts(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[store.Status]int{store.Pending: 0, store.Sent: 0, store.Confirmed: 294, store.Failed: 6}, counts); diff != "" {
			t.Error(diff)
		}
		relays, err := s.Relays(ctx, "")
		if err != nil || len(relays) != storefill.Providers {
			t.Errorf("%d relays, %v", len(relays), err)
		}
		newest, err := s.Actions(ctx, store.ActionFilter{Limit: 1})
		if err != nil || len(newest) != 1 || time.Since(newest[0].ReceivedAt) > time.Minute {
			t.Fatalf("newest: %v, %v", newest, err)
		}

		// To the store they are as its own.
		a, attempts, _, err := s.Action(ctx, newest[0].ProviderID, newest[0].ActionID)
		if err != nil || len(attempts) != 1 {
			t.Fatalf("%d attempts, %v", len(attempts), err)
		}
		claim, err := s.Claim(ctx, store.Delivery{
			ActionID: a.ActionID, ActionType: a.ActionType, Create: a.Creates, ProviderID: a.ProviderID, AccessionNumber: a.AccessionNumber,
			BodySHA256: *a.BodySHA256, SequenceNumber: 1, OriginalSequence: 1, EnqueuedAt: a.EnqueuedAt, Lease: time.Minute,
		})
		if err != nil || claim.Verdict != store.AlreadyConfirmed {
			t.Errorf("claim: %v, %v", claim.Verdict, err)
		}
	})
}
