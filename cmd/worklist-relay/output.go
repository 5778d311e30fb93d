package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func jsonFlag(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print one JSON document")
}

func printJSON(w io.Writer, document any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(document)
}

// printTable aligns rows of tab-separated cells under a head.
func printTable(w io.Writer, head string, rows []string) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, head)
	for _, row := range rows {
		fmt.Fprintln(table, row)
	}
	return table.Flush()
}

// Colours of text for a terminal, as SGR codes.
const (
	red    = "31"
	yellow = "33"
)

// paint colours text where w is a terminal and NO_COLOR is not set.
func paint(w io.Writer, colour, text string) string {
	if !isTerminal(w) || os.Getenv("NO_COLOR") != "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// orDash is a column that may be NULL, for people.
func orDash(s *string) string {
	if s == nil || *s == "" {
		return "-"
	}
	return *s
}

// orEmpty is a column that may be NULL, to be part of a text.
func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// at is a time in the reader's own zone; "-" for none.
func at(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// progress is a bar on a terminal, and a line every tenth elsewhere.
type progress struct {
	w     io.Writer
	total int
	what  string
	bar   *progressbar.ProgressBar // nil: lines
	told  int
}

func newProgress(w io.Writer, total int, what string) *progress {
	p := &progress{w: w, total: total, what: what}
	if isTerminal(w) {
		p.bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish())
	}
	return p
}

func (p *progress) at(n int) {
	if p.bar != nil {
		_ = p.bar.Set(n) // a terminal that is gone is no reason to stop
		return
	}
	if n-p.told >= max(p.total/10, 1) || n == p.total && n > p.told {
		fmt.Fprintf(p.w, "%s %d of %d\n", p.what, n, p.total)
		p.told = n
	}
}

func (p *progress) finish() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
