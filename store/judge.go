package store

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"
)

// reclaim judges a delivery of an action that has a row.
func (s *Store) reclaim(ctx context.Context, tx *sqlx.Tx, d Delivery, now time.Time) (Claim, error) {
	row, err := s.lockAny(ctx, tx, d.ActionID)
	if err != nil {
		return Claim{}, err
	}
	c := Claim{Verdict: row.judge(d, now)}
	if err := row.putInOrder(ctx, tx, c.Verdict, d); err != nil {
		return Claim{}, err
	}
	switch c.Verdict {
	case OtherProvider:
		return c, nil
	case Busy:
		c.Until = *row.ClaimedUntil
	case Waiting:
		c.Until = *row.NextRetryAt
	case Claimed:
		if err := s.takeUp(ctx, tx, &row, d, now); err != nil {
			return Claim{}, err
		}
		c.Attempt = row.Attempt
		if c.History, err = history(ctx, tx, row); err != nil {
			return Claim{}, err
		}
	}
	c.Action = row
	return c, nil
}

// putInOrder gives a waiting action the place of the earliest message that
// brings it: a resend may be received before what it repeats, and what was enqueued
// between the two must still find the action ahead of it.
func (a *Action) putInOrder(ctx context.Context, tx *sqlx.Tx, v Verdict, d Delivery) error {
	if v == OtherProvider || v == OtherContent || a.final() || d.OriginalSequence <= 0 || d.OriginalSequence >= a.SequenceNumber {
		return nil
	}
	a.SequenceNumber = d.OriginalSequence
	return save(ctx, tx, *a)
}

// judge weighs the checks in their one right order. A row made from an invalid
// message may know neither provider nor content: then nothing contradicts.
func (a *Action) judge(d Delivery, now time.Time) Verdict {
	switch {
	case a.ProviderID != "" && a.ProviderID != d.ProviderID:
		return OtherProvider
	case a.BodySHA256 != nil && *a.BodySHA256 != d.BodySHA256:
		return OtherContent
	case a.Status == Confirmed:
		return AlreadyConfirmed
	case a.ClaimedUntil == nil && a.decided(d.SequenceNumber):
		// Before the failed check: a broker's clock that runs ahead of ours must
		// not make the message that failed look like a later one.
		return Repeat
	case a.Status == Failed && !a.startsAfresh(d):
		return AlreadyFailed
	case a.ClaimedUntil != nil && a.ClaimedUntil.After(now):
		return Busy
	case a.NextRetryAt != nil && now.Sub(*a.NextRetryAt) <= grace && !a.decided(d.CopiedFrom):
		return Waiting
	}
	return Claimed
}

// decided reports whether the row's settlement is that of message sequence.
func (a *Action) decided(sequence int64) bool {
	return a.SettlementSequence != nil && *a.SettlementSequence == sequence
}

// startsAfresh: a failed action that never left the house may be sent by a
// message that was first enqueued after it failed.
func (a *Action) startsAfresh(d Delivery) bool {
	return a.SentAt == nil && micro(d.EnqueuedAt).After(*a.FailedAt)
}

// takeUp claims an existing row.
func (s *Store) takeUp(ctx context.Context, tx *sqlx.Tx, a *Action, d Delivery, now time.Time) error {
	if err := a.abandon(ctx, tx, now); err != nil {
		return err
	}
	if a.Status == Failed {
		entry := a.note(By{Who: "worklist-relay", Why: "enqueued again after it failed without being sent"}, "restart", now)
		entry.ProviderID = d.ProviderID
		if a.Reason != nil {
			entry.Detail = "had failed: " + *a.Reason
		}
		if err := appendAudit(ctx, tx, entry); err != nil {
			return err
		}
		a.begin(d, now)
	}
	a.claim(d, now)
	return save(ctx, tx, *a)
}

// lookAround finds the actions of the same accession number that stand in the way.
func (c *Claim) lookAround(ctx context.Context, tx *sqlx.Tx, d Delivery, now time.Time) error {
	var near []Action
	err := tx.SelectContext(ctx, &near, selectAction+`
		WHERE provider_id = $1 AND accession_number = $2 AND action_id <> $3 AND (status IN ('pending', 'sent') OR holds_accession)
		ORDER BY sequence_number, action_id`, d.ProviderID, d.AccessionNumber, d.ActionID)
	for i := range near {
		a := near[i].utc()
		if c.Earlier == nil && a.alive(now) && a.SequenceNumber < c.Action.SequenceNumber {
			c.Earlier = &a
		}
		if d.Create && a.HoldsAccession {
			c.Holder = &a
		}
	}
	return err
}
