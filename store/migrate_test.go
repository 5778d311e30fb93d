package store_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// migrateEnv makes the test binary a process that migrates the database it names.
const migrateEnv = "STORE_TEST_MIGRATE"

func TestMain(m *testing.M) {
	if url := os.Getenv(migrateEnv); url != "" {
		if err := migrate(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	if checks := flag.Lookup("rapid.checks"); !suite.Long() && checks.Value.String() == checks.DefValue {
		_ = checks.Value.Set("30") // histories of TestFenceHolds, instead of 100
	}
	os.Exit(suite.Tests(m).Run())
}

func migrate(url string) error {
	ctx := context.Background()
	s, err := store.Open(ctx, url, patient)
	if err != nil {
		return err
	}
	return errors.Join(s.Migrate(ctx), s.Close())
}

func TestMigrateFromManyProcesses(t *testing.T) {
	t.Parallel()
	storetest.EachEmpty(t, func(t *testing.T, url string) {
		var wait sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs[:6] {
			s, err := store.Open(context.Background(), url, patient)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			wait.Go(func() { errs[i] = s.Migrate(context.Background()) })
		}
		for i := range errs[6:] {
			wait.Go(func() {
				process := exec.Command(os.Args[0])
				process.Env = append(os.Environ(), migrateEnv+"="+url)
				if out, err := process.CombinedOutput(); err != nil {
					errs[6+i] = fmt.Errorf("%w: %s", err, out)
				}
			})
		}
		wait.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		var applied int
		if err := raw(t, url).Get(&applied, "SELECT count(*) FROM goose_db_version WHERE version_id > 0"); err != nil {
			t.Fatal(err)
		}
		same(t, "migrations applied", applied, 4)
	})
}

func TestSchemaVersion(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	storetest.EachEmpty(t, func(t *testing.T, url string) {
		s, err := store.Open(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		check := func(wantHave int64, hint string) {
			t.Helper()
			have, want, err := s.Version(ctx)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "have, want", []int64{have, want}, []int64{wantHave, 4})
			err = s.CheckSchema(ctx)
			if errors.Is(err, store.ErrSchema) != (hint != "") || (hint != "" && !strings.Contains(err.Error(), hint)) {
				t.Errorf("check: %v", err)
			}
		}
		check(0, "worklist-relay migrate")
		check(0, "worklist-relay migrate") // looking made no table
		if err := s.Migrate(ctx); err != nil {
			t.Fatal(err)
		}
		check(4, "")
		if _, err := raw(t, url).Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (5, true)"); err != nil {
			t.Fatal(err)
		}
		check(5, "newer")
		if err := s.Migrate(ctx); !errors.Is(err, store.ErrSchema) {
			t.Errorf("migrate: %v", err)
		}
	})
}

// A migration that fails half-way leaves nothing of itself.
func TestFailedMigrationLeavesNothing(t *testing.T) {
	t.Parallel()
	storetest.EachEmpty(t, func(t *testing.T, url string) {
		db := raw(t, url)
		if _, err := db.Exec("CREATE TABLE audit (id INTEGER)"); err != nil {
			t.Fatal(err)
		}
		if err := migrate(url); err == nil {
			t.Fatal("migrated over a table in the way")
		}
		if _, err := db.Exec("DROP TABLE audit"); err != nil {
			t.Fatal(err)
		}
		if err := migrate(url); err != nil {
			t.Error(err)
		}
	})
}

// columns lists "table.column" of every table and view of ours.
func columns(t *testing.T, db *sqlx.DB, dialect string) (names []string) {
	t.Helper()
	query := "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = current_schema()"
	if dialect == "sqlite" {
		query = "SELECT m.name || '.' || c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c WHERE m.type IN ('table', 'view')"
	}
	if err := db.Select(&names, query); err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return strings.HasPrefix(name, "goose_") || strings.HasPrefix(name, "sqlite_")
	})
	slices.Sort(names)
	return names
}

func TestBothSchemasAgree(t *testing.T) {
	t.Parallel()
	postgres, lite := open(t, storetest.Empty(t, "postgres")), open(t, storetest.URL(t, "sqlite"))
	same(t, "columns", columns(t, raw(t, lite.url), "sqlite"), columns(t, raw(t, postgres.url), "postgres"))
}

