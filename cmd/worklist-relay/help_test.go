package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// Help fits a terminal of 80 columns. A line that begins with the program's
// name is there to be copied.
func TestHelpFits(t *testing.T) {
	t.Parallel()
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		var out, errs bytes.Buffer
		args := append(strings.Fields(cmd.CommandPath())[1:], "--help")
		if code := execute(slices.Clone(args), nil, &out, &errs); code != exitDone || out.Len() == 0 {
			t.Errorf("%v: exit code %d, %s", args, code, errs.String())
		}
		for line := range strings.Lines(out.String()) {
			line = strings.TrimRight(line, "\n")
			if utf8.RuneCountInString(line) > terminalWidth && !strings.HasPrefix(line, "  worklist-relay ") {
				t.Errorf("%v: more than %d columns: %s", args, terminalWidth, line)
			}
		}
		for _, below := range cmd.Commands() {
			check(below)
		}
	}
	check(rootCommand())
}
