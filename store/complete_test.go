package store_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// No method of the store, and no piece of SQL in its sources, is unknown to
// TestEveryQueryUsesAnIndex.
func TestEveryStatementIsExplained(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		statements := noteEverything(t, url, 1)
		for method := range reflect.TypeFor[*store.Store]().Methods() {
			asks := slices.ContainsFunc(statements, func(s noted) bool { return s.method == method.Name })
			places := 0
			for _, place := range [][]string{onTheWay, inALoop, byHand, offline} {
				if slices.Contains(place, method.Name) {
					places++
				}
			}
			if places != 1 || asks == slices.Contains(offline, method.Name) {
				t.Errorf("%s: in %d lists of when methods are called, asks the database: %v", method.Name, places, asks)
			}
		}
		for _, piece := range piecesOfSQL(t) {
			made := slices.ContainsFunc(statements, func(s noted) bool { return piece.MatchString(strings.Join(strings.Fields(s.text), " ")) })
			if !made && !otherDialect[t.Name()[strings.LastIndex(t.Name(), "/")+1:]].MatchString(piece.String()) {
				t.Errorf("no statement is made with %s", piece)
			}
		}
	})
}

// otherDialect matches the pieces of SQL that a database is not asked.
var otherDialect = map[string]*regexp.Regexp{
	"sqlite":   regexp.MustCompile("WITH each AS|^ended|FOR UPDATE|current_setting|current_schema|to_regclass|WITH ended AS"),
	"postgres": regexp.MustCompile("sqlite_"),
}

var (
	isSQL    = regexp.MustCompile(`(^|\s)(SELECT|WITH|FROM|WHERE|INSERT INTO|VALUES|UPDATE|SET|DELETE FROM|ON CONFLICT|ORDER BY)\s|FOR UPDATE$`)
	filledIn = regexp.MustCompile(`:\w+|:$|%d|\$%d|\?| ?\{[^}]*\} ?`) // later, with parameters or more text
)

// piecesOfSQL are the string literals of the store that hold SQL.
func piecesOfSQL(t *testing.T) (pieces []*regexp.Regexp) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(literal.Value)
			if err != nil || !isSQL.MatchString(text) {
				return true
			}
			parts := filledIn.Split(strings.Join(strings.Fields(text), " "), -1)
			for i := range parts {
				parts[i] = regexp.QuoteMeta(parts[i])
			}
			pieces = append(pieces, regexp.MustCompile(strings.Join(parts, ".*")))
			return true
		})
	}
	return pieces
}

// A filter of its own for each field.
func TestEveryFilterIsExplained(t *testing.T) {
	t.Parallel()
	all := reflect.ValueOf(store.ActionFilter{})
	for field := range all.Type().Fields() {
		if !slices.ContainsFunc(filters, func(f store.ActionFilter) bool { return !reflect.ValueOf(f).FieldByName(field.Name).IsZero() }) {
			t.Errorf("no listing filters by %s", field.Name)
		}
	}
}
