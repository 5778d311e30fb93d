package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// state is how a finding is to be taken.
type state string

const (
	fine    state = "ok"
	note    state = "note"
	skipped state = "skipped"
	warning state = "warning"
	failed  state = "failed"
)

// finding is one line of the report, and one element of its JSON. The names of
// checks are for people who search, and for runbooks: they stay.
type finding struct {
	Check  string `json:"check"`
	Target string `json:"target"` // what was looked at; "" where the check says it
	State  state  `json:"state"`
	Found  string `json:"found"`
	Mend   string `json:"mend"` // sentences; "": nothing to mend
}

// bad is a failure, unless a signal ended the check: then nothing is known.
func (d *doctor) bad(ctx context.Context, check, target, found, mend string) finding {
	if ctx.Err() == context.Canceled {
		return finding{Check: check, Target: target, State: skipped, Found: "stopped by a signal"}
	}
	return finding{Check: check, Target: target, State: failed, Found: found, Mend: mend}
}

// print writes the finding for a person: below it, what mends it.
func (f finding) print(w io.Writer) {
	label := f.State.label()
	head := fmt.Sprintf("%-7s  ", label)
	text := f.Check
	if f.Target != "" {
		text += " " + f.Target
	}
	lines := hanging(head, text+": "+f.Found)
	colour := map[state]string{failed: red, warning: yellow}[f.State]
	if colour != "" {
		lines = paint(w, colour, label) + strings.TrimPrefix(lines, label)
	}
	fmt.Fprintln(w, lines)
	if f.Mend != "" {
		fmt.Fprintln(w, hanging(strings.Repeat(" ", len(head)+2), f.Mend))
	}
}

func (s state) label() string {
	if s == failed {
		return "FAILED"
	}
	return string(s)
}

// anyFailed reports whether one of the findings is a failure.
func anyFailed(list []finding) bool {
	for _, f := range list {
		if f.State == failed {
			return true
		}
	}
	return false
}

func (d *doctor) count(s state) (n int) {
	for _, f := range d.findings {
		if f.State == s {
			n++
		}
	}
	return n
}

// worst is fine, warning or failed.
func (d *doctor) worst() state {
	for _, s := range []state{failed, warning} {
		if d.count(s) > 0 {
			return s
		}
	}
	return fine
}

// sum is the last line of the report.
func (d *doctor) sum() string {
	return fmt.Sprintf("worst: %s (%d failed, %s, %s, %d skipped, %d ok)", d.worst().label(),
		d.count(failed), several(d.count(warning), "warning"), several(d.count(note), "note"), d.count(skipped), d.count(fine))
}

// doctorDocument is what --json prints.
type doctorDocument struct {
	Worst    state     `json:"worst"`
	Findings []finding `json:"findings"`
}

func (d *doctor) document() doctorDocument {
	return doctorDocument{Worst: d.worst(), Findings: d.findings}
}

// verdict is the error that makes the exit code; nil for 0.
func (d *doctor) verdict(ctx context.Context) error {
	if ctx.Err() != nil {
		return failure{exitUnfinished, errors.New("stopped before all was checked")}
	}
	switch n := d.count(failed); {
	case n > 0:
		code := exitFailed
		for _, f := range d.findings {
			if f.State == failed && (f.Check == "configuration" || f.Check == "schema") {
				code = exitConfig
			}
		}
		return failure{code, fmt.Errorf("%s failed", several(n, "check"))}
	case d.count(warning) > 0:
		return failure{exitRefused, errors.New(several(d.count(warning), "warning"))}
	}
	return nil
}
