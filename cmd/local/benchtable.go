package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// figure is one row of the bench's table.
type figure struct {
	Measure string  `json:"measure"` // number and name
	Value   float64 `json:"value"`
	Unit    string  `json:"unit"`
	Limit   float64 `json:"limit,omitempty"` // what Value is held against, in the same unit; 0: nothing
	Ratio   float64 `json:"ratio,omitempty"` // of the two, or the difference where Goal says so; 0: there is no limit
	Goal    string  `json:"goal,omitempty"`  // what the ratio, or without a limit the value, is to reach; "": only reported
	Reached *bool   `json:"reached,omitempty"`
	How     string  `json:"how"`
}

// number is the number of the measure.
func (f figure) number() int {
	digits, _, _ := strings.Cut(f.Measure, " ")
	n, _ := strconv.Atoi(digits) // every measure has one
	return n
}

// inOrder puts figures into the order of their numbers. Those of one number stay
// as they were taken.
func inOrder(figures []figure) {
	slices.SortStableFunc(figures, func(a, b figure) int { return a.number() - b.number() })
}

// reported is a figure that is held against nothing.
func reported(measure string, value float64, unit, how string) figure {
	return figure{Measure: measure, Value: value, Unit: unit, How: how}
}

// against sets the limit, with the ratio of value to it.
func (f figure) against(limit float64) figure {
	f.Limit = limit
	if limit != 0 {
		f.Ratio = f.Value / limit
	}
	return f
}

// limitBy sets the limit, with the ratio of it to the value.
func (f figure) limitBy(limit float64) figure {
	f.Limit = limit
	if f.Value != 0 {
		f.Ratio = limit / f.Value
	}
	return f
}

// beyond sets the limit, with how far the value is above it in place of a ratio.
func (f figure) beyond(limit float64) figure {
	f.Limit, f.Ratio = limit, f.Value-limit
	return f
}

// judged is the ratio, or without a limit the value.
func (f figure) judged() float64 {
	if f.Limit != 0 {
		return f.Ratio
	}
	return f.Value
}

func (f figure) atMost(goal float64) figure {
	reached := f.judged() <= goal
	f.Goal, f.Reached = "<= "+number(goal), &reached
	return f
}

func (f figure) atLeast(goal float64) figure {
	reached := f.judged() >= goal
	f.Goal, f.Reached = ">= "+number(goal), &reached
	return f
}

// number is short, and exact enough for any figure here.
func number(v float64) string {
	switch {
	case v == 0 || v >= 1000 || v <= -1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

func orEmpty(v float64) string {
	if v == 0 {
		return "-"
	}
	return number(v)
}

// printFigures writes the table, and below it how each figure was taken: what is
// true of several, once.
func printFigures(w io.Writer, machine string, figures []figure) error {
	fmt.Fprintln(w, machine)
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "MEASURE\tFIGURE\tLIMIT\tRATIO\tGOAL\tREACHED")
	for _, f := range figures {
		reached := "-"
		if f.Reached != nil {
			reached = map[bool]string{true: "yes", false: "no"}[*f.Reached]
		}
		fmt.Fprintf(table, "%s\t%s %s\t%s\t%s\t%s\t%s\n", f.Measure, number(f.Value), f.Unit, orEmpty(f.Limit), orEmpty(f.Ratio), orDash(f.Goal), reached)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	told := map[string]bool{}
	for _, f := range figures {
		if !told[f.How] {
			fmt.Fprintf(w, "%s\n    %s\n", f.Measure, f.How)
		}
		told[f.How] = true
	}
	return nil
}

// printFiguresJSON writes one object.
func printFiguresJSON(w io.Writer, machine string, figures []figure) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(struct {
		Machine string   `json:"machine"`
		Figures []figure `json:"figures"`
	}{machine, figures})
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

func seconds(d time.Duration) float64 { return d.Seconds() }

// micros is d shared by n, in microseconds.
func micros(d time.Duration, n int) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(n) }

// rate is how many of n were done in a second.
func rate(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }
