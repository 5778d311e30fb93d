// Package store keeps what became of each worklist action, in PostgreSQL or in
// a SQLite file.
//
// It is the service's memory of what was sent and what was confirmed, and the
// fence between deliveries of one action. A delivery goes through it in three
// steps, each committed before the next thing happens outside:
//
//	Claim     may this delivery act at all? If so it gets an attempt number
//	          and a lease, and what earlier attempts left behind
//	MarkSent  the row says sent before the frame is written, so that a crash
//	          leaves evidence
//	Record    the outcome, and the settlement decided for the message
//
// Every write after Claim names its attempt. One that is no longer the row's
// own may still turn the row to confirmed, since an acknowledgement that was
// read is the truth, and can do nothing else. Confirmed is never left.
//
// A participant's details never reach this package: a row holds the action's
// id, type, accession number and provider, and a digest of its content.
//
// Leases and due times are judged by the clock of the calling process, so
// processes that share a database need clocks that agree within a few seconds.
package store

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
)

// Store is an open database. It is safe for concurrent use, also by several
// processes on one database.
type Store struct {
	db      *sqlx.DB
	dialect dialect
	clock   func() time.Time
	waits   *waits
	sharing sharing // in SQLite

	claims, marks, ends gathering // in PostgreSQL, each of one statement
}

// Option changes how Open opens a database.
type Option func(*options)

type options struct {
	clock    func() time.Time
	waits    *waits
	most     int // connections
	password func(context.Context) (string, error)
	wrap     func(driver.Connector) driver.Connector // of tests, to see or fail what is asked of the driver; nil: none
}

func (o options) wrapped(c driver.Connector) driver.Connector {
	if o.wrap == nil {
		return c
	}
	return o.wrap(c)
}

// WithClock replaces time.Now as the source of every time the store writes or
// compares. The function must be safe for concurrent use.
func WithClock(now func() time.Time) Option {
	return func(o *options) { o.clock = now }
}

// WithConnections bounds the connections to PostgreSQL; less than 1 and none given
// mean [MostConnections]. A statement that finds none free waits for one. SQLite, which
// has one, ignores it.
func WithConnections(most int) Option {
	return func(o *options) {
		if o.most = most; most < 1 {
			o.most = MostConnections
		}
	}
}

// WithPassword asks for the password anew at each connection to PostgreSQL, for
// at most ten seconds. It serves servers whose password is a short-lived Entra ID
// token, so the URL must name a role and no password, and must have
// sslmode=verify-full unless the server is on loopback. SQLite ignores it. The
// function must be safe for concurrent use; its errors are returned to the caller
// that needed the connection, are [Unavailable], and must not hold the password.
func WithPassword(password func(context.Context) (string, error)) Option {
	return func(o *options) { o.password = password }
}

// Open opens the database at url:
//
//	postgres://user:password@host:5432/name?sslmode=verify-full
//	postgresql://...
//	sqlite:FILE
//
// It checks within ten seconds that the database answers, and neither creates
// nor migrates tables: see [Store.Migrate] and [Store.CheckSchema]. A SQLite
// file that does not exist is created, readable by its owner only. No error of
// Open or of any method holds the password.
func Open(ctx context.Context, url string, opts ...Option) (*Store, error) {
	o := options{clock: time.Now, waits: &usual, most: MostConnections}
	for _, opt := range opts {
		opt(&o)
	}
	db, dialect, err := openURL(url, o)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	s := &Store{db: db, dialect: dialect, clock: o.clock, waits: o.waits, claims: gathering{stays: true}}
	ctx, cancel := context.WithTimeout(ctx, o.waits.Open)
	defer cancel()
	if err := s.db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", dialect.where, err), s.Close())
	}
	return s, nil
}

// TakesPassword says what keeps Open from using a URL together with
// [WithPassword], each fault on a line of its own; nil: nothing does.
func TakesPassword(url string) error {
	if !isPostgres(url) {
		return errors.New("only a postgres:// URL goes with a token as the password")
	}
	_, _, err := parsePostgres(url, true)
	return err
}

// Close closes the database's connections, waiting for queries that run.
func (s *Store) Close() error { return s.db.Close() }

// Ping asks the database for a sign of life.
func (s *Store) Ping(ctx context.Context) error {
	if _, err := s.db.ExecContext(ctx, "SELECT 1"); err != nil {
		return fmt.Errorf("ping database %s: %w", s.dialect.where, err)
	}
	return nil
}

const writePulse = "INSERT INTO pulse (id, at) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET at = excluded.at"

// Writable asks the database to commit a write. A full disk and a standby
// answer reads, and Ping with them, but not this.
func (s *Store) Writable(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, writePulse, s.now())
	if err != nil {
		return fmt.Errorf("write to database %s: %w", s.dialect.where, err)
	}
	return nil
}

// Dialect is "postgres" or "sqlite".
func (s *Store) Dialect() string { return s.dialect.name }

// now is the present in UTC.
func (s *Store) now() time.Time { return micro(s.clock()) }

// micro is t in UTC, to the microsecond that both databases keep.
// Of a year that not both can read back, which somebody else's clock or message may
// have, it is the nearest that they can: else one row would fail every list it is in.
func micro(t time.Time) time.Time {
	t = t.UTC().Truncate(time.Microsecond)
	switch {
	case t.Year() < 1:
		return time.Time{}
	case t.Year() > 9999:
		return time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
	}
	return t
}

// instant is t as a column holds it: NULL for the zero time.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = micro(t)
	return &t
}

// write runs do in a transaction of its own and commits it unless do returns an
// error or panics.
func (s *Store) write(ctx context.Context, do func(*sqlx.Tx) error) error {
	tx, err := s.db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = rollback(tx) }() // unless committed; err says more
	if err := do(tx); err != nil {
		return err
	}
	if err := tx.Commit(); !errors.Is(err, sql.ErrTxDone) {
		return err
	}
	return cmp.Or(ctx.Err(), sql.ErrTxDone) // which took it back
}

// rollback takes back what tx did, unless it is committed or was never begun.
func rollback(tx *sqlx.Tx) error {
	if tx == nil {
		return nil
	}
	if err := tx.Rollback(); !errors.Is(err, sql.ErrTxDone) {
		return err
	}
	return nil
}

// put commits one statement, and returns how many rows it wrote.
func (s *Store) put(ctx context.Context, query string, args ...any) (n int64, err error) {
	if !s.dialect.shares {
		return affected(s.db.ExecContext(ctx, query, args...))
	}
	var refused error
	err = s.share(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		n, refused = affected(tx.ExecContext(ctx, query, args...))
		if violatesUnique(refused) {
			return nil // this statement was taken back, and nothing else
		}
		return refused
	})
	return n, cmp.Or(err, refused)
}

// affected is how many rows a statement wrote.
func affected(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}
