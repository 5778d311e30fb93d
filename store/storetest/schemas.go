package storetest

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/url"
	"sync"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
)

// A schema costs the server more to make and to drop than most tests cost it, so
// schemas with the tables of this program are kept in the database from test to
// test and from run to run, named "worklist_test_" and a number. A test that takes
// one empties its tables. At most as many are there as tests have run at a time.

// schemas are those that tests of this process have now.
var schemas = &lent{numbers: map[int]bool{}}

// lent is safe for concurrent use.
type lent struct {
	mu      sync.Mutex // guards what follows, and the connection's use
	numbers map[int]bool
	db      *sqlx.DB // nil where no test has a schema
	// conn holds an advisory lock for each schema. A process that dies gives them
	// back with it.
	conn *sqlx.Conn
	// migrated is the structure of a schema that this process made: the first one it
	// takes. "" before.
	migrated string
}

// lockClass is the first number of the advisory locks; the second is the schema's.
var lockClass = func() int32 {
	hash := fnv.New32a()
	hash.Write([]byte("worklist-relay storetest"))
	return int32(hash.Sum32())
}()

// tabled is a schema with the tables of this program and no rows, for one test.
func tabled(t testing.TB) string {
	t.Helper()
	base := server(t)
	name, number, err := schemas.take(base)
	if err != nil {
		t.Fatal("TEST_DATABASE_URL:", err)
	}
	t.Cleanup(func() {
		if err := schemas.giveBack(number); err != nil {
			t.Error(err)
		}
	})
	return inSchema(base, name)
}

// mostSchemas bounds the search for one. A hundred connections, as a server takes
// them, have no use for more.
const mostSchemas = 200

// take is the first schema that nobody has. One that another role made, or that
// something still has a lock on, is left alone.
func (l *lent) take(base *url.URL) (name string, number int, err error) {
	ctx := context.Background()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.connect(ctx, base); err != nil {
		return "", 0, err
	}
	for number = range mostSchemas {
		if l.numbers[number] { // its lock would be had again: it is this session's
			continue
		}
		var free bool
		if err = l.conn.GetContext(ctx, &free, "SELECT pg_try_advisory_lock($1, $2)", lockClass, number); err != nil {
			break
		}
		if !free {
			continue
		}
		l.numbers[number], name = true, fmt.Sprintf("worklist_test_%d", number)
		if err = l.ready(ctx, base, name); err == nil {
			return name, number, nil
		}
		err = errors.Join(err, l.unlock(ctx, number))
		if refused := (*pq.Error)(nil); !errors.As(err, &refused) || refused.Code.Name() != "insufficient_privilege" && refused.Code.Name() != "lock_not_available" {
			break
		}
	}
	if err == nil {
		err = fmt.Errorf("none of %d schemas is free", mostSchemas)
	}
	return "", 0, errors.Join(err, l.close())
}

func (l *lent) connect(ctx context.Context, base *url.URL) (err error) {
	if l.db != nil && l.conn.PingContext(ctx) == nil {
		return nil
	}
	if l.db != nil { // the locks are gone with it: who has a schema hears of it at the end
		_, _ = l.conn.Close(), l.db.Close()
	}
	db, err := sqlx.Open("postgres", base.String())
	if err != nil {
		return err
	}
	conn, err := db.Connx(ctx)
	if err == nil {
		_, err = conn.ExecContext(ctx, "SET lock_timeout = '2s'; SET synchronous_commit = off; SET client_min_messages = warning")
	}
	if err != nil {
		return errors.Join(err, db.Close())
	}
	l.db, l.conn = db, conn
	return nil
}

func (l *lent) giveBack(number int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.unlock(context.Background(), number), l.close())
}

func (l *lent) unlock(ctx context.Context, number int) error {
	delete(l.numbers, number)
	var held bool
	err := l.conn.GetContext(ctx, &held, "SELECT pg_advisory_unlock($1, $2)", lockClass, number)
	if err == nil && !held {
		err = fmt.Errorf("the lock of schema %d was lost, so another test may have had it too", number)
	}
	return err
}

// close closes the connection where no test needs it any more: it would look as if
// it had been forgotten.
func (l *lent) close() error {
	if len(l.numbers) > 0 {
		return nil
	}
	err := errors.Join(l.conn.Close(), l.db.Close())
	l.db, l.conn = nil, nil
	return err
}

