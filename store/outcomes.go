package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
)

// WorklistOutcome is one row of the view worklist_outcomes: where an action
// stands, for its producer. It holds nothing of a participant. Times are UTC.
type WorklistOutcome struct {
	ActionID        string     `db:"action_id" json:"action_id"`
	ActionType      string     `db:"action_type" json:"action_type"`
	ProviderID      string     `db:"provider_id" json:"provider_id"`
	SettingID       *string    `db:"setting_id" json:"setting_id"` // nil: the provider's default
	AccessionNumber string     `db:"accession_number" json:"accession_number"`
	Status          Status     `db:"status" json:"status"`
	Reason          *string    `db:"reason" json:"reason"`         // of a failed end
	LastPhase       *string    `db:"last_phase" json:"last_phase"` // of the latest failure; nil once confirmed
	Attempts        int        `db:"attempts" json:"attempts"`
	EnqueuedAt      time.Time  `db:"enqueued_at" json:"enqueued_at"`
	SentAt          *time.Time `db:"sent_at" json:"sent_at"` // first marked sent; nil: no frame was ever written
	ConfirmedAt     *time.Time `db:"confirmed_at" json:"confirmed_at"`
	FailedAt        *time.Time `db:"failed_at" json:"failed_at"`
	Duplicate       bool       `db:"duplicate" json:"duplicate"`
	UpdatedAt       time.Time  `db:"updated_at" json:"updated_at"`
}

// Ended reports whether the outcome is an end.
func (o WorklistOutcome) Ended() bool { return o.Status == Confirmed || o.Status == Failed }

var outcomeColumns = columnsOf(WorklistOutcome{})

// WorklistOutcome returns the outcome of one action of the provider, or [ErrNoAction].
func (s *Store) WorklistOutcome(ctx context.Context, providerID, actionID string) (o WorklistOutcome, err error) {
	err = s.db.GetContext(ctx, &o, "SELECT "+strings.Join(outcomeColumns, ", ")+" FROM worklist_outcomes WHERE action_id = $1 AND provider_id = $2", actionID, providerID)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoAction
	}
	if err != nil {
		return WorklistOutcome{}, fmt.Errorf("outcome of %s: %w", actionID, err)
	}
	inUTC(&o)
	return o, nil
}

// OweOutcome notes that the end of an action could not be told, so that it is
// told later. An action that has not ended is left alone.
func (s *Store) OweOutcome(ctx context.Context, providerID, actionID string) error {
	_, err := s.db.ExecContext(ctx, "UPDATE actions SET outcome_owed = TRUE WHERE action_id = $1 AND provider_id = $2 AND status IN ('confirmed', 'failed')", actionID, providerID)
	if err != nil {
		return fmt.Errorf("owe outcome of %s: %w", actionID, err)
	}
	return nil
}

// OutcomesOwed lists at most limit outcomes that are yet to be told: of actions
// that ended outside of a delivery, and of those that could not be told. Oldest first.
func (s *Store) OutcomesOwed(ctx context.Context, limit int) ([]WorklistOutcome, error) {
	owed := []WorklistOutcome{}
	err := s.db.SelectContext(ctx, &owed, "SELECT "+strings.Join(outcomeColumns, ", ")+" FROM actions WHERE outcome_owed ORDER BY updated_at, action_id LIMIT $1", limit)
	if err != nil {
		return nil, fmt.Errorf("outcomes owed: %w", err)
	}
	for i := range owed {
		inUTC(&owed[i])
	}
	return owed, nil
}

// OutcomeTold notes that an owed outcome was told. If the action changed since
// it was read, it stays owed.
func (s *Store) OutcomeTold(ctx context.Context, o WorklistOutcome) error {
	_, err := s.db.ExecContext(ctx, "UPDATE actions SET outcome_owed = FALSE WHERE action_id = $1 AND provider_id = $2 AND updated_at = $3", o.ActionID, o.ProviderID, o.UpdatedAt)
	if err != nil {
		return fmt.Errorf("outcome of %s told: %w", o.ActionID, err)
	}
	return nil
}

// mostAsked bounds the parameters of one query.
const mostAsked = 500

// ActionsByID returns those of the actions that are known, by id, whosever they
// are: for operators, and to look up a page of messages at once. Ids are taken
// in lower case.
func (s *Store) ActionsByID(ctx context.Context, ids []string) (map[string]Action, error) {
	found := make(map[string]Action, len(ids))
	lower := make([]string, len(ids))
	for i, id := range ids {
		lower[i] = strings.ToLower(id)
	}
	ids = lower
	for len(ids) > 0 {
		n := min(len(ids), mostAsked)
		query, args, err := sqlx.In(selectAction+"WHERE action_id IN (?)", ids[:n])
		if err != nil {
			return nil, fmt.Errorf("actions by id: %w", err)
		}
		var page []Action
		if err := s.db.SelectContext(ctx, &page, sqlx.Rebind(sqlx.DOLLAR, query), args...); err != nil {
			return nil, fmt.Errorf("actions by id: %w", err)
		}
		for _, a := range page {
			found[a.ActionID] = a.utc()
		}
		ids = ids[n:]
	}
	return found, nil
}
