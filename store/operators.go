package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
)

// Withdrawn is the reason of an action that a person withdrew. Its next
// delivery is completed without sending.
const Withdrawn = "Withdrawn"

// Reopen readies an action for the replay of its dead letter: it waits again,
// its retries start anew, and its attempts and their evidence stay. mended is
// the digest of a body that a person changed, or "" for none; it is
// [ErrMayHaveArrived] where the old body may be at the gateway. A confirmed
// action is [ErrConfirmed].
func (s *Store) Reopen(ctx context.Context, providerID, actionID, mended string, by By) error {
	return s.amend(ctx, providerID, actionID, by, "replay", func(tx *sqlx.Tx, a *Action, entry *AuditEntry, _ time.Time) error {
		if mended != "" && orEmpty(a.BodySHA256) != mended {
			if maybe, err := mayHaveArrived(ctx, tx, a.ActionID); err != nil || maybe {
				return errors.Join(err, ErrMayHaveArrived)
			}
			entry.Detail = "content replaced: " + orEmpty(a.BodySHA256) + " by " + mended
			a.BodySHA256 = &mended
		}
		h, err := history(ctx, tx, *a)
		if err != nil {
			return err
		}
		a.Status = Pending
		if len(h.Unanswered) > 0 {
			a.Status = Sent
		}
		a.Reason, a.FailedAt, a.ExpiresAt = nil, nil, nil
		a.RetryCount, a.PostponeCount, a.CountedFrom = 0, 0, a.Attempt
		return nil
	})
}

// Resolve ends an action as a person found it to be, Confirmed or Failed. A
// create that is confirmed takes hold of its accession number, or is
// [ErrAccessionHeld].
func (s *Store) Resolve(ctx context.Context, providerID, actionID string, as Status, by By) error {
	return s.amend(ctx, providerID, actionID, by, "resolve", func(_ *sqlx.Tx, a *Action, entry *AuditEntry, now time.Time) error {
		entry.Detail = string(a.Status) + " to " + string(as)
		switch as {
		case Confirmed:
			a.Reason, a.LastPhase, a.LastError, a.FailedAt = nil, nil, nil, nil
			a.ConfirmedAt, a.HoldsAccession = &now, a.HoldsAccession || a.Creates
		case Failed:
			if a.FailedAt == nil {
				a.FailedAt = &now
			}
			if a.Reason == nil {
				a.Reason = text("Resolved")
			}
		default:
			return fmt.Errorf("an action is resolved as confirmed or failed, not %q", as)
		}
		a.Status = as
		return nil
	})
}

// Withdraw fails an action that still waits, with the reason [Withdrawn]. It is
// [ErrMayHaveArrived] where an attempt may have had an effect.
func (s *Store) Withdraw(ctx context.Context, providerID, actionID string, by By) error {
	return s.amend(ctx, providerID, actionID, by, "withdraw", func(tx *sqlx.Tx, a *Action, _ *AuditEntry, now time.Time) error {
		if a.Status == Failed {
			return errors.New("action has failed already")
		}
		if maybe, err := mayHaveArrived(ctx, tx, a.ActionID); err != nil || maybe {
			return errors.Join(err, ErrMayHaveArrived)
		}
		a.Status, a.FailedAt, a.Reason = Failed, &now, text(Withdrawn)
		return nil
	})
}

// amend changes an action from outside its deliveries, with an audit entry. It
// refuses while a delivery is at work, and never touches a confirmed action. The
// settlement decided before is forgotten, so that the next delivery is judged
// by what the person decided.
func (s *Store) amend(ctx context.Context, providerID, actionID string, by By, verb string,
	change func(*sqlx.Tx, *Action, *AuditEntry, time.Time) error) error {
	err := s.write(ctx, func(tx *sqlx.Tx) error {
		a, err := s.lock(ctx, tx, providerID, actionID)
		now := s.now()
		switch {
		case err != nil:
			return err
		case a.Status == Confirmed:
			return ErrConfirmed
		case a.ClaimedUntil != nil && a.ClaimedUntil.After(now):
			return ErrClaimed
		}
		if err := a.abandon(ctx, tx, now); err != nil {
			return err
		}
		entry := a.note(by, verb, now)
		if err := change(tx, &a, &entry, now); err != nil {
			return err
		}
		a.UpdatedAt = now
		a.forgetSettlement()
		if err := save(ctx, tx, a); err != nil {
			return err
		}
		return appendAudit(ctx, tx, entry)
	})
	if violatesUnique(err) {
		err = ErrAccessionHeld
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", verb, actionID, err)
	}
	return nil
}
