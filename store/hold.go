package store

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/jmoiron/sqlx"
)

// HoldGateway holds back the actions of the gateway at relay ("namespace/path",
// in any case): they wait, and spend no attempts. It is [ErrHeld] where it is
// held already.
func (s *Store) HoldGateway(ctx context.Context, relay string, by By) error {
	return s.changeHold(ctx, relay, by, "hold", `INSERT INTO gateway_health AS known (relay, failures, probes, held_at, held_by, held_why, updated_at)
		VALUES ($1, 0, 0, $2, $3, $4, $2)
		ON CONFLICT (relay) DO UPDATE SET held_at = $2, held_by = $3, held_why = $4 WHERE known.held_at IS NULL`, ErrHeld)
}

// ReleaseGateway lets its actions flow again. It is [ErrNotHeld] where it is not held.
func (s *Store) ReleaseGateway(ctx context.Context, relay string, by By) error {
	return s.changeHold(ctx, relay, by, "release", `UPDATE gateway_health SET held_at = NULL, held_by = NULL, held_why = NULL
		WHERE relay = $1 AND held_at IS NOT NULL`, ErrNotHeld)
}

func (s *Store) changeHold(ctx context.Context, relay string, by By, verb, query string, refused error) error {
	relay = strings.ToLower(relay)
	err := s.write(ctx, func(tx *sqlx.Tx) error {
		args := []any{relay}
		if verb == "hold" {
			args = append(args, s.now(), orEmpty(text(by.Who)), orEmpty(text(by.Why)))
		}
		result, err := tx.ExecContext(ctx, query, args...)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n != 1 {
			return cmp.Or(err, refused)
		}
		return appendAudit(ctx, tx, AuditEntry{At: s.now(), Who: by.Who, Verb: verb, Relay: &relay, Why: by.Why})
	})
	if err != nil {
		return fmt.Errorf("%s %s: %w", verb, relay, err)
	}
	return nil
}
