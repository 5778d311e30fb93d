package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/store"
)

func actionsCommand() *cobra.Command {
	return group("actions", "Show what became of actions", actionsListCommand(), actionsShowCommand())
}

func actionsListCommand() *cobra.Command {
	var filter store.ActionFilter
	var status string
	var older, newer time.Duration
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
			if filter.Limit < 1 || older < 0 || newer < 0 {
				return usage("--limit must be above 0, --older-than and --newer-than not below")
			}
			return nil
		},
		RunE: withStore(func(cmd *cobra.Command, _ []string, _ config, s *store.Store) error {
			now := time.Now()
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
			return printActions(cmd.OutOrStdout(), actions)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&filter.ProviderID, "provider", "", "only this provider's")
	f.StringVar(&status, "status", "", "only pending, sent, confirmed or failed")
	f.StringVar(&filter.Relay, "gateway", "", "only those last tried at this hybrid connection (path, or namespace/path)")
	f.StringVar(&filter.AccessionNumber, "accession", "", "only this accession number")
	f.DurationVar(&older, "older-than", 0, "only those received longer ago than this, such as 1h")
	f.DurationVar(&newer, "newer-than", 0, "only those received since, such as 1h")
	f.IntVar(&filter.Limit, "limit", 100, "at most so many")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func printActions(w io.Writer, actions []store.Action) error {
	var rows []string
	for _, a := range actions {
		rows = append(rows, strings.Join([]string{
			a.ActionID, a.ProviderID, string(a.Status), strconv.Itoa(a.Attempts), orDash(firstOf(a.Reason, a.LastPhase)), at(&a.ReceivedAt),
		}, "\t"))
	}
	return printTable(w, "ACTION\tPROVIDER\tSTATUS\tTRIES\tREASON\tRECEIVED", rows)
}

func firstOf(texts ...*string) *string {
	for _, t := range texts {
		if t != nil && *t != "" {
			return t
		}
	}
	return nil
}

// shown is the document of actions show --json.
type shown struct {
	Action   store.Action       `json:"action"`
	Attempts []store.Attempt    `json:"attempts"`
	Audit    []store.AuditEntry `json:"audit"`
}

func actionsShowCommand() *cobra.Command {
	var provider string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show ACTION",
		Short: "Show one action with its attempts",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("actions show needs one action id")
			}
			return nil
		},
		RunE: withStore(func(cmd *cobra.Command, args []string, _ config, s *store.Store) error {
			action, attempts, audit, err := s.Action(cmd.Context(), provider, args[0])
			if errors.Is(err, store.ErrNoAction) && provider != "" {
				return fmt.Errorf("no action %s of provider %s", args[0], provider)
			}
			if errors.Is(err, store.ErrNoAction) {
				return fmt.Errorf("no action %s: it was never received, or its id could not be read", args[0])
			}
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), shown{action, attempts, audit})
			}
			return printAction(cmd.OutOrStdout(), shown{action, attempts, audit})
		}),
	}
	cmd.Flags().StringVar(&provider, "provider", "", "only if it is this provider's")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func printAction(w io.Writer, s shown) error {
	a := s.Action
	lines := [][2]string{
		{"action", a.ActionID}, {"type", a.ActionType},
		{"provider", a.ProviderID}, {"setting", orDash(a.SettingID)}, {"accession number", orDash(&a.AccessionNumber)},
		{"gateway", orDash(a.Relay)}, {"status", string(a.Status)}, {"reason", orDash(a.Reason)},
		{"last phase", orDash(a.LastPhase)}, {"last error", orDash(a.LastError)},
		{"tries", strconv.Itoa(a.Attempts)}, {"next try", at(a.NextRetryAt)},
		{"enqueued", at(&a.EnqueuedAt)}, {"received", at(&a.ReceivedAt)}, {"first sent", at(a.SentAt)},
		{"confirmed", at(a.ConfirmedAt)}, {"failed", at(a.FailedAt)},
	}
	var rows []string
	for _, line := range lines[1:] {
		rows = append(rows, line[0]+"\t"+line[1])
	}
	if err := printTable(w, lines[0][0]+"\t"+lines[0][1], rows); err != nil {
		return err
	}
	if len(s.Attempts) > 0 {
		rows = nil
		for _, t := range s.Attempts {
			rows = append(rows, strings.Join([]string{
				strconv.Itoa(t.Attempt), at(&t.StartedAt), t.EndedAt.Sub(t.StartedAt).Round(time.Millisecond).String(),
				t.Sent, t.Result, orDash(t.Phase), orDash(t.Error),
			}, "\t"))
		}
		fmt.Fprintln(w)
		if err := printTable(w, "ATTEMPT\tSTARTED\tTOOK\tSENT\tRESULT\tPHASE\tERROR", rows); err != nil {
			return err
		}
	}
	if len(s.Audit) == 0 {
		return nil
	}
	rows = nil
	for _, e := range s.Audit {
		rows = append(rows, strings.Join([]string{at(&e.At), e.Who, e.Verb, e.Why, e.Detail}, "\t"))
	}
	fmt.Fprintln(w)
	return printTable(w, "AT\tWHO\tDID\tWHY\tDETAIL", rows)
}
