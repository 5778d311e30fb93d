package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
)

// Outcome is what became of an attempt, and how its message is to be settled.
type Outcome struct {
	Ref
	SequenceNumber int64 // of the message that the settlement is for

	Status      Status
	Settlement  Settlement
	Reason      string    // dead-letter reason; "" for none
	Description string    // dead-letter description
	NextRetryAt time.Time // for Retry and Postpone

	Phase string // where it failed; "" keeps the row's last phase
	Error string // never with a participant's details; cut to 2 KiB
	Code  int    // HTTP status or close code; 0 for none

	Relay     string // "namespace/path"; "" when none was tried
	Sent      string // SentNo, SentMaybe or SentYes
	Answered  bool   // the gateway said something, if only by closing cleanly
	Duplicate bool   // confirmed by an explained "exists"
	Spent     bool   // counts as a try; postponements do not
	Timings   Timings
}

// Record writes an outcome and ends its claim, in one transaction. It must
// return nil before the message is settled.
//
// An attempt that is no longer the row's own may still confirm the action and
// nothing else: other outcomes are [ErrStale], or [ErrFinal] when the action is
// confirmed. Recording the same outcome twice is harmless, so that a call whose
// answer was lost can be made again.
func (s *Store) Record(ctx context.Context, o Outcome) error {
	now := s.now()
	own, err := s.end(ctx, o, now)
	if err == nil && !own { // and it never is again: attempts are numbered upwards
		err = s.recordLate(ctx, o, now)
	}
	if err != nil {
		return fmt.Errorf("record %s attempt %d: %w", o.ActionID, o.Attempt, err)
	}
	return nil
}

// recordLate judges the outcome of an attempt that is not the row's own any more.
func (s *Store) recordLate(ctx context.Context, o Outcome, now time.Time) error {
	return s.write(ctx, func(tx *sqlx.Tx) error {
		a, err := s.lock(ctx, tx, o.ProviderID, o.ActionID)
		switch {
		case err != nil:
			return err
		case o.Status == Confirmed:
			return a.confirmLate(ctx, tx, o, now)
		case a.recorded(o):
			return nil
		case a.Status == Confirmed:
			return ErrFinal
		}
		return ErrStale
	})
}

// recorded reports an outcome that the row already has.
func (a *Action) recorded(o Outcome) bool {
	return a.ClaimedUntil == nil && a.Attempt == o.Attempt && a.Status == o.Status &&
		a.decided(o.SequenceNumber) && *a.Settlement == o.Settlement
}

// confirmLate lets an acknowledgement count that was read after the claim was
// lost. Whoever holds the claim now loses it.
func (a *Action) confirmLate(ctx context.Context, tx *sqlx.Tx, o Outcome, now time.Time) error {
	late := a.ended(o, now)
	if a.Attempt != o.Attempt {
		late.StartedAt, late.SentAt, late.Relay = now, &now, text(o.Relay) // unless archived before
	}
	if err := a.abandon(ctx, tx, now); err != nil {
		return err
	}
	if err := archive(ctx, tx, late); err != nil {
		return err
	}
	if a.Status == Confirmed {
		return nil
	}
	a.settle(o, now)
	return save(ctx, tx, *a)
}

// settle applies the outcome to the row, except for its attempts.
func (a *Action) settle(o Outcome, now time.Time) {
	a.Status, a.Duplicate, a.UpdatedAt = o.Status, o.Duplicate, now
	a.ClaimedUntil, a.NextRetryAt = nil, instant(o.NextRetryAt)
	a.Reason, a.ConfirmedAt, a.FailedAt = nil, nil, nil
	if o.Relay != "" {
		a.Relay = text(o.Relay)
	}
	if o.Phase != "" {
		a.LastPhase = text(o.Phase)
	}
	if failure := cmp.Or(o.Error, o.Description); failure != "" {
		a.LastError = text(failure)
	}
	switch o.Status {
	case Confirmed:
		a.ConfirmedAt, a.LastPhase, a.LastError, a.NextRetryAt = &now, nil, nil, nil
	case Failed:
		a.FailedAt, a.Reason, a.NextRetryAt = &now, text(o.Reason), nil
	}
	switch o.Settlement {
	case Retry:
		a.RetryCount, a.PostponeCount = a.RetryCount+1, 0
	case Postpone:
		a.PostponeCount++
	}
	a.Settlement, a.SettlementReason, a.SettlementDescription = &o.Settlement, text(o.Reason), text(o.Description)
	a.SettlementSequence = &o.SequenceNumber
}

// forgetSettlement makes every message of the action a newcomer: none repeats
// what was decided for it, and none waits for another.
func (a *Action) forgetSettlement() {
	a.NextRetryAt = nil
	a.Settlement, a.SettlementReason, a.SettlementDescription, a.SettlementSequence = nil, nil, nil, nil
}

// ended is the attempts row of the outcome.
func (a *Action) ended(o Outcome, now time.Time) Attempt {
	end := a.openAttempt(now)
	end.Attempt = o.Attempt
	if o.Relay != "" {
		end.Relay = text(o.Relay)
	}
	end.Sent, end.Answered, end.Phase, end.Error, end.Code = o.Sent, o.Answered, text(o.Phase), text(o.Error), o.Code
	end.Reused, end.DNSUs, end.ConnectUs = o.Timings.Reused, o.Timings.DNS.Microseconds(), o.Timings.Connect.Microseconds()
	end.TLSUs, end.HandshakeUs, end.AckUs = o.Timings.TLS.Microseconds(), o.Timings.Handshake.Microseconds(), o.Timings.Ack.Microseconds()
	end.Result = string(o.Settlement)
	if o.Status == Confirmed || o.Status == Failed {
		end.Result = string(o.Status)
	}
	return end
}

// Invalid is a message that does not validate, as far as it could be read.
// Every text is taken as it came: cut, and mended where it is not UTF-8.
type Invalid struct {
	ActionID        string // canonical lower-case UUID
	ActionType      string
	ProviderID      string // "" when the message does not say
	SettingID       *string
	AccessionNumber string
	Reason          string // dead-letter reason
	Description     string // names fields, never their values
	SequenceNumber  int64
	EnqueuedAt      time.Time
}

// RecordInvalid makes a failed row for an action that has none. A row that
// exists is never changed.
func (s *Store) RecordInvalid(ctx context.Context, i Invalid) error {
	if i.ActionID == "" {
		return errors.New("record invalid message: no action id")
	}
	if _, err := s.put(ctx, insertAction, valuesOf(i.failedRow(s.now()))...); err != nil {
		return fmt.Errorf("record invalid message of %s: %w", i.ActionID, err)
	}
	return nil
}

// failedRow is the row of an action of which nothing else is known.
func (i Invalid) failedRow(now time.Time) Action {
	row := Action{
		ActionID: i.ActionID, ActionType: short(i.ActionType), ProviderID: short(i.ProviderID),
		AccessionNumber: short(i.AccessionNumber), SequenceNumber: i.SequenceNumber,
		EnqueuedAt: micro(i.EnqueuedAt), ReceivedAt: now, UpdatedAt: now,
	}
	if i.SettingID != nil {
		setting := short(*i.SettingID)
		row.SettingID = &setting
	}
	row.settle(Outcome{SequenceNumber: i.SequenceNumber, Status: Failed, Settlement: DeadLetter, Reason: i.Reason, Description: i.Description}, now)
	return row
}

// short is an identifier from a message that did not validate.
func short(s string) string {
	if t := text(s); t != nil {
		return cut(*t, 64)
	}
	return ""
}
