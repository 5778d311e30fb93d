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
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/worklist-relay/worklist-relay/store"
)

// Dialects are the databases that Each runs a test on.
var Dialects = []string{"sqlite", "postgres"}

// Each runs test once for each database, as a subtest, with the URL of an
// empty one. The subtests are at once where test says t.Parallel.
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
	db.SetMaxIdleConns(0) // it is needed at the beginning and at the end alone
	name := "test_" + strings.ToLower(rand.Text())
	if _, err := db.Exec("SET synchronous_commit = off; CREATE SCHEMA " + pq.QuoteIdentifier(name)); err != nil {
		t.Fatal("TEST_DATABASE_URL:", err)
	}
	t.Cleanup(func() {
		// A transaction that a test left open must not hang this for ever.
		if _, err := db.Exec("SET lock_timeout = '4min'; SET synchronous_commit = off; DROP SCHEMA " + pq.QuoteIdentifier(name) + " CASCADE"); err != nil {
			t.Error(err)
		}
	})
	query := u.Query()
	query.Set("search_path", name)
	query.Set("synchronous_commit", "off") // no test takes the server's power away
	u.RawQuery = query.Encode()
	return u.String()
}

// few are the connections to PostgreSQL of a test that says nothing else. A server
// takes 100 as it is installed, and many tests run at a time.
const few = 3

// Open opens the database at url, with the tables of this program, and closes it
// when the test ends. Where there is none yet a SQLite file is a copy of one that
// was migrated: migrating costs many times as much.
func Open(t testing.TB, url string, opts ...store.Option) *store.Store {
	t.Helper()
	ctx := context.Background()
	copied, err := copyTables(url)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(ctx, url, append([]store.Option{store.WithConnections(few)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if copied {
		return s
	}
	if err := s.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

// copyTables makes the SQLite file at url, unless there is one.
func copyTables(url string) (made bool, err error) {
	file, ok := strings.CutPrefix(url, "sqlite:")
	if !ok {
		return false, nil
	}
	tables, err := migrated()
	if err != nil {
		return false, err
	}
	// Whole before it has its name: the file may be opened twice at once.
	whole := file + "." + rand.Text()
	if err := os.WriteFile(whole, tables, 0o600); err != nil {
		return false, err
	}
	err = os.Link(whole, file)
	if errors.Is(err, fs.ErrExist) {
		return false, os.Remove(whole)
	}
	return err == nil, errors.Join(err, os.Remove(whole))
}

// migrated is a SQLite file with the tables of this program and no rows.
var migrated = sync.OnceValues(func() (tables []byte, err error) {
	dir, err := os.MkdirTemp("", "storetest")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, file := context.Background(), filepath.Join(dir, "worklist.db")
	s, err := store.Open(ctx, "sqlite:"+file)
	if err != nil {
		return nil, err
	}
	// What is closed has no journal beside it.
	if err := errors.Join(s.Migrate(ctx), s.Close()); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
})