// ready makes the schema as a migration leaves it. Where a test or another version
// of this program left something else, it is made anew.
func (l *lent) ready(ctx context.Context, base *url.URL, name string) error {
	// A process that a test killed may still have a statement at the server.
	if _, err := l.conn.ExecContext(ctx, "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = $1 AND datname = current_database()", name); err != nil {
		return err
	}
	if _, err := l.conn.ExecContext(ctx, "SET search_path = "+name); err != nil {
		return err
	}
	if same, err := l.same(ctx); err != nil {
		return err
	} else if same {
		return l.empty(ctx)
	}
	if _, err := l.conn.ExecContext(ctx, "DROP SCHEMA IF EXISTS "+name+" CASCADE; CREATE SCHEMA "+name); err != nil {
		return err
	}
	if err := migrate(ctx, inSchema(base, name)); err != nil {
		return err
	}
	return l.conn.GetContext(ctx, &l.migrated, structure)
}

// same reports whether the schema of the search path is as a migration leaves it.
func (l *lent) same(ctx context.Context) (same bool, err error) {
	if l.migrated == "" {
		return false, nil
	}
	var exists bool
	if err := l.conn.GetContext(ctx, &exists, "SELECT to_regclass('goose_db_version') IS NOT NULL"); err != nil || !exists {
		return false, err
	}
	var is string
	err = l.conn.GetContext(ctx, &is, structure)
	return is == l.migrated, err
}

// empty takes the rows of all tables, but for the version of the schema.
func (l *lent) empty(ctx context.Context) error {
	var tables string
	if err := l.conn.GetContext(ctx, &tables, `SELECT string_agg(quote_ident(relname), ', ') FROM pg_class
		WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND relname <> 'goose_db_version'`); err != nil {
		return err
	}
	_, err := l.conn.ExecContext(ctx, "TRUNCATE "+tables+" RESTART IDENTITY")
	return err
}

// structure is what of the schema no TRUNCATE puts back, as one text without the
// schema's name.
const structure = `
	WITH here AS (SELECT oid, nspacl FROM pg_namespace WHERE nspname = current_schema()),
	relation AS (SELECT c.* FROM pg_class c JOIN here ON relnamespace = here.oid),
	part (text) AS (
		SELECT concat_ws(' ', 'schema', nspacl) FROM here
		UNION ALL
		SELECT concat_ws(' ', 'relation', relname, relkind, relacl, relowner, relrowsecurity, relforcerowsecurity, reloptions) FROM relation
		UNION ALL
		SELECT concat_ws(' ', 'column', relname, attname, format_type(atttypid, atttypmod), attnotnull, attidentity, pg_get_expr(adbin, adrelid), attacl)
		FROM relation JOIN pg_attribute ON attrelid = relation.oid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
		WHERE attnum > 0 AND NOT attisdropped
		UNION ALL
		SELECT concat_ws(' ', 'rule', pg_get_ruledef(r.oid)) FROM relation JOIN pg_rewrite r ON ev_class = relation.oid
		UNION ALL
		SELECT concat_ws(' ', 'index', pg_get_indexdef(oid)) FROM relation WHERE relkind = 'i'
		UNION ALL
		SELECT concat_ws(' ', 'constraint', relname, pg_get_constraintdef(c.oid)) FROM relation JOIN pg_constraint c ON conrelid = relation.oid
		UNION ALL
		SELECT concat_ws(' ', 'trigger', relname, tgenabled, CASE WHEN NOT tgisinternal THEN pg_get_triggerdef(t.oid) END)
		FROM relation JOIN pg_trigger t ON tgrelid = relation.oid
		UNION ALL
		SELECT concat_ws(' ', 'policy', relname, polname) FROM relation JOIN pg_policy ON polrelid = relation.oid
		UNION ALL
		SELECT concat_ws(' ', 'sequence', relname, seqincrement, seqmin, seqmax, seqcycle) FROM relation JOIN pg_sequence ON seqrelid = relation.oid
		UNION ALL
		SELECT concat_ws(' ', 'type', typname, typtype) FROM pg_type JOIN here ON typnamespace = here.oid
		UNION ALL
		SELECT concat_ws(' ', 'function', pg_get_functiondef(p.oid)) FROM pg_proc p JOIN here ON pronamespace = here.oid
		UNION ALL
		SELECT concat_ws(' ', 'version', version_id, is_applied) FROM goose_db_version
	)
	SELECT string_agg(text, E'\n' ORDER BY text) FROM part`
