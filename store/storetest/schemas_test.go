package storetest_test

import (
	"net/url"
	"os"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(suite.Tests(m).Run()) }

// What a test leaves behind does not reach the one that has the schema after it, and
// two that have one at a time have two.
func TestSchemaIsKept(t *testing.T) {
	const audited = "INSERT INTO audit (at, who, verb, provider_id, why, detail) VALUES (now(), 'test', 'test', '', '', '')"
	for _, left := range []struct{ what, change, is string }{
		{"a row", audited, "SELECT count(*) = 0 FROM audit"},
		{"a number", audited, "SELECT last_value = 1 AND NOT is_called FROM audit_id_seq"},
		{"a step of 7", "ALTER SEQUENCE audit_id_seq INCREMENT 7", "SELECT seqincrement = 1 FROM pg_sequence WHERE seqrelid = 'audit_id_seq'::regclass"},
		{"a version", "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)", "SELECT max(version_id) < 99 FROM goose_db_version"},
		{"no tables", "DROP TABLE goose_db_version", "SELECT count(*) > 0 FROM goose_db_version"},
		{"a table", "CREATE TABLE more (more INT)", "SELECT to_regclass('more') IS NULL"},
		{"a lost table", "DROP TABLE audit", "SELECT to_regclass('audit') IS NOT NULL"},
		{"a lost index", "DROP INDEX actions_accession", "SELECT to_regclass('actions_accession') IS NOT NULL"},
		{"a lost column", "ALTER TABLE pulse DROP COLUMN at", "SELECT count(at) = 0 FROM pulse"},
		{"a column", "ALTER TABLE actions ADD COLUMN more TEXT", "SELECT count(*) = 0 FROM pg_attribute WHERE attrelid = 'actions'::regclass AND attname = 'more'"},
		{"a trigger", "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER no BEFORE UPDATE ON actions FOR EACH ROW EXECUTE FUNCTION no()",
			"SELECT count(*) = 0 FROM pg_trigger WHERE tgrelid = 'actions'::regclass AND NOT tgisinternal"},
		{"no references", "ALTER TABLE attempts DISABLE TRIGGER ALL", "SELECT bool_and(tgenabled = 'O') FROM pg_trigger WHERE tgrelid = 'attempts'::regclass"},
		{"a rule", "CREATE RULE no AS ON INSERT TO audit DO INSTEAD NOTHING", "SELECT NOT relhasrules FROM pg_class WHERE oid = 'audit'::regclass"},
		{"a type", "CREATE TYPE more AS ENUM ('more')", "SELECT to_regtype('more') IS NULL"},
		{"row security", "ALTER TABLE actions ENABLE ROW LEVEL SECURITY", "SELECT NOT relrowsecurity FROM pg_class WHERE oid = 'actions'::regclass"},
		{"a right", "GRANT SELECT ON actions TO PUBLIC", "SELECT relacl IS NULL FROM pg_class WHERE oid = 'actions'::regclass"},
		{"a right to a column", "GRANT SELECT (id) ON audit TO PUBLIC", "SELECT bool_and(attacl IS NULL) FROM pg_attribute WHERE attrelid = 'audit'::regclass"},
	} {
		t.Run(left.what, func(t *testing.T) {
			t.Run("before", func(t *testing.T) {
				db := sqlx.MustOpen("postgres", storetest.URL(t, "postgres"))
				defer db.Close()
				db.MustExec(left.change)
			})
			// Another process's test may have the one that was changed: then this is a new one.
			url := storetest.URL(t, "postgres")
			if storetest.URL(t, "postgres") == url {
				t.Error("two have one schema")
			}
			db := sqlx.MustOpen("postgres", url)
			defer db.Close()
			var clean bool
			if err := db.Get(&clean, left.is); err != nil || !clean {
				t.Error("it is left there:", err)
			}
			if have, want, err := storetest.Open(t, url).Version(t.Context()); err != nil || have != want {
				t.Errorf("version %d, want %d, %v", have, want, err)
			}
		})
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
	tx.MustExec("LOCK TABLE actions IN ACCESS EXCLUSIVE MODE")
	if storetest.URL(t, "postgres") == locked {
		t.Error("a locked schema was taken")
	}
	if err := tx.Rollback(); err != nil {
		t.Error(err)
	}
}
