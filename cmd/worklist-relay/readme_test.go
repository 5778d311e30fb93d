package main_test

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// The README documents the view for producers column by column, as a migrated
// database has it.
func TestReadmeOutcomeColumns(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n| column | meaning |\n")
	section, _, _ = strings.Cut(section, "\n\n")
	var want []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(section, -1) {
		want = append(want, row[1])
	}
	storetest.Each(t, func(t *testing.T, url string) {
		s := scene{t: t, database: url}
		s.store = storetest.Open(t, url)
		db, err := s.open()
		s.must(err)
		defer db.Close()
		rows, err := db.QueryContext(context.Background(), "SELECT * FROM worklist_outcomes")
		s.must(err)
		defer rows.Close()
		columns, err := rows.Columns()
		s.must(err)
		s.must(rows.Err())
		if diff := cmp.Diff(want, columns); diff != "" {
			t.Errorf("README (-) and view (+) differ:\n%s", diff)
		}
	})
}
