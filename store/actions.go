package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
)

// Status is where an action stands.
type Status string

// The statuses of an action, as the status column holds them.
const (
	Pending   Status = "pending"   // certainly never arrived at a gateway
	Sent      Status = "sent"      // may have arrived, not yet acknowledged
	Confirmed Status = "confirmed" // acknowledged; never left again
	Failed    Status = "failed"    // given up; see the reason
)

// Settlement is what is to become of the message that carried an action.
type Settlement string

// The settlements, as the settlement column holds them.
const (
	Complete   Settlement = "complete"
	Retry      Settlement = "retry"    // a scheduled copy, then complete
	Postpone   Settlement = "postpone" // as Retry, but no attempt is spent
	DeadLetter Settlement = "dead-letter"
)

// Action is one row of the actions table. Times are UTC with microseconds;
// nil is SQL NULL and JSON null: not known, or it has not happened.
type Action struct {
	ActionID        string  `db:"action_id" json:"action_id"` // canonical lower-case UUID
	ActionType      string  `db:"action_type" json:"action_type"`
	Creates         bool    `db:"creates" json:"creates"` // the action makes a worklist item
	ProviderID      string  `db:"provider_id" json:"provider_id"`
	SettingID       *string `db:"setting_id" json:"setting_id"`
	AccessionNumber string  `db:"accession_number" json:"accession_number"`
	BodySHA256      *string `db:"body_sha256" json:"body_sha256"` // nil: only an invalid message was seen

	SequenceNumber int64      `db:"sequence_number" json:"sequence_number"` // of the first message
	EnqueuedAt     time.Time  `db:"enqueued_at" json:"enqueued_at"`         // of the first message, by the broker's clock
	ReceivedAt     time.Time  `db:"received_at" json:"received_at"`
	ExpiresAt      *time.Time `db:"expires_at" json:"expires_at"`

	Status         Status     `db:"status" json:"status"`
	Reason         *string    `db:"reason" json:"reason"`         // the dead-letter reason of a failed end
	LastPhase      *string    `db:"last_phase" json:"last_phase"` // phase and error of the latest failure
	LastError      *string    `db:"last_error" json:"last_error"`
	Relay          *string    `db:"relay" json:"relay"`     // "namespace/path" tried last
	SentAt         *time.Time `db:"sent_at" json:"sent_at"` // first marked sent; nil: no frame was ever written
	ConfirmedAt    *time.Time `db:"confirmed_at" json:"confirmed_at"`
	FailedAt       *time.Time `db:"failed_at" json:"failed_at"`
	UpdatedAt      time.Time  `db:"updated_at" json:"updated_at"`
	Duplicate      bool       `db:"duplicate" json:"duplicate"`             // confirmed by an explained "exists"
	HoldsAccession bool       `db:"holds_accession" json:"holds_accession"` // no other create may use the accession number

	Attempts      int        `db:"attempts" json:"attempts"` // tries spent; postponements are not
	RetryCount    int        `db:"retry_count" json:"retry_count"`
	PostponeCount int        `db:"postpone_count" json:"postpone_count"` // since the last try
	NextRetryAt   *time.Time `db:"next_retry_at" json:"next_retry_at"`

	Attempt          int        `db:"attempt" json:"attempt"`             // the fence: number of the latest claim
	CountedFrom      int        `db:"counted_from" json:"counted_from"`   // attempts up to this one no longer count against the limits
	ClaimedUntil     *time.Time `db:"claimed_until" json:"claimed_until"` // the claim's lease; nil: no claim
	AttemptStartedAt *time.Time `db:"attempt_started_at" json:"attempt_started_at"`
	AttemptSentAt    *time.Time `db:"attempt_sent_at" json:"attempt_sent_at"`
	AttemptRelay     *string    `db:"attempt_relay" json:"attempt_relay"`

	Settlement            *Settlement `db:"settlement" json:"settlement"` // decided for the message settlement_sequence
	SettlementReason      *string     `db:"settlement_reason" json:"settlement_reason"`
	SettlementDescription *string     `db:"settlement_description" json:"settlement_description"`
	SettlementSequence    *int64      `db:"settlement_sequence" json:"settlement_sequence"`

	ReplayedSequence *int64 `db:"replayed_sequence" json:"replayed_sequence"` // the dead letter that it was replayed from last; nil: none
	OutcomeOwed      bool   `db:"outcome_owed" json:"outcome_owed"`           // it ended outside of a delivery, and nobody was told yet
}

// NextTry is when the action is due to move: at the end of a claim's lease,
// else at its next retry, else since its last change.
func (a Action) NextTry() time.Time {
	switch {
	case a.ClaimedUntil != nil:
		return *a.ClaimedUntil
	case a.NextRetryAt != nil:
		return *a.NextRetryAt
	}
	return a.UpdatedAt
}

// final reports an end that only a person, a resend or a late ack changes.
func (a Action) final() bool { return a.Status == Confirmed || a.Status == Failed }

var actionColumns = columnsOf(Action{})

var (
	insertAction = "INSERT INTO actions (" + strings.Join(actionColumns, ", ") + ") VALUES (" + placeholders(actionColumns) +
		") ON CONFLICT (action_id) DO NOTHING"
	updateAction = "UPDATE actions SET " + assignments(actionColumns) + " WHERE action_id = $1" // the first column
	selectAction = "SELECT " + strings.Join(actionColumns, ", ") + " FROM actions "
)

// alive reports whether the action is expected to move by itself: an attempt
// is under way, or its next message is not long overdue. Without either it was
// given back to the queue a moment ago.
func (a Action) alive(now time.Time) bool { return !a.final() && now.Sub(a.NextTry()) <= grace }

// insert reports whether the row is new; one that exists is left alone.
func insert(ctx context.Context, tx *sqlx.Tx, a Action) (bool, error) {
	n, err := affected(tx.ExecContext(ctx, insertAction, valuesOf(a)...))
	return n == 1, err
}

// lock reads an action of the provider and keeps other writers off its row
// until tx ends.
func (s *Store) lock(ctx context.Context, tx *sqlx.Tx, providerID, actionID string) (Action, error) {
	a, err := s.lockAny(ctx, tx, actionID)
	if err == nil && a.ProviderID != providerID {
		return Action{}, ErrNoAction
	}
	return a, err
}

// lockAny is lock for a delivery that must first learn whose the action is.
func (s *Store) lockAny(ctx context.Context, tx *sqlx.Tx, actionID string) (a Action, err error) {
	err = tx.GetContext(ctx, &a, selectAction+"WHERE action_id = $1"+s.dialect.forUpdate, actionID)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoAction
	}
	return a.utc(), err
}

// find reads an action, whosever it is.
func (s *Store) find(ctx context.Context, actionID string) (a Action, err error) {
	err = s.db.GetContext(ctx, &a, selectAction+"WHERE action_id = $1", actionID)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoAction
	}
	return a.utc(), err
}

// save writes back a row that lock returned.
func save(ctx context.Context, tx *sqlx.Tx, a Action) error {
	_, err := tx.ExecContext(ctx, updateAction, valuesOf(a)...)
	return err
}
