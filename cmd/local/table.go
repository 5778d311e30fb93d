package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// line is one row of the table at the end.
type line struct {
	what, gateway, outcome string
	tries                  int
	phases                 []string      // where tries failed
	reason                 string        // of the dead letter
	took                   time.Duration // 0: not over yet
}

// printTable writes the lines under a heading, in columns that fit a terminal
// of 100.
func printTable(w io.Writer, lines []line) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ACTION\tGATEWAY\tOUTCOME\tTRIES\tPHASE\tREASON\tTIME")
	for _, l := range lines {
		took := ""
		if l.took > 0 {
			took = fmt.Sprintf("%.2fs", l.took.Seconds())
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n",
			l.what, l.gateway, l.outcome, l.tries, orDash(strings.Join(slices.Compact(l.phases), " ")), orDash(l.reason), orDash(took))
	}
	return table.Flush()
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
