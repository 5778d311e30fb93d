package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"
)

// moment is a flag that names a point in time: how long ago ("90m", "24h"), a
// day or a minute in the reader's own zone, or RFC 3339. The zero moment is none.
type moment struct {
	time.Time
	given string
}

var errNoMoment = errors.New(`give how long ago ("90m", "24h"), "2006-01-02", "2006-01-02 15:04" or RFC 3339`)

// Set, String and Type make it a flag's value.
func (m *moment) Set(s string) error {
	m.given = s
	if ago, err := time.ParseDuration(s); err == nil {
		if ago < 0 {
			return errNoMoment
		}
		m.Time = time.Now().Add(-ago)
		return nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02 15:04", time.DateTime} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			m.Time = t
			return nil
		}
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return errNoMoment
	}
	m.Time = t
	return nil
}

func (m *moment) String() string { return m.given }
func (m *moment) Type() string   { return "time" }

// between adds --since and --until.
func between(cmd *cobra.Command, since, until *moment, what string) {
	cmd.Flags().Var(since, "since", "only those "+what+" since: 90m (so long ago), 2006-01-02, \"2006-01-02 15:04\" or RFC 3339")
	cmd.Flags().Var(until, "until", "only those "+what+" before, likewise")
}
