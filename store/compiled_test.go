package store_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"modernc.org/sqlite"

	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// What a write was compiled to is of no harm when the tables change after it,
// also by another process.
func TestTablesChangeUnderAWrite(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	url := storetest.Empty(t, "sqlite")
	s, err := store.Open(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Claim(ctx, message(action1, 1)); err == nil {
		t.Fatal("claimed without a table")
	}
	f := open(t, url)
	if c, err := s.Claim(ctx, message(action1, 1)); err != nil || c.Verdict != store.Claimed {
		t.Fatal(c.Verdict, err)
	}
	for i, change := range []string{
		"ALTER TABLE actions ADD COLUMN more TEXT NOT NULL DEFAULT 'of it'",
		"DROP INDEX actions_accession",
		"CREATE INDEX actions_accession ON actions (accession_number, provider_id)",
	} {
		if _, err := raw(t, url).Exec(change); err != nil {
			t.Fatal(err)
		}
		d := message(fmt.Sprint("00000000-0000-4000-8000-00000000000", i), 2)
		d.AccessionNumber = fmt.Sprint("ACC", i)
		if c, err := s.Claim(ctx, d); err != nil || c.Verdict != store.Claimed {
			t.Fatal(c.Verdict, err)
		}
		f.mark(store.Ref{ProviderID: provider, ActionID: d.ActionID, Attempt: 1})
		f.record(confirmed(store.Ref{ProviderID: provider, ActionID: d.ActionID, Attempt: 1}, 2))
		same(t, change, f.action(d.ActionID).Status, store.Confirmed)
	}
}

// A transaction whose commit is refused is over, and the next one begins.
func TestRefusedCommitEndsItsTransaction(t *testing.T) {
	t.Parallel()
	connector, err := sqlite.NewConnector("file:" + filepath.Join(t.TempDir(), "a.db") + "?_foreign_keys=on")
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(store.Compiling(connector))
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE a (id INTEGER PRIMARY KEY, of INTEGER REFERENCES a (id) DEFERRABLE INITIALLY DEFERRED)"); err != nil {
		t.Fatal(err)
	}
	for id, of := range []int{7, 1, 9, 3} { // id 1 and 3 are their own, 0 and 2 nobody's
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec("INSERT INTO a VALUES ($1, $2)", id, of); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); (err == nil) != (id == of) {
			t.Error(id, err)
		}
	}
	var n int
	if err := db.QueryRow("SELECT count(*) FROM a").Scan(&n); err != nil || n != 2 {
		t.Error(n, err)
	}
}

// ending is a context that ends when it is looked at for the second time, just
// before a statement runs or while it does.
type ending struct {
	context.Context
	looks atomic.Int32
	over  chan struct{} // closed
}

func (c *ending) Done() <-chan struct{} {
	if c.looks.Add(1) == 1 {
		return make(chan struct{})
	}
	return c.over
}

func (c *ending) Err() error { return context.Canceled }

// A transaction that began as its context ended is not left open: the next could
// not begin, and what is written besides would never be committed.
func TestContextEndsAsATransactionBegins(t *testing.T) {
	t.Parallel()
	connector, err := sqlite.NewConnector("file:" + filepath.Join(t.TempDir(), "a.db"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := store.Compiling(connector).Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	begins, over := conn.(driver.ConnBeginTx), make(chan struct{})
	close(over)
	for range 1000 {
		tx, err := begins.BeginTx(&ending{Context: t.Context(), over: over}, driver.TxOptions{})
		if err != nil {
			if tx, err = begins.BeginTx(t.Context(), driver.TxOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
	}
}
