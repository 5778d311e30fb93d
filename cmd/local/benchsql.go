package main

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
)

// writes is the SQL of n good actions alone: claim, mark and record, with inHand
// of them at once.
func writes(ctx context.Context, s *store.Store, inHand, n int) (cost, error) {
	var next atomic.Int64
	return measured(func() error {
		return each(make([]gateway, inHand), func(gateway) error {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if err := write(ctx, s, i); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// write is the SQL of one good action, the i-th, as the consumer has it.
func write(ctx context.Context, s *store.Store, i int64) error {
	const relayName = "127.0.0.1:12345/gw-001"
	id, now := uuid.NewString(), time.Now()
	claim, err := s.Claim(ctx, store.Delivery{
		ActionID: id, ActionType: typeCreate, Create: true, ProviderID: fmt.Sprintf(sampleGateway, i%rateGateways+1),
		AccessionNumber: "SYN" + strings.ToUpper(id[:13]), BodySHA256: strings.Repeat("0123456789abcdef", 4),
		SequenceNumber: i, OriginalSequence: i, EnqueuedAt: now, ExpiresAt: now.AddDate(0, 0, 1), Lease: time.Minute,
	})
	if err != nil {
		return err
	}
	if claim.Verdict != store.Claimed {
		return fmt.Errorf("a new action is %s", claim.Verdict)
	}
	if err := s.MarkSent(ctx, claim.Ref(), relayName, time.Minute); err != nil {
		return err
	}
	return s.Record(ctx, store.Outcome{
		Ref: claim.Ref(), SequenceNumber: i, Status: store.Confirmed, Settlement: store.Complete,
		Relay: relayName, Sent: store.SentYes, Answered: true, Spent: true, Timings: store.Timings{Ack: time.Millisecond, Reused: true},
	})
}

// storeAlone is writes in a scene of its own.
func storeAlone(ctx context.Context, url string, inHand, n int) (c cost, err error) {
	scene, err := newBenchScene(ctx, url, false, false, uniform(1, relaytest.ModePersistent, 0))
	if err != nil {
		return cost{}, err
	}
	defer closing(scene, &err)
	return writes(ctx, scene.store, inHand, n)
}
