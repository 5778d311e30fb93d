package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// lookUpLimit bounds the look at a database that enqueue can do without.
const lookUpLimit = 15 * time.Second

var errNoDatabase = errors.New("DATABASE_URL is not set")

// lookUp marks the actions that SQL knows. The error says why it cannot be told;
// it is no reason not to send.
func (c config) lookUp(ctx context.Context, list []queued) error {
	if c.DatabaseURL == "" {
		return errNoDatabase
	}
	ctx, cancel := context.WithTimeout(ctx, lookUpLimit)
	defer cancel()
	s, err := c.openStore(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	ids := make([]string, len(list))
	for i, q := range list {
		ids[i] = q.ActionID
	}
	found, err := s.ActionsByID(ctx, ids)
	if err != nil {
		return err
	}
	for i := range list {
		q := &list[i]
		row, isThere := found[q.ActionID]
		q.known = q.known || isThere
		switch {
		case !isThere:
		case row.ProviderID != "" && row.ProviderID != q.ProviderID:
			q.conflict = "is known from another provider"
		case row.BodySHA256 != nil && *row.BodySHA256 != q.digest:
			q.conflict = "is known with other content"
		}
		q.known = q.known && q.conflict == ""
	}
	return nil
}

// warnOfConflicts tells which actions the consumer will dead-letter.
func warnOfConflicts(w io.Writer, list []queued) {
	n := 0
	for _, q := range list {
		if q.conflict == "" {
			continue
		}
		if n++; n <= maxFaultLines {
			fmt.Fprintf(w, "action %s %s: it will be dead-lettered as ActionConflict\n", q.ActionID, q.conflict)
		}
	}
	if n > maxFaultLines {
		fmt.Fprintf(w, "... and %d more\n", n-maxFaultLines)
	}
}
