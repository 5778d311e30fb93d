package store_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jmoiron/sqlx"

	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

func TestServerOf(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]store.Server{
		"sqlite:file":                               {},
		"postgres://u:p@db.example/x":               {Addresses: []string{"db.example:5432"}, TLSMode: "require"},
		"postgres://u@db:6432/x?sslmode=disable":    {Addresses: []string{"db:6432"}, TLSMode: "disable"},
		"postgres://u@[::1]:6432/x?sslmode=disable": {Addresses: []string{"[::1]:6432"}, TLSMode: "disable"},
	} {
		got, err := store.ServerOf(url)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", url, err, diff)
		}
	}
	if _, err := store.ServerOf("postgres://u:pa/ss@db/x"); err == nil || strings.Contains(err.Error(), "pa/ss") {
		t.Errorf("error %v, want one that does not quote the password", err)
	}
}

func TestInspect(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		s := storetest.Open(t, url)
		got, err := s.Inspect(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if got.Version == "" || got.Standby || got.ReadOnly || len(got.Lacking) > 0 {
			t.Errorf("inspection %+v, want a version, writable, with all rights", got)
		}
		if s.Dialect() == "postgres" && (got.Major < store.LeastPostgres || got.User == "" || got.MaxConnections == 0 || got.Connections == 0 || time.Since(got.Now).Abs() > time.Hour) {
			t.Errorf("inspection %+v lacks something", got)
		}
	})
}

// A role that may only read lacks what the program writes with, by table.
func TestInspectNamesLackingRights(t *testing.T) {
	t.Parallel()
	address := storetest.URL(t, "postgres")
	storetest.Open(t, address)
	db := sqlx.MustOpen("postgres", address)
	defer db.Close()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	schema := u.Query().Get("search_path")
	role := "reader_" + schema
	db.MustExec("CREATE ROLE " + role + " LOGIN; GRANT USAGE ON SCHEMA " + schema + " TO " + role + "; GRANT SELECT ON ALL TABLES IN SCHEMA " + schema + " TO " + role)
	defer db.MustExec("DROP OWNED BY " + role + "; DROP ROLE " + role)
	u.User = url.User(role)
	s, err := store.Open(context.Background(), u.String())
	if err != nil {
		t.Skip("the server lets no role in without a password:", err)
	}
	defer s.Close()
	got, err := s.Inspect(context.Background())
	want := []string{
		"INSERT on relays", "UPDATE on relays", "DELETE on relays", "INSERT on actions", "UPDATE on actions", "INSERT on attempts",
		"INSERT on audit", "INSERT on pulse", "UPDATE on pulse", "INSERT on gateway_health", "UPDATE on gateway_health",
	}
	if diff := cmp.Diff(want, got.Lacking); err != nil || diff != "" {
		t.Errorf("%v, lacking (-want +got):\n%s", err, diff)
	}
	if err := s.TryWrite(context.Background()); err == nil {
		t.Error("a role that may only read can write")
	}
}

func TestTryWriteLeavesNothing(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		s := storetest.Open(t, url)
		if err := s.TryWrite(context.Background()); err != nil {
			t.Fatal(err)
		}
		driver, source := "postgres", url
		if file, ok := strings.CutPrefix(url, "sqlite:"); ok {
			driver, source = "sqlite", file
		}
		db := sqlx.MustOpen(driver, source)
		defer db.Close()
		var n int
		if err := db.Get(&n, "SELECT count(*) FROM pulse"); err != nil || n != 0 {
			t.Errorf("%d rows in pulse, %v; want none", n, err)
		}
	})
}
