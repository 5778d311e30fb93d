package store_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/worklist-relay/worklist-relay/store"
)

// One delivery, from receipt to the record after which its message may be
// completed; and the same message again, because completing it failed.
func ExampleStore_Claim() {
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	s, err := store.Open(ctx, "sqlite:"+filepath.Join(dir, "worklist.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	if err := s.Migrate(ctx); err != nil {
		log.Fatal(err)
	}

	delivery := store.Delivery{
		ActionID: "8a9dcb44-2f0d-4a5b-9f0e-0a43c1c0d7a1", ActionType: "worklist.create_item", Create: true,
		ProviderID: "leeds", AccessionNumber: "ACC20260302AB12", BodySHA256: "e3b0c442",
		SequenceNumber: 1, OriginalSequence: 1, EnqueuedAt: time.Now(), Lease: time.Minute,
	}
	claim, err := s.Claim(ctx, delivery)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(claim.Verdict, "attempt", claim.Attempt)

	const gateway = "example.servicebus.windows.net/hc-leeds"
	if err := s.MarkSent(ctx, claim.Ref(), gateway, time.Minute); err != nil {
		log.Fatal(err)
	}
	// The frame goes out here, and the ack is read.
	err = s.Record(ctx, store.Outcome{
		Ref: claim.Ref(), SequenceNumber: 1, Status: store.Confirmed, Settlement: store.Complete,
		Relay: gateway, Sent: store.SentYes, Answered: true, Spent: true,
	})
	if err != nil {
		log.Fatal(err)
	}

	claim, err = s.Claim(ctx, delivery)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(claim.Verdict)
	// Output:
	// claimed attempt 1
	// already confirmed
}
