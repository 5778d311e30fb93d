package storetest_test

import (
	"errors"
	"net/url"
	"os"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(suite.Tests(m).Run()) }

// What a test leaves behind does not reach the one that has the schema after it, and
// two that have one at a time have two.
func TestSchemaIsKept(t *testing.T) {
	for change, is := range map[string]string{
		audited: "SELECT count(*) = 0 AND (SELECT last_value = 1 AND NOT is_called FROM audit_id_seq) FROM audit",
		"ALTER TABLE actions ADD COLUMN more INT": "SELECT count(*) = 0 FROM pg_attribute WHERE attrelid = 'actions'::regclass AND attname = 'more'",
		"DROP TABLE goose_db_version":             "SELECT count(*) > 0 FROM goose_db_version",
	} {
		t.Run(change, func(t *testing.T) {
			t.Run("before", func(t *testing.T) {
				db := sqlx.MustOpen("postgres", storetest.URL(t, "postgres"))
				defer db.Close()
				db.MustExec(change)
			})
			// Another process's test may have the one that was changed: then this is a new one.
			url := storetest.URL(t, "postgres")
			if storetest.URL(t, "postgres") == url {
				t.Error("two have one schema")
			}
			db := sqlx.MustOpen("postgres", url)
			defer db.Close()
			var clean bool
			if err := db.Get(&clean, is); err != nil || !clean {
				t.Error("it is left there:", err)
			}
			if have, want, err := storetest.Open(t, url).Version(t.Context()); err != nil || have != want {
				t.Errorf("version %d, want %d, %v", have, want, err)
			}
		})
	}
}

const audited = "INSERT INTO audit (at, who, verb, provider_id, why, detail) VALUES (now(), 'test', 'test', '', '', '')"

// Whatever a test changes but rows is seen.
func TestStructure(t *testing.T) {
	db := sqlx.MustOpen("postgres", storetest.URL(t, "postgres"))
	t.Cleanup(func() { _ = db.Close() })
	for _, change := range []string{
		"CREATE TABLE more (more INT)",
		"DROP TABLE audit",
		"DROP INDEX actions_accession",
		"DROP INDEX actions_received; CREATE INDEX actions_received ON actions (received_at, action_id) WHERE attempts > 0",
		"ALTER TABLE pulse DROP COLUMN at",
		"ALTER TABLE actions ADD COLUMN more TEXT",
		"ALTER TABLE actions ALTER COLUMN reason SET DEFAULT 'more'",
		"ALTER TABLE actions ADD CHECK (attempts < 1000)",
		"ALTER TABLE actions SET (fillfactor = 50)",
		"ALTER TABLE actions ENABLE ROW LEVEL SECURITY",
		"ALTER TABLE actions FORCE ROW LEVEL SECURITY",
		"CREATE POLICY more ON actions",
		"ALTER TABLE attempts DISABLE TRIGGER ALL",
		"CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
		"CREATE TRIGGER more BEFORE UPDATE ON actions FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
		"CREATE RULE more AS ON INSERT TO audit DO INSTEAD NOTHING",
		"CREATE OR REPLACE VIEW worklist_outcomes AS SELECT * FROM worklist_outcomes WHERE false",
		"CREATE TYPE more AS ENUM ('more')",
		"ALTER SEQUENCE audit_id_seq INCREMENT 7",
		"GRANT SELECT ON actions TO PUBLIC",
		"GRANT SELECT (id) ON audit TO PUBLIC",
		"DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO PUBLIC', current_schema()); END $$",
		"INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)",
	} {
		tx := db.MustBegin()
		var before, after string
		err := tx.Get(&before, storetest.Structure)
		_, refused := tx.Exec(change)
		if e := (*pq.Error)(nil); errors.As(refused, &e) && e.Code.Name() == "insufficient_privilege" { // so no test can leave it
			_ = tx.Rollback()
			continue
		}
		err = errors.Join(err, refused)
		if err = errors.Join(err, tx.Get(&after, storetest.Structure), tx.Rollback()); err != nil || before == after {
			t.Errorf("%s: not seen, %v", change, err)
		}
	}
}

// A schema that something still has a lock on is left alone, and another one taken.
func TestLockedSchemaIsLeft(t *testing.T) {
	var locked string
	t.Run("before", func(t *testing.T) {
		locked = storetest.URL(t, "postgres")
	})
	if locked == "" {
		t.Skip("there is no schema to lock")
	}
	u, err := url.Parse(locked)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set("application_name", "somebody else")
	u.RawQuery = query.Encode()
	db := sqlx.MustOpen("postgres", u.String())
	t.Cleanup(func() { _ = db.Close() })
	tx := db.MustBegin()
	t.Cleanup(func() { _ = tx.Rollback() })
	tx.MustExec("LOCK TABLE actions IN ACCESS EXCLUSIVE MODE")
	if storetest.URL(t, "postgres") == locked {
		t.Error("a locked schema was taken")
	}
}
