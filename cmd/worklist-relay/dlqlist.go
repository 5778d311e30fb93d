package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/store"
)

func dlqListCommand() *cobra.Command {
	var chosen selection
	var each, oldest, reveal, asJSON bool
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, grouped by reason, gateway and phase",
		Long: "list groups the dead letters by reason, gateway and phase. With --each it lists them one a\n" +
			"line, newest first. A participant's details are masked; --reveal shows the bodies and\n" +
			"writes into the audit that you did. Nothing is locked or changed.",
		Args: cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case limit < 1:
				return usage("--limit must be above 0")
			case reveal && !each:
				return usage("--reveal goes with --each")
			case cmd.Flags().Changed("limit") && !each:
				return usage("--limit goes with --each")
			}
			return nil
		},
		RunE: withQueue(func(cmd *cobra.Command, _ []string, s *store.Store, letters *consumer.DeadLetters) error {
			filter, err := chosen.of(nil)
			if err != nil {
				return err
			}
			if each {
				return listEach(cmd, s, letters, filter, eachOptions{oldest, reveal, asJSON, limit})
			}
			groups, err := grouped(cmd, letters, filter, oldest)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), groups)
			}
			return printGroups(cmd.OutOrStdout(), groups, time.Now())
		}),
	}
	chosen.flags(cmd)
	f := cmd.Flags()
	f.BoolVar(&each, "each", false, "one a line instead of groups")
	f.BoolVar(&oldest, "oldest", false, "oldest first")
	f.BoolVar(&reveal, "reveal", false, "show bodies unmasked, which is audited; with --each")
	f.IntVar(&limit, "limit", 100, "with --each: at most so many")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// letterGroup is dead letters that failed alike.
type letterGroup struct {
	Reason  string    `json:"reason"`
	Gateway string    `json:"relay"` // "namespace/path"; "" not known
	Phase   string    `json:"phase"`
	Count   int       `json:"count"`
	Oldest  time.Time `json:"oldest"`
	Newest  time.Time `json:"newest"`
}

// unreadableReason stands for the reason of a dead letter that cannot be read.
const unreadableReason = "(unreadable)"

// grouped counts what the filter selects. Its memory grows with the groups only.
func grouped(cmd *cobra.Command, letters *consumer.DeadLetters, filter consumer.DeadLetterFilter, oldest bool) ([]letterGroup, error) {
	type key struct{ reason, gateway, phase string }
	found := map[key]letterGroup{}
	err := letters.Each(cmd.Context(), filter, func(l consumer.DeadLetter) error {
		k := key{l.Reason, l.Gateway, l.Phase}
		if l.Unreadable {
			k.reason = unreadableReason
		}
		g, known := found[k]
		if !known {
			g = letterGroup{Reason: k.reason, Gateway: k.gateway, Phase: k.phase, Oldest: l.DeadLetteredAt, Newest: l.DeadLetteredAt}
		}
		g.Count++
		if l.DeadLetteredAt.Before(g.Oldest) {
			g.Oldest = l.DeadLetteredAt
		}
		if l.DeadLetteredAt.After(g.Newest) {
			g.Newest = l.DeadLetteredAt
		}
		found[k] = g
		return nil
	})
	groups := []letterGroup{}
	for _, g := range found {
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b letterGroup) int {
		order := b.Newest.Compare(a.Newest)
		if oldest {
			order = a.Oldest.Compare(b.Oldest)
		}
		return cmp.Or(order, strings.Compare(a.Reason, b.Reason), strings.Compare(a.Gateway, b.Gateway), strings.Compare(a.Phase, b.Phase))
	})
	return groups, err
}

