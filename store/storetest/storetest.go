// Package storetest gives tests a database of their own: a SQLite file always,
// and a PostgreSQL schema where one is configured.
//
// TEST_DATABASE_URL names the PostgreSQL database; its role must be allowed to
// create schemas. With REQUIRE_POSTGRES=1 a test that needs it and finds no URL
// fails instead of being skipped.
package storetest

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/worklist-relay/worklist-relay/store"
)

// Dialects are the databases that Each runs a test on.
var Dialects = []string{"sqlite", "postgres"}

// Each runs test once for each database, as a subtest, with the URL of an
// empty one.
func Each(t *testing.T, test func(t *testing.T, url string)) {
	t.Helper()
	for _, dialect := range Dialects {
		t.Run(dialect, func(t *testing.T) {
			test(t, URL(t, dialect))
		})
	}
}

// URL makes an empty database that goes when the test ends: a SQLite file in
// the test's temporary folder, or a schema of the PostgreSQL database. It skips
// the test where there is no PostgreSQL and none is required.
func URL(t testing.TB, dialect string) string {
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

func schema(t testing.TB) string {
	t.Helper()
	base := postgres(t)
	if base == "" {
		t.Skip("TEST_DATABASE_URL is not set")
	}
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal("TEST_DATABASE_URL does not parse")
	}
	db, err := sqlx.Open("postgres", base)
	if err != nil {
		t.Fatal("TEST_DATABASE_URL:", err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	name := "test_" + strings.ToLower(rand.Text())
	// A transaction that a test left open must not hang the drop for ever.
	if _, err := db.Exec("SET lock_timeout = '10s'; CREATE SCHEMA " + pq.QuoteIdentifier(name)); err != nil {
		t.Fatal("TEST_DATABASE_URL:", err)
	}
	t.Cleanup(func() {
		if _, err := db.Exec("DROP SCHEMA " + pq.QuoteIdentifier(name) + " CASCADE"); err != nil {
			t.Error(err)
		}
	})
	query := u.Query()
	query.Set("search_path", name)
	u.RawQuery = query.Encode()
	return u.String()
}

// Open opens and migrates the database at url and closes it when the test ends.
func Open(t testing.TB, url string, opts ...store.Option) *store.Store {
	t.Helper()
	ctx := context.Background()
	s, err := store.Open(ctx, url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}
