package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
)

// By is who does something, and why. Both are kept in the audit.
type By struct {
	Who string
	Why string
}

// AuditEntry is one row of the audit table: what people, or the program on its
// own account, did to an action or a relay.
type AuditEntry struct {
	ID         int64     `db:"id" json:"id"`
	At         time.Time `db:"at" json:"at"`
	Who        string    `db:"who" json:"who"`
	Verb       string    `db:"verb" json:"verb"`
	ProviderID string    `db:"provider_id" json:"provider_id"`
	ActionID   *string   `db:"action_id" json:"action_id"`
	Relay      *string   `db:"relay" json:"relay"` // "namespace/path"
	Why        string    `db:"why" json:"why"`
	Detail     string    `db:"detail" json:"detail"`
}

var (
	auditColumns = columnsOf(AuditEntry{})
	insertAudit  = "INSERT INTO audit (" + strings.Join(auditColumns[1:], ", ") + ") VALUES (" + placeholders(auditColumns[1:]) + ")" // the database numbers them
)

// Audit appends an entry, for a deed that changes no row: a dead letter
// discarded, a refused replay that was forced. ID and At are set by the store.
func (s *Store) Audit(ctx context.Context, entry AuditEntry) error {
	entry.At = s.now()
	err := s.write(ctx, func(tx *sqlx.Tx) error { return appendAudit(ctx, tx, entry) })
	if err != nil {
		return fmt.Errorf("audit %s: %w", entry.Verb, err)
	}
	return nil
}

func appendAudit(ctx context.Context, tx *sqlx.Tx, entry AuditEntry) error {
	for _, field := range []*string{&entry.Who, &entry.Why, &entry.Detail} {
		if t := text(*field); t != nil {
			*field = *t
		}
	}
	_, err := tx.ExecContext(ctx, insertAudit, valuesOf(entry)[1:]...)
	return err
}

// note is an entry about this action.
func (a *Action) note(by By, verb string, now time.Time) AuditEntry {
	return AuditEntry{At: now, Who: by.Who, Verb: verb, ProviderID: a.ProviderID, ActionID: &a.ActionID, Relay: a.Relay, Why: by.Why}
}

// RelayAudit lists what was done to the relays and the gateway at one hybrid
// connection ("namespace/path" as it was written then), oldest first.
func (s *Store) RelayAudit(ctx context.Context, relay string) ([]AuditEntry, error) {
	entries, err := s.auditWhere(ctx, "relay = $1 AND action_id IS NULL", relay)
	if err != nil {
		return nil, fmt.Errorf("audit of %s: %w", relay, err)
	}
	return entries, nil
}

func (s *Store) auditWhere(ctx context.Context, condition, arg string) ([]AuditEntry, error) {
	entries := []AuditEntry{}
	err := s.db.SelectContext(ctx, &entries, "SELECT "+strings.Join(auditColumns, ", ")+" FROM audit WHERE "+condition+" ORDER BY id", arg)
	for i := range entries {
		inUTC(&entries[i])
	}
	return entries, err
}