func printGroups(w io.Writer, groups []letterGroup, now time.Time) error {
	var rows []string
	all, unreadable := 0, 0
	for _, g := range groups {
		all += g.Count
		if g.Reason == unreadableReason {
			unreadable = g.Count
		}
		rows = append(rows, strings.Join([]string{strconv.Itoa(g.Count), g.Reason, pathOf(g.Gateway), orDash(&g.Phase), age(g.Oldest, now), age(g.Newest, now)}, "\t"))
	}
	if len(rows) > 0 {
		if err := printTable(w, "COUNT\tREASON\tGATEWAY\tPHASE\tOLDEST\tNEWEST", rows); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, several(all, "dead letter"))
	if unreadable > 0 {
		fmt.Fprintln(w, unreadableAdvice)
	}
	return nil
}

type eachOptions struct {
	oldest, reveal, asJSON bool
	limit                  int
}

// listed is a dead letter as it is printed: with its body, masked or not.
type listed struct {
	consumer.DeadLetter
	Body json.RawMessage `json:"body"`
}

// listEach keeps no more than the limit in hand, however many there are.
func listEach(cmd *cobra.Command, s *store.Store, letters *consumer.DeadLetters, filter consumer.DeadLetterFilter, o eachOptions) error {
	var kept []listed
	more := false
	err := letters.Each(cmd.Context(), filter, func(l consumer.DeadLetter) error {
		if len(kept) == o.limit {
			more = true
			if o.oldest {
				return consumer.ErrStop
			}
			kept = append(kept[:0], kept[1:]...)
		}
		kept = append(kept, listed{l, shownBody(l, o.reveal)})
		return nil
	})
	if err != nil {
		return err
	}
	if !o.oldest {
		slices.Reverse(kept)
	}
	if more {
		which := "newest"
		if o.oldest {
			which = "oldest"
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "only the %s %d are listed; --limit lists more\n", which, o.limit)
	}
	if o.reveal {
		if err := auditReveal(cmd, s, kept); err != nil {
			return err
		}
	}
	if o.asJSON {
		return printJSON(cmd.OutOrStdout(), append([]listed{}, kept...))
	}
	return printLetters(cmd.OutOrStdout(), kept, o.reveal, time.Now())
}

// auditReveal is called before anything is shown.
func auditReveal(cmd *cobra.Command, s *store.Store, revealed []listed) error {
	for _, l := range revealed {
		err := s.Audit(cmd.Context(), store.AuditEntry{
			Who: operator(), Verb: "reveal", ProviderID: l.ProviderID, ActionID: given(l.ActionID), Relay: given(l.Gateway),
			Detail: fmt.Sprintf("dead letter %d", l.SequenceNumber),
		})
		if err != nil {
			return fmt.Errorf("nothing is shown that cannot be audited: %w", err)
		}
	}
	return nil
}

func printLetters(w io.Writer, list []listed, reveal bool, now time.Time) error {
	var rows []string
	unreadable := false
	for _, l := range list {
		reason := l.Reason
		if l.Unreadable {
			reason, unreadable = unreadableReason, true
		}
		rows = append(rows, strings.Join([]string{strconv.FormatInt(l.SequenceNumber, 10), age(l.DeadLetteredAt, now), orDash(&l.AccessionNumber), reason, pathOf(l.Gateway)}, "\t"))
		if reveal {
			rows = append(rows, string(l.Body))
		}
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "no dead letters")
		return err
	}
	err := printTable(w, "SEQUENCE\tAGE\tACCESSION\tREASON\tGATEWAY", rows)
	if unreadable {
		fmt.Fprintln(w, unreadableAdvice)
	}
	return err
}

func dlqCountCommand() *cobra.Command {
	var chosen selection
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "count",
		Short: "Count dead letters",
		Args:  cobra.NoArgs,
		RunE: withQueue(func(cmd *cobra.Command, _ []string, _ *store.Store, letters *consumer.DeadLetters) error {
			filter, err := chosen.of(nil)
			if err != nil {
				return err
			}
			var n struct {
				Count      int `json:"count"`
				Unreadable int `json:"unreadable"` // among them
			}
			err = letters.Each(cmd.Context(), filter, func(l consumer.DeadLetter) error {
				n.Count++
				if l.Unreadable {
					n.Unreadable++
				}
				return nil
			})
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), n)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), n.Count)
			return err
		}),
	}
	chosen.flags(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}
