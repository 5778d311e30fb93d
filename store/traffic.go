package store

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Traffic is what the attempts and actions of late say of one hybrid connection.
type Traffic struct {
	Relay     string `json:"relay"`     // "namespace/path", lower case
	Waiting   int    `json:"waiting"`   // actions, pending or sent, whose provider and setting lead there
	Tries     int    `json:"tries"`     // attempts ended since the time asked for
	Confirmed int    `json:"confirmed"` // of those

	// Median and 99th percentile of the time from frame to ack, by nearest
	// rank, of those that were confirmed; 0: none was.
	AckP50, AckP99 time.Duration `json:"-"`
}

// Traffic sums up each hybrid connection that has a relay, or had an attempt
// since then, by its name in lower case.
func (s *Store) Traffic(ctx context.Context, since time.Time) (map[string]Traffic, error) {
	all := map[string]Traffic{}
	of := func(relay string, change func(*Traffic)) {
		t := all[strings.ToLower(relay)]
		t.Relay = strings.ToLower(relay)
		change(&t)
		all[t.Relay] = t
	}
	var waiting []struct {
		Relay string `db:"relay"`
		N     int    `db:"n"`
	}
	if err := s.db.SelectContext(ctx, &waiting, waitingByRelay); err != nil {
		return nil, fmt.Errorf("actions waiting: %w", err)
	}
	for _, w := range waiting {
		of(w.Relay, func(t *Traffic) { t.Waiting += w.N })
	}
	var tries []struct {
		Relay     string `db:"relay"`
		Tries     int    `db:"tries"`
		Confirmed int    `db:"confirmed"`
		P50       int64  `db:"p50"`
		P99       int64  `db:"p99"`
	}
	if err := s.db.SelectContext(ctx, &tries, triesByRelay, micro(since)); err != nil {
		return nil, fmt.Errorf("attempts: %w", err)
	}
	for _, w := range tries {
		of(w.Relay, func(t *Traffic) {
			t.Tries, t.Confirmed = w.Tries, w.Confirmed
			t.AckP50, t.AckP99 = time.Duration(w.P50)*time.Microsecond, time.Duration(w.P99)*time.Microsecond
		})
	}
	return all, nil
}

// Those that wait are summed up first: SQLite would go through all actions of
// each provider to join them.
const waitingByRelay = `SELECT lower(r.namespace || '/' || r.hybrid_connection) AS relay, CAST(COALESCE(SUM(w.n), 0) AS BIGINT) AS n
	FROM relays r LEFT JOIN (
		SELECT provider_id, COALESCE(setting_id, '') AS setting, count(*) AS n
		FROM actions WHERE status IN ('pending', 'sent') GROUP BY 1, 2
	) w ON w.provider_id = r.provider_id AND w.setting = COALESCE(r.setting_id, '')
	GROUP BY 1`

// Percentiles by nearest rank: of n sorted values the one at n*p, rounded up.
const triesByRelay = `WITH late AS (
		SELECT lower(relay) AS relay, result, ack_us, result = 'confirmed' AND ack_us > 0 AS timed
		FROM attempts WHERE ended_at >= $1 AND relay IS NOT NULL
	), ranked AS (
		SELECT relay, result, ack_us, timed,
			row_number() OVER (PARTITION BY relay, timed ORDER BY ack_us) AS place,
			count(*) OVER (PARTITION BY relay, timed) AS n
		FROM late
	)
	SELECT relay, count(*) AS tries, SUM(CASE WHEN result = 'confirmed' THEN 1 ELSE 0 END) AS confirmed,
		COALESCE(MIN(CASE WHEN timed AND place >= n * 0.5 THEN ack_us END), 0) AS p50,
		COALESCE(MIN(CASE WHEN timed AND place >= n * 0.99 THEN ack_us END), 0) AS p99
	FROM ranked GROUP BY relay`
