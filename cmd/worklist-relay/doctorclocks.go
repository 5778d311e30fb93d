package main

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// How far another clock may be from this machine's: locks, leases, due times and
// tokens are judged by this one.
const (
	skewNoted   = 2 * time.Second
	skewRefused = 30 * time.Second
)

// clock is what another clock said between two moments of this machine's.
type clock struct {
	whose         string
	said          time.Time
	fineness      time.Duration // of what it said
	before, after time.Time
}

// ahead is how far this machine's clock is ahead of the other at least: the
// answer was made at some moment between the two. Negative is behind.
func (c clock) ahead() time.Duration {
	switch {
	case c.said.Add(c.fineness).Before(c.before):
		return c.before.Sub(c.said.Add(c.fineness))
	case c.said.After(c.after):
		return c.after.Sub(c.said)
	}
	return 0
}

// dateOf is the clock in an answer over HTTP, which tells whole seconds; none
// where there is no answer.
func dateOf(answer *http.Response, before, after time.Time) []clock {
	if answer == nil {
		return nil
	}
	said, err := http.ParseTime(answer.Header.Get("Date"))
	if err != nil {
		return nil
	}
	return []clock{{whose: "Service Bus", said: said, fineness: time.Second, before: before, after: after}}
}

func (d *doctor) lookAtClocks(ctx context.Context) (findings []finding) {
	for _, c := range d.clocks {
		findings = append(findings, d.judgeClock(ctx, c))
	}
	if len(findings) == 0 {
		findings = []finding{{Check: "clock", State: skipped, Found: "nothing told its time"}}
	}
	return findings
}

func (d *doctor) judgeClock(ctx context.Context, c clock) finding {
	ahead := c.ahead()
	found := fmt.Sprintf("this machine's is ahead by %s", ahead.Abs().Round(100*time.Millisecond))
	if ahead < 0 {
		found = fmt.Sprintf("this machine's is behind by %s", ahead.Abs().Round(100*time.Millisecond))
	}
	mend := "Synchronise the clock of the host that this runs on. Locks, leases, due times and tokens are judged by it: actions would be taken from who still works on them, and tokens refused."
	switch {
	case ahead.Abs() > skewRefused:
		return d.bad(ctx, "clock", c.whose, found, mend)
	case ahead.Abs() > skewNoted:
		return finding{Check: "clock", Target: c.whose, State: warning, Found: found, Mend: mend}
	}
	return finding{Check: "clock", Target: c.whose, State: fine, Found: fmt.Sprintf("agrees with this machine's within %s", skewNoted)}
}
