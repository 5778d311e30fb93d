package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// raw opens the test's database without the store.
func raw(t testing.TB, url string) *sqlx.DB {
	t.Helper()
	driver, dsn := "postgres", url
	if file, ok := strings.CutPrefix(url, "sqlite:"); ok {
		driver, dsn = "sqlite", file
	}
	db, err := sqlx.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestDialect(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		same(t, "dialect", "TestDialect/"+f.Dialect(), t.Name())
		if err := f.Ping(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func TestOpenSQLite(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	// Characters that mean something in a URL are part of the name.
	file := filepath.Join(t.TempDir(), "a b?c=d#%41.db")
	storetest.Open(t, "sqlite:"+file)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "mode", info.Mode().Perm(), fs.FileMode(0o600))
	for _, suffix := range []string{"-wal", "-shm"} {
		info, err := os.Stat(file + suffix)
		if err != nil {
			t.Fatal(err)
		}
		same(t, suffix, info.Mode().Perm(), fs.FileMode(0o600))
	}
	if _, err := store.Open(ctx, "sqlite:"+filepath.Join(t.TempDir(), "none", "a.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	noise := filepath.Join(t.TempDir(), "noise")
	if err := os.WriteFile(noise, []byte(strings.Repeat("not a database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(ctx, "sqlite:"+noise); err == nil || store.Unavailable(err) {
		t.Error(err)
	}
}

func TestOpenErrorsHoldNoPassword(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{
		"refused":       "postgres://relay:sesame@127.0.0.1:1/x?sslmode=disable",
		"no name":       "postgres://relay:sesame@gateway.invalid/x?sslmode=disable",
		"space":         "postgres://relay:ses ame@127.0.0.1/x",
		"percent":       "postgres://relay:%sesame@127.0.0.1/x",
		"slash":         "postgres://relay:12/sesame@127.0.0.1/x",
		"hash":          "postgres://relay:12#sesame@127.0.0.1/x",
		"question mark": "postgres://relay:12?sesame@127.0.0.1/x",
		"at":            "postgres://relay:12@sesame@127.0.0.1:1/x?sslmode=disable",
		"sslmode":       "postgres://relay:sesame@127.0.0.1:1/x?sslmode=sesame",
		"parameter":     "postgres://127.0.0.1:1/x?password=sesame&sslmode=disable&connect_timeout=sesame",
		"password":      "postgres://127.0.0.1:1/x?password=sesame&sslmode=disable",
		"no host":       "postgres:sesame",
		"other scheme":  "mysql://relay:sesame@127.0.0.1/x",
		"none":          "sesame",
	} {
		t.Run(name, func(t *testing.T) {
			s, err := store.Open(context.Background(), url)
			if err == nil {
				t.Fatal("opened", errors.Join(s.Close()))
			}
			if strings.Contains(err.Error(), "same") {
				t.Error(err)
			}
		})
	}
}

func TestOpenIsBounded(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = store.Open(ctx, "postgres://relay@"+silent.Addr().String()+"/x?sslmode=disable")
	if !store.Unavailable(err) {
		t.Error("a server that says nothing:", err)
	}
	_, err = store.Open(context.Background(), "postgres://relay@127.0.0.1:1/x?sslmode=disable")
	if !store.Unavailable(err) {
		t.Error("nobody listens:", err)
	}
}

// No store opens connections without a bound.
func TestWithConnections(t *testing.T) {
	t.Parallel()
	address := storetest.URL(t, "postgres")
	for most, want := range map[int]int{-1: store.MostConnections, 0: store.MostConnections, 2: 2} {
		if got := store.Most(storetest.Open(t, address, store.WithConnections(most))); got != want {
			t.Errorf("told %d: at most %d, want %d", most, got, want)
		}
	}
	s, err := store.Open(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	if got := store.Most(s); got != store.MostConnections {
		t.Errorf("told nothing: at most %d, want %d", got, store.MostConnections)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestWithPassword(t *testing.T) {
	t.Parallel()
	address := storetest.URL(t, "postgres")
	ctx := context.Background()
	asked := 0
	s := storetest.Open(t, address, store.WithPassword(func(context.Context) (string, error) {
		asked++
		return "token", nil
	}))
	if err := s.Ping(ctx); err != nil || asked == 0 {
		t.Errorf("asked %d times: %v", asked, err)
	}
	denied := errors.New("no token today")
	_, err := store.Open(ctx, address, store.WithPassword(func(context.Context) (string, error) { return "", denied }))
	if !errors.Is(err, denied) || !store.Unavailable(err) {
		t.Error(err)
	}
	_, err = store.Open(ctx, address, store.WithPassword(func(asking context.Context) (string, error) {
		if _, bounded := asking.Deadline(); !bounded {
			t.Error("the request for a password has no end")
		}
		return "", context.Canceled
	}))
	if !errors.Is(err, context.Canceled) || store.Unavailable(err) {
		t.Error("cancelled:", err)
	}
}

func TestTakesPassword(t *testing.T) {
	t.Parallel()
	const verified, password, role = "sslmode=verify-full", "holds a password", "names no role"
	for _, test := range []struct {
		url    string
		faults []string
	}{
		{"postgres://relay@db.example.org/x?sslmode=verify-full", nil},
		{"postgresql://relay@db.example.org:6432/x?sslmode=verify-full", nil},
		{"postgres://relay@127.0.0.1:6432/x?sslmode=disable", nil},
		{"postgres://relay@localhost/x?sslmode=require", nil},
		{"postgres://relay@[::1]/x?sslmode=disable", nil},
		{"postgres://relay@db.example.org/x", []string{verified}},
		{"postgres://relay@db.example.org/x?sslmode=verify-ca", []string{verified}},
		{"postgres://relay@db.example.org/x?sslmode=require", []string{verified}},
		{"postgres://relay@db.example.org/x?sslmode=disable", []string{verified}},
		{"postgres://relay@127.0.0.1/x?sslmode=disable&host=db.example.org", []string{verified}},
		{"postgres://relay@127.0.0.1/x?sslmode=disable&hostaddr=192.0.2.1", []string{verified}},
		{"postgres://relay@localhost,db.example.org/x?sslmode=disable", []string{verified}},
		{"postgres://relay:SYNTHETIC@127.0.0.1/x?sslmode=disable", []string{password}},
		{"postgres://relay@127.0.0.1/x?sslmode=disable&password=SYNTHETIC", []string{password}},
		{"postgres://:SYNTHETIC@db.example.org/x?sslmode=disable", []string{password, role, verified}},
		{"postgres://127.0.0.1/x?sslmode=disable", []string{role}},
		{"sqlite:file", []string{"only a postgres:// URL"}},
		{"", []string{"only a postgres:// URL"}},
		{"postgres://relay@db.example.org/x?sslmode=loose", []string{"parameter"}},
	} {
		err := store.TakesPassword(test.url)
		var told []string
		if err != nil {
			told = strings.Split(err.Error(), "\n")
		}
		if len(told) != len(test.faults) || err != nil && strings.Contains(err.Error(), "SYNTHETIC") {
			t.Errorf("%s: %v", test.url, err)
			continue
		}
		for i, fault := range test.faults {
			if !strings.Contains(told[i], fault) {
				t.Errorf("%s: %q, want %s", test.url, told[i], fault)
			}
		}
	}
	_, err := store.Open(context.Background(), "postgres://relay@db.example.org/x?sslmode=disable", store.WithPassword(func(context.Context) (string, error) {
		t.Error("a token was asked for")
		return "", nil
	}))
	if err == nil || store.Unavailable(err) {
		t.Error("Open:", err)
	}
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	t.Run("locked SQLite file", func(t *testing.T) {
		f := open(t, storetest.URL(t, "sqlite"))
		conn, err := raw(t, f.url).Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.ExecContext(ctx, "BEGIN EXCLUSIVE"); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		if _, err := f.Claim(short, message(action1, 1)); !store.Unavailable(err) {
			t.Error(err)
		}
		if _, err := raw(t, f.url).Exec("BEGIN IMMEDIATE"); !store.Unavailable(err) {
			t.Error("without a busy timeout:", err)
		}
		if _, err := conn.ExecContext(ctx, "ROLLBACK"); err != nil {
			t.Fatal(err)
		}
		f.claim(message(action1, 1), store.Claimed)
	})
	t.Run("locked PostgreSQL row, then a terminated connection", func(t *testing.T) {
		f := open(t, storetest.URL(t, "postgres"))
		ref := f.claim(message(action1, 1), store.Claimed).Ref()
		db := raw(t, f.url)
		tx, err := db.Beginx()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback() }()
		var blocker int
		if err := tx.Get(&blocker, "SELECT pg_backend_pid() FROM actions FOR UPDATE"); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		if err := f.MarkSent(short, ref, gateway, lease); !store.Unavailable(err) {
			t.Error(err)
		}
		// The server ends the store's connections while one waits for the lock.
		marked := make(chan error, 1)
		go func() { marked <- f.MarkSent(ctx, ref, gateway, lease) }()
		// A connection that dies is replaced, and the call waits again: end those too.
		await(t, func() bool {
			terminateWaiting(t, db, blocker)
			select {
			case err = <-marked:
				return true
			default:
				return false
			}
		})
		if !store.Unavailable(err) {
			t.Error(err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		f.mark(ref)
	})
	for code, want := range map[pqerror.Code]bool{
		"08006": true, "25006": true, "28P01": true, "40001": true, "40P01": true, "53300": true, "55P03": true, "57P01": true, "57P03": true, "58030": true,
		"22021": false, "23505": false, "42P01": false, "": false,
	} {
		same(t, string(code), store.Unavailable(fmt.Errorf("claim: %w", &pq.Error{Code: code})), want)
	}
	for name, err := range map[string]error{"cancelled": context.Canceled, "stale": store.ErrStale, "none": nil} {
		if store.Unavailable(err) {
			t.Errorf("%s counts as unavailable", name)
		}
	}
}

// terminateWaiting ends the connections that wait for the one called blocker.
func terminateWaiting(t failer, db *sqlx.DB, blocker int) {
	t.Helper()
	_, err := db.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))", blocker)
	if err != nil {
		t.Fatal(err)
	}
}

// await asks until the answer is yes.
func await(t *testing.T, done func() bool) {
	t.Helper()
	suite.Until(t, "what is waited for", done)
}

func TestURLKeepsItsSchema(t *testing.T) {
	t.Parallel()
	address, err := url.Parse(storetest.URL(t, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	query := address.Query()
	query.Set("search_path", "no_such_schema")
	address.RawQuery = query.Encode()
	s, err := store.Open(context.Background(), address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Migrate(context.Background()); err == nil || !strings.Contains(err.Error(), "search path") {
		t.Error(err)
	}
}

// A time that no clock shows comes back, and fails no list.
func TestFarTimes(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		last := time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)
		for i, far := range []struct{ at, want time.Time }{
			{time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), last},
			{time.Date(300_000, 1, 1, 0, 0, 0, 0, time.UTC), last},
			{last.Add(999), last},
			{time.Date(-5000, 1, 1, 0, 0, 0, 0, time.UTC), time.Time{}},
		} {
			d := nth(int64(i + 1))
			d.EnqueuedAt, d.ExpiresAt = far.at, far.at
			f.claim(d, store.Claimed)
			f.claim(d, store.Busy) // reads it
			a := f.action(d.ActionID)
			same(t, "times", []time.Time{a.EnqueuedAt, value(a.ExpiresAt)}, []time.Time{far.want, far.want})
		}
		all, err := f.Actions(context.Background(), store.ActionFilter{})
		f.must(err)
		same(t, "listed", len(all), 4)
	})
}
