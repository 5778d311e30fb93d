package storetest_test

import (
	"context"
	"os"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(suite.Tests(m).Run()) }

// What a test leaves behind, rows, numbers and changed tables, does not reach the one
// that has the schema after it, and two that have one at a time have two.
func TestSchemaIsKept(t *testing.T) {
	left := map[string]string{
		"a row":         "INSERT INTO audit (at, who, verb, provider_id, why, detail) VALUES (now(), 'test', 'test', '', '', '')",
		"a column":      "ALTER TABLE actions ADD COLUMN more TEXT",
		"a trigger":     "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER no BEFORE UPDATE ON actions FOR EACH ROW EXECUTE FUNCTION no()",
		"a lost index":  "DROP INDEX actions_accession",
		"a lost table":  "DROP TABLE audit",
		"a version":     "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)",
		"a right":       "GRANT SELECT ON actions TO PUBLIC",
		"a lost column": "ALTER TABLE pulse DROP COLUMN at",
		"no tables":     "DROP TABLE goose_db_version",
	}
	for name, change := range left {
		t.Run(name, func(t *testing.T) {
			var first string
			t.Run("before", func(t *testing.T) {
				first = storetest.URL(t, "postgres")
				db := sqlx.MustOpen("postgres", first)
				defer db.Close()
				db.MustExec(change)
			})
			if first == "" {
				t.Skip("there is no PostgreSQL")
			}
			// Another test's process may have taken the first one meanwhile.
			url := storetest.URL(t, "postgres")
			if storetest.URL(t, "postgres") == url {
				t.Error("two have one schema")
			}
			db := sqlx.MustOpen("postgres", url)
			defer db.Close()
			var more, number int
			if err := db.Get(&more, "SELECT count(*) FROM information_schema.columns WHERE table_schema = current_schema() AND column_name = 'more'"); err != nil || more > 0 {
				t.Errorf("%d columns more, %v", more, err)
			}
			if err := db.Get(&number, "INSERT INTO audit (at, who, verb, provider_id, why, detail) VALUES (now(), 'test', 'test', '', '', '') RETURNING id"); err != nil || number != 1 {
				t.Errorf("the first row has number %d, %v", number, err)
			}
			s := storetest.Open(t, url)
			if have, want, err := s.Version(context.Background()); err != nil || have != want {
				t.Errorf("version %d, want %d, %v", have, want, err)
			}
		})
	}
}
