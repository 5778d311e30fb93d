package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
)

// The reasons of actions that a person ended. Their next delivery is completed
// without sending.
const (
	Withdrawn = "Withdrawn" // see [Store.Withdraw]
	Resolved  = "Resolved"  // see [Store.Resolve]; an action that had failed keeps its reason
)

// Replay is a dead letter that is about to be sent again.
type Replay struct {
	ProviderID, ActionID string
	BodySHA256           string // of the content that is to be sent
	Mended               bool   // a person may have changed the content
	DeadLetter           int64  // its sequence number
}

// Reopen readies an action for the replay of its dead letter: it waits again,
// its retries start anew, and its attempts and their evidence stay. It must
// return nil before the copy is sent; doing it twice is harmless.
//
// It refuses with [ErrNoAction], [ErrOtherProvider], [ErrConfirmed] and
// [ErrClaimed], with [ErrOtherContent] where the content is not the action's
// and was not mended, and with [ErrMayHaveArrived] where it was, and the old
// content may be at the gateway.
func (s *Store) Reopen(ctx context.Context, r Replay, by By) error {
	return s.amend(ctx, r.ProviderID, r.ActionID, by, "replay", func(tx *sqlx.Tx, a *Action, entry *AuditEntry, _ time.Time) error {
		entry.Detail = fmt.Sprintf("dead letter %d", r.DeadLetter)
		if a.Reason != nil {
			entry.Detail += ", " + *a.Reason
		}
		if orEmpty(a.BodySHA256) != r.BodySHA256 {
			if err := replaceable(ctx, tx, a, r); err != nil {
				return err
			}
			switch {
			case r.Mended && a.BodySHA256 == nil:
				entry.Detail += "; mended"
			case r.Mended:
				entry.Detail += "; content " + *a.BodySHA256 + " replaced by " + r.BodySHA256
			}
			a.BodySHA256 = &r.BodySHA256
		}
		h, err := history(ctx, tx, *a)
		if err != nil {
			return err
		}
		a.Status = Pending
		if len(h.Unanswered) > 0 {
			a.Status = Sent
		}
		a.ProviderID, entry.ProviderID = r.ProviderID, r.ProviderID // an invalid message may not have said
		a.Reason, a.FailedAt, a.ExpiresAt = nil, nil, nil
		a.RetryCount, a.PostponeCount, a.CountedFrom = 0, 0, a.Attempt
		a.ReplayedSequence, a.OutcomeOwed = &r.DeadLetter, false
		return nil
	})
}

// replaceable: of a row that only an invalid message made no content is known,
// and any fits.
func replaceable(ctx context.Context, tx *sqlx.Tx, a *Action, r Replay) error {
	if !r.Mended {
		if a.BodySHA256 == nil {
			return nil
		}
		return ErrOtherContent
	}
	maybe, err := mayHaveArrived(ctx, tx, a.ActionID)
	if err == nil && maybe {
		err = ErrMayHaveArrived
	}
	return err
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
				a.Reason = text(Resolved)
			}
		default:
			return fmt.Errorf("an action is resolved as confirmed or failed, not %q", as)
		}
		a.Status, a.OutcomeOwed = as, true
		return nil
	})
}

// Withdraw fails an action that still waits, with the reason [Withdrawn]. It is
// [ErrMayHaveArrived] where an attempt may have had an effect.
func (s *Store) Withdraw(ctx context.Context, providerID, actionID string, by By) error {
	return s.amend(ctx, providerID, actionID, by, "withdraw", func(tx *sqlx.Tx, a *Action, _ *AuditEntry, now time.Time) error {
		if a.Status == Failed {
			return ErrEnded
		}
		if maybe, err := mayHaveArrived(ctx, tx, a.ActionID); err != nil || maybe {
			return errors.Join(err, ErrMayHaveArrived)
		}
		a.Status, a.FailedAt, a.Reason, a.OutcomeOwed = Failed, &now, text(Withdrawn), true
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
		a, err := s.lockAny(ctx, tx, actionID)
		now := s.now()
		switch {
		case err != nil:
			return err
		case a.ProviderID != "" && a.ProviderID != providerID:
			return ErrOtherProvider
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
