// Package storefill gives a database a past: as many actions that have ended as
// are wanted, to measure or explain what the store does among them. It is for
// tests and measurements, and no part of the service.
package storefill

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	_ "github.com/worklist-relay/worklist-relay/store" // registers the drivers
)

// Providers is how many providers the actions are of, with a relay each. They
// are called filler-0, filler-1 and so on.
const Providers = 100

// chunk is how many actions one transaction adds.
const chunk = 50_000

// Fill adds rows actions with one attempt each to the database at url, which
// has the tables of this program ([store.Store.Migrate]) and may be in use; and
// the relays that they need. Ids are random UUIDs. Of three actions one creates
// the worklist item that the others change; one in fifty failed before it was
// sent. One is received each ninety seconds, the last at this moment, so that a
// million are the past of three years.
//
// What it adds is never the same twice, and may be added to. PostgreSQL, of
// version 13 at least, is left vacuumed and analysed, as a server's own
// autovacuum does; SQLite without statistics, as the service leaves it.
func Fill(ctx context.Context, url string, rows int) error {
	if err := fill(ctx, url, rows); err != nil {
		return fmt.Errorf("fill database: %w", err)
	}
	return nil
}

func fill(ctx context.Context, url string, rows int) (err error) {
	d, db, err := open(url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	run := func(statements ...string) error {
		for _, statement := range statements {
			if _, err := conn.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	}
	now := time.Now().UTC()
	if err := run(append(d.before, "CREATE TEMP TABLE filling (i BIGINT NOT NULL, id TEXT NOT NULL)", d.written(insertRelays, now))...); err != nil {
		return err
	}
	actions, attempts := d.written(insertActions, now), d.written(insertAttempts, now)
	for left := rows; left > 0; left -= chunk { // the oldest first, as they come
		made := fmt.Sprintf(insertFilling, left-1, d.id, max(left-chunk, 0))
		if err := run("BEGIN", "DELETE FROM filling", made, actions, attempts, "COMMIT"); err != nil {
			return err
		}
	}
	return run(d.after...)
}

// dialect is what differs between the two databases.
type dialect struct {
	id, digest    string // expressions: a random UUID, and 64 hexadecimal digits
	before, after []string
	ago           func(now time.Time, seconds string) string // an expression: the time so many seconds before now
}

func open(url string) (dialect, *sql.DB, error) {
	file, isFile := strings.CutPrefix(url, "sqlite:")
	if !isFile {
		db, err := sql.Open("postgres", url)
		return postgres, db, err
	}
	db, err := sql.Open("sqlite", path(file))
	return sqlite, db, err
}

func path(file string) string {
	return "file:" + (&url.URL{Path: filepath.ToSlash(file)}).EscapedPath() + "?_busy_timeout=10000&_time_format=sqlite"
}

var postgres = dialect{
	id:     "gen_random_uuid()::text",
	digest: "md5(random()::text) || md5(random()::text)",
	after:  []string{"VACUUM ANALYZE relays", "VACUUM ANALYZE actions", "VACUUM ANALYZE attempts"},
	ago: func(now time.Time, seconds string) string {
		return "TIMESTAMPTZ '" + now.Format(time.RFC3339) + "' - (" + seconds + ") * INTERVAL '1 second'"
	},
}

var sqlite = dialect{
	id: `lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2)
		|| '-' || hex(randomblob(6)))`,
	digest: "lower(hex(randomblob(32)))",
	// What a crash would lose is filled again.
	before: []string{"PRAGMA synchronous = OFF", "PRAGMA cache_size = -400000"},
	after:  []string{"PRAGMA wal_checkpoint(TRUNCATE)"},
	ago: func(now time.Time, seconds string) string {
		return "strftime('%Y-%m-%d %H:%M:%f+00:00', " + fmt.Sprint(now.Unix()) + " - (" + seconds + "), 'unixepoch')"
	},
}

// written is the statement in the dialect, for a filling that begins now: with
// AGO(seconds) for a time, and DIGEST, and ACCESSION for what no other filling
// begins its accession numbers with.
func (d dialect) written(statement string, now time.Time) string {
	accession := strings.ToUpper(strconv.FormatInt(now.UnixMilli(), 36)) + "-"
	statement = strings.NewReplacer("DIGEST", d.digest, "ACCESSION", accession).Replace(statement)
	parts := strings.Split(statement, "AGO(")
	for i, part := range parts[1:] {
		seconds, rest, _ := strings.Cut(part, ")")
		parts[i+1] = d.ago(now, seconds) + rest
	}
	return strings.Join(parts, "")
}

const insertFilling = `INSERT INTO filling
	WITH RECURSIVE n (i) AS (SELECT CAST(%[1]d AS BIGINT) UNION ALL SELECT i - 1 FROM n WHERE i > %[3]d)
	SELECT i, %[2]s FROM n`

const insertRelays = `INSERT INTO relays (provider_id, namespace, hybrid_connection, created_at, updated_at)
	WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99)
	SELECT 'filler-' || i, 'filler.servicebus.windows.net', 'hc-filler-' || i, AGO(0), AGO(0) FROM n WHERE TRUE
	ON CONFLICT DO NOTHING`

const insertActions = `INSERT INTO actions (action_id, action_type, creates, provider_id, accession_number, body_sha256,
		sequence_number, enqueued_at, received_at, status, reason, last_error, relay,
		sent_at, confirmed_at, failed_at, updated_at, duplicate, holds_accession, attempts, retry_count, postpone_count,
		attempt, counted_from, attempt_started_at, attempt_sent_at, attempt_relay,
		settlement, settlement_reason, settlement_description, settlement_sequence)
	SELECT id, CASE WHEN i % 3 = 0 THEN 'worklist.create_item' ELSE 'worklist.update_status' END, i % 3 = 0, provider, 'ACCESSION' || (i / 3), DIGEST,
		i, AGO(90 * i + 1), AGO(90 * i), CASE WHEN failed THEN 'failed' ELSE 'confirmed' END,
		CASE WHEN failed THEN 'Expired' END, CASE WHEN failed THEN 'the clinic day is over' END, CASE WHEN NOT failed THEN relay END,
		CASE WHEN NOT failed THEN AGO(90 * i) END, CASE WHEN NOT failed THEN AGO(90 * i) END, CASE WHEN failed THEN AGO(90 * i) END,
		AGO(90 * i), FALSE, i % 3 = 0 AND NOT failed, 1, 0, 0,
		1, 0, AGO(90 * i), CASE WHEN NOT failed THEN AGO(90 * i) END, CASE WHEN NOT failed THEN relay END,
		CASE WHEN failed THEN 'dead-letter' ELSE 'complete' END, CASE WHEN failed THEN 'Expired' END, CASE WHEN failed THEN 'the clinic day is over' END, i
	FROM (SELECT i, id, i % 50 = 7 AS failed, 'filler-' || (i / 3 % 100) AS provider, 'filler.servicebus.windows.net/hc-filler-' || (i / 3 % 100) AS relay FROM filling) made`

const insertAttempts = `INSERT INTO attempts (action_id, attempt, provider_id, relay, started_at, sent_at, ended_at, sent, answered,
		phase, error, code, reused, dns_us, connect_us, tls_us, handshake_us, ack_us, result)
	SELECT id, 1, provider, CASE WHEN NOT failed THEN relay END, AGO(90 * i), CASE WHEN NOT failed THEN AGO(90 * i) END, AGO(90 * i),
		CASE WHEN failed THEN 'no' ELSE 'yes' END, NOT failed,
		CASE WHEN failed THEN 'no_listener' END, CASE WHEN failed THEN 'connect hc-filler: 404 no listener' END, CASE WHEN failed THEN 404 ELSE 0 END,
		NOT failed, 0, 0, 0, 0, CASE WHEN failed THEN 0 ELSE 20000 + i % 1000 * 100 END, CASE WHEN failed THEN 'failed' ELSE 'confirmed' END
	FROM (SELECT i, id, i % 50 = 7 AS failed, 'filler-' || (i / 3 % 100) AS provider, 'filler.servicebus.windows.net/hc-filler-' || (i / 3 % 100) AS relay FROM filling) made`
