// Package storetest gives tests a database of their own: a SQLite file always,
// and a PostgreSQL schema where one is configured.
//
// TEST_DATABASE_URL names the PostgreSQL database; its role must be allowed to
// create schemas, of which some stay there for the next run. With
// REQUIRE_POSTGRES=1 a test that needs it and finds no URL fails instead of being
// skipped.
package storetest

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/worklist-relay/worklist-relay/store"
)

// Dialects are the databases that Each runs a test on.
var Dialects = []string{"sqlite", "postgres"}

// Each runs test once for each database, as parallel subtests, with the URL of one
// that has the tables of this program and no rows.
func Each(t *testing.T, test func(t *testing.T, url string)) {
	t.Helper()
	each(t, URL, test)
}

// EachEmpty is Each with databases that have no tables.
func EachEmpty(t *testing.T, test func(t *testing.T, url string)) {
	t.Helper()
	each(t, Empty, test)
}

func each(t *testing.T, url func(testing.TB, string) string, test func(t *testing.T, url string)) {
	t.Helper()
	for _, dialect := range Dialects {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel() // before it has a database: few have one at a time
			test(t, url(t, dialect))
		})
	}
}

// URL makes a database with the tables of this program and no rows, for this test
// alone: a SQLite file in its temporary folder, or a schema of the PostgreSQL
// database. It skips the test where there is no PostgreSQL and none is required.
func URL(t testing.TB, dialect string) string {
	t.Helper()
	if dialect == "postgres" {
		return tabled(t)
	}
	url := Empty(t, dialect)
	if err := copyTables(url); err != nil {
		t.Fatal(err)
	}
	return url
}

// Empty is URL without tables, for a test of what makes them.
func Empty(t testing.TB, dialect string) string {
	t.Helper()
	switch dialect {
	case "sqlite":
		return "sqlite:" + filepath.Join(t.TempDir(), "worklist.db")
	case "postgres":
		return schema(t)
	}
	t.Fatalf("no dialect %q", dialect)
	return ""
}

// Optional is URL for a test that has something to do without the database
// too: where there is none and none is required it returns "".
func Optional(t testing.TB, dialect string) string {
	t.Helper()
	if dialect == "postgres" && postgres(t) == "" {
		return ""
	}
	return URL(t, dialect)
}

// postgres is the configured PostgreSQL database, "" for none.
func postgres(t testing.TB) string {
	t.Helper()
	base := os.Getenv("TEST_DATABASE_URL")
	if base == "" && os.Getenv("REQUIRE_POSTGRES") == "1" {
		t.Fatal("REQUIRE_POSTGRES=1 and TEST_DATABASE_URL is not set")
	}
	return base
}

// server is the configured PostgreSQL database. Without one the test is skipped.
func server(t testing.TB) *url.URL {
	t.Helper()
	base := postgres(t)
	if base == "" {
		t.Skip("TEST_DATABASE_URL is not set")
	}
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal("TEST_DATABASE_URL does not parse")
	}
	return u
}

// schema is one without tables, dropped when the test ends.
func schema(t testing.TB) string {
	t.Helper()
	base := server(t)
	db, err := sqlx.Open("postgres", base.String())
	if err != nil {
		t.Fatal("TEST_DATABASE_URL:", err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(0) // it is needed at the beginning and at the end alone
	name := "test_" + strings.ToLower(rand.Text())
	if _, err := db.Exec("SET synchronous_commit = off; CREATE SCHEMA " + name); err != nil {
		t.Fatal("TEST_DATABASE_URL:", err)
	}
	t.Cleanup(func() {
		// A transaction that a test left open must not hang this for ever.
		if _, err := db.Exec("SET lock_timeout = '4min'; SET synchronous_commit = off; DROP SCHEMA " + name + " CASCADE"); err != nil {
			t.Error(err)
		}
	})
	return inSchema(base, name)
}

// inSchema is the URL of the database's schema name, which the server shows as the
// application's name too.
func inSchema(base *url.URL, name string) string {
	u, query := *base, base.Query()
	query.Set("search_path", name)
	query.Set("application_name", name)
	query.Set("synchronous_commit", "off") // no test takes the server's power away
	u.RawQuery = query.Encode()
	return u.String()
}

// few are the connections to PostgreSQL of a test that says nothing else. A server
// takes 100 as it is installed, and many tests run at a time.
const few = 3

// Open opens the database at url, makes the tables that it lacks, and closes it when
// the test ends.
func Open(t testing.TB, url string, opts ...store.Option) *store.Store {
	t.Helper()
	ctx := context.Background()
	s, err := store.Open(ctx, url, append([]store.Option{store.WithConnections(few)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if s.CheckSchema(ctx) == nil {
		return s // a migration would cost many times as much
	}
	if err := s.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

// migrate makes the tables of this program at url.
func migrate(ctx context.Context, url string) error {
	s, err := store.Open(ctx, url)
	if err != nil {
		return err
	}
	return errors.Join(s.Migrate(ctx), s.Close())
}

// copyTables makes a SQLite file with the tables of this program: the copy of one
// that was migrated, which costs many times as much.
func copyTables(url string) error {
	tables, err := migrated()
	if err != nil {
		return err
	}
	return os.WriteFile(strings.TrimPrefix(url, "sqlite:"), tables, 0o600)
}

// migrated is a SQLite file with the tables of this program and no rows.
var migrated = sync.OnceValues(func() (tables []byte, err error) {
	dir, err := os.MkdirTemp("", "storetest")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "worklist.db")
	// What is closed has no journal beside it.
	if err := migrate(context.Background(), "sqlite:"+file); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
})
