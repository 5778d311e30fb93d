package leaktest

import (
	"database/sql"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
)

// Properties checks the application properties of a message; that the
// producer's own one is there is right.
func Properties(t testing.TB, where string, properties map[string]any) {
	t.Helper()
	rest := maps.Clone(properties)
	if rest[PropertyName] == Property {
		delete(rest, PropertyName)
	}
	for name, value := range rest {
		if b, ok := value.([]byte); ok {
			rest[name] = string(b)
		}
	}
	Check(t, where, fmt.Sprint(rest))
}

// Database checks every column of every table and view of the database at url,
// postgres://... (the schema in its search path) or sqlite:FILE, and of a SQLite
// file every byte: what was overwritten may stand there for long. The caller's
// program has registered the drivers "postgres" and "sqlite".
func Database(t testing.TB, url string) {
	t.Helper()
	file, isFile := strings.CutPrefix(url, "sqlite:")
	driver, dsn := "postgres", url
	names := `SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() ORDER BY table_name`
	if isFile {
		driver, dsn = "sqlite", "file:"+file+"?_pragma=busy_timeout(10000)"
		names = `SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name`
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Errorf("database: %v", err)
		return
	}
	defer db.Close()
	tables, err := rows(db, names)
	if err != nil || len(tables) == 0 {
		t.Errorf("database has %d tables to check: %v", len(tables), err)
		return
	}
	for _, table := range tables {
		lines, err := rows(db, `SELECT * FROM "`+table+`"`)
		if err != nil {
			t.Errorf("table %s: %v", table, err)
		}
		for _, line := range lines {
			Check(t, "table "+table, line)
		}
	}
	if isFile {
		raw(t, file)
	}
}

// raw checks a SQLite file and its journal as they are.
func raw(t testing.TB, file string) {
	t.Helper()
	for _, name := range []string{file, file + "-wal"} {
		content, err := os.ReadFile(name)
		if err != nil && !os.IsNotExist(err) {
			t.Errorf("database file: %v", err)
		}
		check(t, "file "+name, content)
	}
}

// rows is the answer to a query as text, one line for each row.
func rows(db *sql.DB, query string) (lines []string, err error) {
	answer, err := db.Query(query)
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	columns, err := answer.Columns()
	if err != nil {
		return nil, err
	}
	for answer.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := answer.Scan(into...); err != nil {
			return nil, err
		}
		var line strings.Builder
		for i, value := range values {
			if b, ok := value.([]byte); ok {
				value = string(b)
			}
			fmt.Fprintf(&line, "%s%v", []string{"", "\t"}[min(i, 1)], value)
		}
		lines = append(lines, line.String())
	}
	return lines, answer.Err()
}
