package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
)

// Lost is a message that the broker dead-lettered on its own, as far as it
// could be read. Reason and Description are the broker's.
type Lost struct {
	Invalid
	BodySHA256 string // of the canonical content; "" when the message does not validate
	DeadLetter int64  // its own sequence number; 0: not known
}

// Ending is what a lost message means for its action.
type Ending int

// The endings, in the order in which they are considered.
const (
	NotItsMessage Ending = iota + 1 // the action is another provider's, or of other content
	EndedBefore                     // the action is confirmed, has failed, or was begun anew since
	StillAlive                      // an attempt is under way, or another message of the action is expected
	MarkedFailed                    // with this message the action ended
)

var endings = [...]string{"none", "not its message", "ended before", "still alive", "marked failed"}

// String names the ending for logs.
func (e Ending) String() string {
	if e < 0 || int(e) >= len(endings) {
		return fmt.Sprintf("ending %d", int(e))
	}
	return endings[e]
}

// WouldEnd says what [Store.DeadLettered] would do, and does nothing.
func (s *Store) WouldEnd(ctx context.Context, l Lost) (Ending, error) {
	a, err := s.find(ctx, l.ActionID)
	switch {
	case errors.Is(err, ErrNoAction):
		return MarkedFailed, nil
	case err != nil:
		return 0, fmt.Errorf("dead letter of %s: %w", l.ActionID, err)
	}
	return a.ending(l, s.now()), nil
}

// DeadLettered fails the action of a lost message with the broker's reason and
// description, where nothing else will move it any more; one without a row gets
// a row. It appends an audit entry when it does, and changes nothing when it
// does not. Of several calls for one message, exactly one is MarkedFailed.
//
// The action has failed since it was last due to move, or without a row since
// it was enqueued, and not since now: what a producer enqueued after that is a
// resend and starts afresh (where no frame was written), also if it was on the
// queue before this call.
func (s *Store) DeadLettered(ctx context.Context, l Lost, by By) (e Ending, err error) {
	if l.ActionID == "" {
		return 0, errors.New("dead letter: no action id")
	}
	// Most are known already, and a look does not make other writers wait.
	if e, err := s.WouldEnd(ctx, l); err != nil || e != MarkedFailed {
		return e, err
	}
	now := s.now()
	err = s.write(ctx, func(tx *sqlx.Tx) error {
		row := l.failedRow(now)
		row.OutcomeOwed = true
		if seen := instant(l.EnqueuedAt); seen != nil && seen.Before(now) {
			row.FailedAt = seen
		}
		inserted, err := insert(ctx, tx, row)
		if err != nil {
			return err
		}
		if inserted {
			e = MarkedFailed
		} else if row, e, err = s.endLost(ctx, tx, l, now); err != nil || e != MarkedFailed {
			return err
		}
		entry := row.note(by, "reconcile", now)
		entry.Detail = "dead-lettered by the broker: " + l.Reason
		return appendAudit(ctx, tx, entry)
	})
	if err != nil {
		return 0, fmt.Errorf("dead letter of %s: %w", l.ActionID, err)
	}
	return e, nil
}

// endLost fails an action that has a row, if this message was its last.
func (s *Store) endLost(ctx context.Context, tx *sqlx.Tx, l Lost, now time.Time) (Action, Ending, error) {
	a, err := s.lockAny(ctx, tx, l.ActionID)
	if err != nil {
		return a, 0, err
	}
	e := a.ending(l, now)
	if e != MarkedFailed {
		return a, e, nil
	}
	since := a.NextTry()
	if err := a.abandon(ctx, tx, now); err != nil {
		return a, 0, err
	}
	a.Status, a.FailedAt, a.Reason, a.UpdatedAt, a.OutcomeOwed = Failed, &since, text(l.Reason), now, true
	if description := text(l.Description); description != nil {
		a.LastError = description
	}
	a.forgetSettlement()
	return a, e, save(ctx, tx, a)
}

// ending judges a lost message as a delivery of it would be judged. One that
// does not validate never changes a row.
func (a *Action) ending(l Lost, now time.Time) Ending {
	invalid := l.BodySHA256 == ""
	switch {
	case a.ProviderID != "" && a.ProviderID != l.ProviderID,
		!invalid && a.BodySHA256 != nil && *a.BodySHA256 != l.BodySHA256:
		return NotItsMessage
	case a.final():
		return EndedBefore
	case invalid:
		return NotItsMessage
	case l.SequenceNumber > 0 && l.SequenceNumber < a.SequenceNumber,
		l.DeadLetter > 0 && a.ReplayedSequence != nil && l.DeadLetter == *a.ReplayedSequence:
		return EndedBefore // it ended an earlier life of the action, which a resend or a replay began anew
	case a.alive(now):
		return StillAlive
	}
	return MarkedFailed
}
