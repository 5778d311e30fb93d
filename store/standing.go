package store

import (
	"context"
	"fmt"
	"time"
)

// Standing is how the actions of one gateway stand at this moment. Times are UTC.
type Standing struct {
	Relay   string     `db:"relay"`   // "namespace/path", lower case; "": of the actions that have no relay
	Waiting int        `db:"waiting"` // actions that have not ended
	Retries int        `db:"retries"` // of those, tried before and in nobody's hand
	Oldest  *time.Time `db:"oldest"`  // when the first of those that wait was enqueued, but for what is held until long from now; nil: none waits

	OpenedAt   *time.Time `db:"opened_at"`    // nil: its breaker is closed
	HeldAt     *time.Time `db:"held_at"`      // nil: nobody holds it back
	LastLifeAt *time.Time `db:"last_life_at"` // nil: none is known
}

// Standings lists each hybrid connection that a relay leads to, and, where
// actions wait whose provider and setting have no relay, those under "". It reads
// the actions that wait and no others, so it may be asked often.
func (s *Store) Standings(ctx context.Context) ([]Standing, error) {
	standings, waiting := []Standing{}, []struct {
		Standing
		Held int `db:"held"` // 1: so is the oldest, and with it all that wait
	}{}
	if err := s.db.SelectContext(ctx, &standings, standingByRelay); err != nil {
		return nil, fmt.Errorf("standing of gateways: %w", err)
	}
	if err := s.db.SelectContext(ctx, &waiting, waitingNow, s.now().Add(longFromNow)); err != nil {
		return nil, fmt.Errorf("standing of actions: %w", err)
	}
	places := make(map[string]int, len(standings))
	for i, known := range standings {
		places[known.Relay] = i
	}
	for _, w := range waiting {
		if w.Held == 1 {
			w.Oldest = nil
		}
		i, known := places[w.Relay]
		if !known {
			// Also where a relay was added between the two questions.
			standings = append(standings, w.Standing)
			continue
		}
		standings[i].Waiting, standings[i].Retries, standings[i].Oldest = w.Waiting, w.Retries, w.Oldest
	}
	for i := range standings {
		inUTC(&standings[i])
	}
	return standings, nil
}

const standingByRelay = `SELECT known.relay, h.opened_at, h.held_at, h.last_life_at
	FROM (SELECT DISTINCT lower(namespace || '/' || hybrid_connection) AS relay FROM relays) known
	LEFT JOIN gateway_health h ON h.relay = known.relay
	ORDER BY known.relay`

// longFromNow is further off than anything is put off because a gateway cannot be
// reached: what was never tried and is due later still is held on purpose, until the
// time of its day at which it is released.
const longFromNow = 20 * time.Minute

// The oldest is the first row of each, not a minimum, since SQLite would forget
// that one is a time.
const waitingNow = `SELECT relay, waiting, retries, enqueued_at AS oldest, held FROM (
		SELECT COALESCE(lower(r.namespace || '/' || r.hybrid_connection), '') AS relay, a.enqueued_at,
			count(*) OVER gateway AS waiting,
			SUM(CASE WHEN a.attempts > 0 AND a.claimed_until IS NULL THEN 1 ELSE 0 END) OVER gateway AS retries,
			CASE WHEN a.attempts = 0 AND a.next_retry_at > $1 THEN 1 ELSE 0 END AS held,
			row_number() OVER (gateway ORDER BY CASE WHEN a.attempts = 0 AND a.next_retry_at > $1 THEN 1 ELSE 0 END, a.enqueued_at) AS place
		FROM actions a LEFT JOIN relays r ON r.provider_id = a.provider_id AND COALESCE(r.setting_id, '') = COALESCE(a.setting_id, '')
		WHERE a.status IN ('pending', 'sent')
		WINDOW gateway AS (PARTITION BY COALESCE(lower(r.namespace || '/' || r.hybrid_connection), ''))
	) ranked WHERE place = 1`

// CountOutcomesOwed tells how many outcomes are yet to be told.
func (s *Store) CountOutcomesOwed(ctx context.Context) (n int, err error) {
	if err := s.db.GetContext(ctx, &n, countOwed); err != nil {
		return 0, fmt.Errorf("outcomes owed: %w", err)
	}
	return n, nil
}

const countOwed = "SELECT count(*) FROM actions WHERE outcome_owed"
