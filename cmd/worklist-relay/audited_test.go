package main

import (
	"database/sql"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// audited checks how many audit entries of a verb have a text in their reason or detail.
func audited(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: audited VERB TEXT COUNT")
	}
	db, err := sql.Open("sqlite", strings.TrimPrefix(ts.Getenv("DATABASE_URL"), "sqlite:"))
	ts.Check(err)
	defer db.Close()
	var n int
	err = db.QueryRow("SELECT count(*) FROM audit WHERE verb = $1 AND who <> '' AND instr(why || ' ' || detail, $2) > 0", args[0], args[1]).Scan(&n)
	ts.Check(err)
	if strconv.Itoa(n) != args[2] {
		ts.Fatalf("%d audit entries of %s with %q, want %s", n, args[0], args[1], args[2])
	}
}
