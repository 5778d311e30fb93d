package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Health is what is known of the gateway at one hybrid connection; a row of
// table gateway_health. It belongs to the hybrid connection, which several
// providers' relays may share, and holds nothing of any action or provider.
// Times are UTC with microseconds; nil: not known, or it has not happened.
type Health struct {
	Relay         string     `db:"relay" json:"relay"`       // "namespace/path", lower case
	Failures      int        `db:"failures" json:"failures"` // in a row
	FailingSince  *time.Time `db:"failing_since" json:"failing_since"`
	OpenedAt      *time.Time `db:"opened_at" json:"opened_at"` // nil: its breaker is closed
	Probes        int        `db:"probes" json:"probes"`       // since it opened
	NextProbeAt   *time.Time `db:"next_probe_at" json:"next_probe_at"`
	LastLifeAt    *time.Time `db:"last_life_at" json:"last_life_at"` // last proof of life
	LastPhase     *string    `db:"last_phase" json:"last_phase"`     // phase of the latest failure
	LastFailureAt *time.Time `db:"last_failure_at" json:"last_failure_at"`

	// Since when a person holds the gateway's actions back, who, and why. Not
	// written by SaveHealth.
	HeldAt  *time.Time `db:"held_at" json:"held_at"`
	HeldBy  *string    `db:"held_by" json:"held_by"`
	HeldWhy *string    `db:"held_why" json:"held_why"`

	UpdatedAt time.Time `db:"updated_at" json:"updated_at"` // set by the store
}

var (
	healthColumns = columnsOf(Health{})
	selectHealth  = "SELECT " + strings.Join(healthColumns, ", ") + " FROM gateway_health "
)

// The life that was proven last stays the last one: replicas write what they
// know in any order.
const upsertHealth = `INSERT INTO gateway_health AS known
		(relay, failures, failing_since, opened_at, probes, next_probe_at, last_life_at, last_phase, last_failure_at, updated_at)
	VALUES (:relay, :failures, :failing_since, :opened_at, :probes, :next_probe_at, :last_life_at, :last_phase, :last_failure_at, :updated_at)
	ON CONFLICT (relay) DO UPDATE SET
		failures = excluded.failures, failing_since = excluded.failing_since, opened_at = excluded.opened_at,
		probes = excluded.probes, next_probe_at = excluded.next_probe_at,
		last_life_at = CASE WHEN excluded.last_life_at IS NULL OR excluded.last_life_at < known.last_life_at
			THEN known.last_life_at ELSE excluded.last_life_at END,
		last_phase = excluded.last_phase, last_failure_at = excluded.last_failure_at, updated_at = excluded.updated_at`

// Health returns what is known of the gateway at relay ("namespace/path", in
// any case), or [ErrNoHealth].
func (s *Store) Health(ctx context.Context, relay string) (h Health, err error) {
	err = s.db.GetContext(ctx, &h, selectHealth+"WHERE relay = $1", strings.ToLower(relay))
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoHealth
	}
	if err != nil {
		return Health{}, fmt.Errorf("health of %s: %w", relay, err)
	}
	inUTC(&h)
	return h, nil
}

// Healths lists what is known of all gateways, in order of relay.
func (s *Store) Healths(ctx context.Context) ([]Health, error) {
	healths := []Health{}
	if err := s.db.SelectContext(ctx, &healths, selectHealth+"ORDER BY relay"); err != nil {
		return nil, fmt.Errorf("list health: %w", err)
	}
	for i := range healths {
		inUTC(&healths[i])
	}
	return healths, nil
}

// SaveHealth writes all of h but the Held fields and UpdatedAt. A LastLifeAt
// that is nil, or older than the one known, leaves the one known.
func (s *Store) SaveHealth(ctx context.Context, h Health) error {
	h.Relay, h.UpdatedAt = strings.ToLower(h.Relay), s.now()
	if h.Relay == "" || !storable(h.Relay) {
		return fmt.Errorf("save health of %q: no name of a relay", h.Relay)
	}
	if h.LastPhase != nil {
		h.LastPhase = text(*h.LastPhase)
	}
	for _, t := range []**time.Time{&h.FailingSince, &h.OpenedAt, &h.NextProbeAt, &h.LastLifeAt, &h.LastFailureAt} {
		if *t != nil {
			*t = instant(**t)
		}
	}
	if _, err := s.db.NamedExecContext(ctx, upsertHealth, h); err != nil {
		return fmt.Errorf("save health of %s: %w", h.Relay, err)
	}
	return nil
}

// TakeProbe moves the next probe of an open breaker from due to next, and
// reports whether this call did: of several replicas that ask for the same due
// time, exactly one may probe.
func (s *Store) TakeProbe(ctx context.Context, relay string, due, next time.Time) (mine bool, err error) {
	result, err := s.db.ExecContext(ctx, `UPDATE gateway_health SET next_probe_at = $3, updated_at = $4
		WHERE relay = $1 AND next_probe_at = $2 AND opened_at IS NOT NULL`,
		strings.ToLower(relay), micro(due), micro(next), s.now())
	if err != nil {
		return false, fmt.Errorf("take probe of %s: %w", relay, err)
	}
	n, err := result.RowsAffected()
	return n == 1, err
}