func TestOutcomesView(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		f.run(message(action1, 1), confirmed)
		row := map[string]any{}
		if err := raw(t, f.url).QueryRowx("SELECT * FROM worklist_outcomes").MapScan(row); err != nil {
			t.Fatal(err)
		}
		var names []string
		for name := range row {
			names = append(names, name)
		}
		slices.Sort(names)
		same(t, "columns", strings.Join(names, " "), "accession_number action_id action_type attempts confirmed_at duplicate enqueued_at "+
			"failed_at last_phase provider_id reason sent_at setting_id status updated_at")
		same(t, "status", row["status"], any("confirmed"))
	})
}

// manyRows fills the tables: a planner reads small ones whole.
var manyRows = []string{
	numbers + `INSERT INTO actions (action_id, action_type, creates, provider_id, accession_number, sequence_number, enqueued_at, received_at,
			status, failed_at, updated_at, duplicate, holds_accession, attempts, retry_count, postpone_count, attempt, counted_from)
		SELECT 'id' || i, 't', TRUE, 'p' || (i % 10), 'ACC' || i, i, '2026-01-01', '2026-01-01',
			CASE WHEN i % 100 = 0 THEN 'failed' ELSE 'pending' END, CASE WHEN i % 100 = 0 THEN CAST('2026-01-01' AS TIMESTAMP) END, '2026-01-01', FALSE, FALSE, 1, 0, 0, 1, 0 FROM n`,
	numbers + `INSERT INTO attempts (action_id, attempt, provider_id, started_at, ended_at, sent, answered, code, reused,
			dns_us, connect_us, tls_us, handshake_us, ack_us, result)
		SELECT 'id' || i, 1, 'p', '2026-01-01', '2026-01-01', 'no', FALSE, 0, FALSE, 0, 0, 0, 0, 0, 'retry' FROM n`,
	numbers + `INSERT INTO audit (at, who, verb, provider_id, action_id, why, detail) SELECT '2026-01-01', '', '', '', 'id' || i, '', '' FROM n`,
	numbers + `INSERT INTO relays (provider_id, setting_id, namespace, hybrid_connection, created_at, updated_at)
		SELECT 'p' || i, 's', '', '', '2026-01-01', '2026-01-01' FROM n`,
}

const numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) "

// The queries of every delivery use an index on both databases.
func TestHotQueriesUseIndexes(t *testing.T) {
	t.Parallel()
	queries := map[string]string{
		"actions_pkey":      "SELECT * FROM actions WHERE action_id = 'a'",
		"actions_accession": "SELECT * FROM actions WHERE provider_id = 'p1' AND accession_number = 'b' AND action_id <> 'c' AND (status IN ('pending', 'sent') OR holds_accession) ORDER BY sequence_number, action_id",
		"actions_provider":  "SELECT * FROM actions WHERE provider_id = 'p1' ORDER BY received_at DESC, action_id DESC LIMIT 100",
		"actions_status":    "SELECT * FROM actions WHERE status = 'failed' ORDER BY received_at DESC, action_id DESC LIMIT 100",
		"actions_received":  "SELECT * FROM actions ORDER BY received_at DESC, action_id DESC LIMIT 100",
		"attempts_pkey":     "SELECT relay, count(*) FROM attempts WHERE action_id = 'a' GROUP BY relay",
		"audit_action":      "SELECT * FROM audit WHERE action_id = 'a' ORDER BY id",
		"relays_route":      "SELECT * FROM relays WHERE provider_id = 'p1' AND COALESCE(setting_id, '') = 'b'",
	}
	automatic := regexp.MustCompile(`sqlite_autoindex_(\w+)_1`)
	each(t, func(t *testing.T, f fixture) {
		db := raw(t, f.url)
		for _, statement := range append(slices.Clone(manyRows), "ANALYZE") {
			if _, err := db.Exec(statement); err != nil {
				t.Fatal(err)
			}
		}
		explain := map[string]string{"postgres": "EXPLAIN ", "sqlite": "EXPLAIN QUERY PLAN "}[f.Dialect()]
		for index, query := range queries {
			rows, err := db.Queryx(explain + query)
			if err != nil {
				t.Fatal(err)
			}
			var plan []string
			for rows.Next() {
				line, err := rows.SliceScan()
				if err != nil {
					t.Fatal(err)
				}
				plan = append(plan, fmt.Sprint(line...))
			}
			text := automatic.ReplaceAllString(strings.Join(plan, "\n"), "${1}_pkey")
			if !strings.Contains(text, index) || strings.Contains(text, "TEMP B-TREE FOR ORDER BY") {
				t.Errorf("%s:\n%s", index, text)
			}
		}
	})
}
