package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/store"
)

func actionsCommand() *cobra.Command {
	return group("actions", "Show what became of actions, and end what a person must end",
		actionsListCommand(), actionsShowCommand(), actionsResolveCommand(), actionsWithdrawCommand())
}

func actionsListCommand() *cobra.Command {
	var filter store.ActionFilter
	var status string
	var older, newer time.Duration
	var since, until moment
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List actions, newest first",
		Args:  cobra.NoArgs,
		PreRunE: func(*cobra.Command, []string) error {
			filter.Status = store.Status(status)
			switch filter.Status {
			case "", store.Pending, store.Sent, store.Confirmed, store.Failed:
			default:
				return usage("--status %q is none of pending, sent, confirmed, failed", status)
			}
			switch {
			case filter.Limit < 1:
				return usage("--limit must be above 0")
			case older < 0 || newer < 0:
				return usage("--older-than and --newer-than say how long ago, such as 1h")
			}
			return nil
		},
		RunE: withStore(func(cmd *cobra.Command, _ []string, _ config, s *store.Store) error {
			now := time.Now()
			filter.Since, filter.Until = since.Time, until.Time
			if older > 0 {
				filter.Until = now.Add(-older)
			}
			if newer > 0 {
				filter.Since = now.Add(-newer)
			}
			limit := filter.Limit
			filter.Limit++
			actions, err := s.Actions(cmd.Context(), filter)
			if err != nil {
				return err
			}
			if len(actions) > limit {
				actions = actions[:limit]
				fmt.Fprintf(cmd.ErrOrStderr(), "only the newest %d are listed; --limit lists more\n", limit)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), actions)
			}
			return printActions(cmd.OutOrStdout(), actions, now)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&filter.ProviderID, "provider", "", "only this provider's")
	f.StringVar(&status, "status", "", "only pending, sent, confirmed or failed")
	f.StringVar(&filter.Relay, "gateway", "", "only those last tried at this hybrid connection (path, or namespace/path)")
	f.StringVar(&filter.Reason, "reason", "", "only those that failed with this reason")
	f.StringVar(&filter.Phase, "phase", "", "only those whose latest failure was in this phase, such as no_listener")
	f.StringVar(&filter.AccessionNumber, "accession", "", "only this accession number")
	f.DurationVar(&older, "older-than", 0, "only those received longer ago than this, such as 1h")
	f.DurationVar(&newer, "newer-than", 0, "only those received since, such as 1h")
	between(cmd, &since, &until, "received")
	cmd.MarkFlagsMutuallyExclusive("since", "newer-than")
	cmd.MarkFlagsMutuallyExclusive("until", "older-than")
	f.IntVar(&filter.Limit, "limit", 100, "at most so many")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func printActions(w io.Writer, actions []store.Action, now time.Time) error {
	if len(actions) == 0 {
		_, err := fmt.Fprintln(w, "no actions")
		return err
	}
	var rows []string
	for _, a := range actions {
		rows = append(rows, strings.Join([]string{a.ActionID, string(a.Status), age(a.ReceivedAt, now), orDash(firstOf(a.Reason, a.LastPhase))}, "\t"))
	}
	return printTable(w, "ACTION\tSTATUS\tAGE\tREASON", rows)
}

func firstOf(texts ...*string) *string {
	for _, t := range texts {
		if t != nil && *t != "" {
			return t
		}
	}
	return nil
}
