package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
)

// Ref names one attempt of one action of one provider.
type Ref struct {
	ProviderID string
	ActionID   string
	Attempt    int
}

var markSent = writing("text text bigint timestamptz text timestamptz",
	`UPDATE actions
		SET status = 'sent', sent_at = COALESCE(sent_at, $4), attempt_sent_at = $4, attempt_relay = $5, relay = $5,
			claimed_until = $6, holds_accession = (holds_accession OR creates), updated_at = $4
		{FROM each} WHERE action_id = $1 AND provider_id = $2 AND attempt = $3 AND claimed_until IS NOT NULL`)

// MarkSent writes that the attempt is about to put its frame on the wire to
// relay ("namespace/path"), and renews the lease to now plus lease. It must
// return nil before the frame is written. A create takes hold of its accession
// number with it.
//
// It is [ErrStale] when the attempt is not the row's own any more, and
// [ErrAccessionHeld] when another create holds the accession number; in both
// cases nothing may be sent. Marking the same attempt twice is harmless.
func (s *Store) MarkSent(ctx context.Context, ref Ref, relay string, lease time.Duration) error {
	now := s.now()
	n, err := s.gather(ctx, &s.marks, markSent, ref.ActionID, ref.ProviderID, ref.Attempt, now, relay, micro(now.Add(lease)))
	if violatesUnique(err) {
		err = ErrAccessionHeld
	}
	if err == nil {
		err = one(n)
	}
	if err != nil {
		return fmt.Errorf("mark %s sent: %w", ref.ActionID, err)
	}
	return nil
}

// Release gives a claim up. The caller vouches that nothing was sent; no
// attempt is spent, and the row stands as before the claim. It is [ErrStale]
// when the attempt is not the row's own any more, or was marked sent.
func (s *Store) Release(ctx context.Context, ref Ref) error {
	n, err := s.put(ctx, `UPDATE actions
		SET claimed_until = NULL, attempt_started_at = NULL, updated_at = $4
		WHERE action_id = $1 AND provider_id = $2 AND attempt = $3
			AND claimed_until IS NOT NULL AND attempt_sent_at IS NULL`,
		ref.ActionID, ref.ProviderID, ref.Attempt, s.now())
	if err == nil {
		err = one(n)
	}
	if err != nil {
		return fmt.Errorf("release %s: %w", ref.ActionID, err)
	}
	return nil
}

// Abandon gives up a claim whose frame may have been sent: the attempt stays as
// evidence, and whichever message of the action comes next may begin at once:
// what was settled before is forgotten. It is [ErrStale] when the attempt is
// not the row's own any more.
//
// Of an attempt that was never marked sent, for which [Store.Release] is meant,
// it keeps that it had no effect.
func (s *Store) Abandon(ctx context.Context, ref Ref) error {
	err := s.write(ctx, func(tx *sqlx.Tx) error {
		a, err := s.lock(ctx, tx, ref.ProviderID, ref.ActionID)
		switch {
		case errors.Is(err, ErrNoAction):
			return ErrStale
		case err != nil:
			return err
		case a.ClaimedUntil == nil || a.Attempt != ref.Attempt:
			return ErrStale
		}
		now := s.now()
		if err := a.abandon(ctx, tx, now); err != nil {
			return err
		}
		a.UpdatedAt = now
		a.forgetSettlement()
		return save(ctx, tx, a)
	})
	if err != nil {
		return fmt.Errorf("abandon %s: %w", ref.ActionID, err)
	}
	return nil
}

// one turns a count of changed rows into the fence's answer.
func one(n int64) error {
	if n != 1 {
		return ErrStale
	}
	return nil
}
