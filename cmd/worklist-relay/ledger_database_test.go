package main_test

import (
	"database/sql"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// database is the consumers' database as one who does it harm sees it. Its
// drivers come with the store.
type database struct {
	t       *testing.T
	db      *sql.DB
	dialect string
	name    string // of the consumers' connections to PostgreSQL, and no others
	stalled bool
}

// openDatabase names the connections of consumers that are yet to be started.
func (l *ledger) openDatabase(dialect, address string) *database {
	l.t.Helper()
	d := &database{t: l.t, dialect: dialect, name: fmt.Sprintf("ledger-%x", l.random.Uint64())}
	source := address
	if file, ok := strings.CutPrefix(address, "sqlite:"); ok {
		source = "file:" + file + "?_txlock=immediate&_busy_timeout=10000"
	} else {
		l.settings = append(l.settings, "DATABASE_URL="+named(address, d.name))
	}
	var err error
	if d.db, err = sql.Open(dialect, source); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { d.db.Close() })
	return d
}

func named(address, name string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic(err) // storetest made it
	}
	query := u.Query()
	query.Set("application_name", name)
	u.RawQuery = query.Encode()
	return u.String()
}

// stall makes every writer wait until release. While they do, it does nothing more.
func (d *database) stall() (release func()) {
	d.t.Helper()
	if d.stalled {
		return func() {}
	}
	tx, err := d.db.BeginTx(d.t.Context(), nil) // on SQLite it is the one writer
	if err == nil && d.dialect == "postgres" {
		_, err = tx.Exec("LOCK TABLE actions IN SHARE ROW EXCLUSIVE MODE")
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.stalled = true
	return func() {
		d.stalled = false
		_ = tx.Rollback() // there is nothing to lose
	}
}

// terminate ends the consumers' connections to PostgreSQL.
func (d *database) terminate() {
	d.t.Helper()
	if _, err := d.db.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1", d.name); err != nil {
		d.t.Error(err)
	}
}
