package main_test

import (
	"net/url"
	"path/filepath"
	"testing"
)

// What only a PostgreSQL server can be wrong in.
func TestDoctorFindsFaultsOfPostgres(t *testing.T) {
	t.Parallel()
	query := func(i *installation, name, value string) {
		u, err := url.Parse(i.env["DATABASE_URL"])
		i.must(err)
		q := u.Query()
		q.Set(name, value)
		u.RawQuery = q.Encode()
		i.env["DATABASE_URL"] = u.String()
	}
	exec := func(i *installation, statements string) {
		s := scene{t: i.t, database: i.database}
		db, err := s.open()
		i.must(err)
		defer db.Close()
		_, err = db.Exec(statements)
		i.must(err)
	}
	for _, fault := range []plantedFault{
		{name: "clock ahead", plant: func(t *testing.T, i *installation) {
			// The function of our schema stands before the server's own.
			exec(i, "CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT pg_catalog.clock_timestamp() - interval '1 minute' $$")
			u, err := url.Parse(i.database)
			i.must(err)
			query(i, "search_path", u.Query().Get("search_path")+",pg_catalog")
		}, code: 1, want: finding{"clock", "database", "failed", "this machine's is ahead by", "Synchronise the clock"}},
		{name: "read-only", plant: func(t *testing.T, i *installation) { query(i, "default_transaction_read_only", "on") }, code: 1, others: true,
			want: finding{"database", "PostgreSQL", "failed", "read-only", "Name the primary server"}},
		{name: "no such database", plant: func(t *testing.T, i *installation) {
			u, err := url.Parse(i.database)
			i.must(err)
			u.Path = "/none_" + filepath.Base(t.TempDir())
			i.env["DATABASE_URL"] = u.String()
		}, code: 1, want: finding{"database", "", "failed", "does not exist", "or make the database"}},
		{name: "older schema", plant: func(t *testing.T, i *installation) { exec(i, "DELETE FROM goose_db_version WHERE version_id > 2") }, code: 3,
			want: finding{"schema", "", "failed", "version 2, needed: ", "Run `worklist-relay migrate`"}},
		{name: "newer schema", plant: func(t *testing.T, i *installation) {
			exec(i, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, TRUE)")
		}, code: 3, want: finding{"schema", "", "failed", "version 9999 is newer", "Run the newer worklist-relay"}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			i := newInstallation(t, "postgres", queueAsItShouldBe())
			fault.plant(t, i)
			i.finds(fault)
		})
	}
}
