package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

const enqueueHelp = `enqueue reads one action a line, from FILE or from standard input:

  {"provider_id":"leeds","setting_id":null,"action":{"action_id":"...",...}}

All lines are checked first; if one is wrong, nothing is sent and every fault is
reported with its line. The ids of what was sent are printed. Sending the same file
again is harmless: an action that is known is not forwarded twice.

No database is needed. Where DATABASE_URL is set, the actions are looked up there
before they are sent, to tell how many are known already.

With --new, one action is made of flags instead, and its id and accession number are
printed; --print shows the line and sends nothing. Other users of the machine see
flags in the list of processes, and the shell keeps them in its history: for a real
participant, write a file that only you can read.`

// enqueueFlags are what enqueue was told.
type enqueueFlags struct {
	asJSON, dryRun, isNew bool
	made                  newAction
}

func enqueueCommand() *cobra.Command {
	var f enqueueFlags
	cmd := &cobra.Command{
		Use:   "enqueue [FILE|-]",
		Short: "Put actions into the queue, one JSON object a line",
		Long:  enqueueHelp,
		Args: func(cmd *cobra.Command, args []string) error {
			if f.isNew && len(args) > 0 {
				// It may be a part of a name that was not quoted: it is not repeated.
				return usage("enqueue --new takes no FILE; put quotes around a value that holds a space")
			}
			return cobra.MaximumNArgs(1)(cmd, args)
		},
		RunE: doing(func(cmd *cobra.Command, args []string) error {
			if err := f.made.checkUse(cmd.Flags(), f.isNew); err != nil {
				return err
			}
			if f.made.print {
				return f.made.printLine(cmd.OutOrStdout())
			}
			return f.run(cmd, args)
		}),
	}
	cmd.Flags().SortFlags = false
	jsonFlag(cmd, &f.asJSON)
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "check all and tell how many would go to which gateway, but send nothing")
	cmd.Flags().BoolVar(&f.isNew, "new", false, "make one action of the flags below")
	f.made.define(cmd.Flags())
	cmd.MarkFlagsMutuallyExclusive("print", "dry-run")
	cmd.MarkFlagsMutuallyExclusive("print", "json")
	return cmd
}

func (f enqueueFlags) run(cmd *cobra.Command, args []string) error {
	needs := []need{needQueue}
	if f.dryRun {
		needs = nil
	}
	c, err := readConfig(needs...)
	if err != nil {
		return err
	}
	list, err := f.actions(cmd, args)
	if err != nil {
		return err
	}
	bySession(list)
	result := enqueued{Actions: list, DryRun: f.dryRun, unknown: c.lookUp(cmd.Context(), list)}
	warnOfConflicts(cmd.ErrOrStderr(), list)
	if !f.dryRun {
		if result.Actions, err = c.send(cmd, list); err != nil && f.isNew {
			err = fmt.Errorf("%w; to send this one again, add --action-id %s --accession %s", err, list[0].ActionID, list[0].AccessionNumber)
		}
	}
	return errors.Join(err, f.tell(cmd, result, err == nil))
}

func (f enqueueFlags) actions(cmd *cobra.Command, args []string) ([]queued, error) {
	if !f.isNew {
		return readActions(cmd, args)
	}
	q, err := f.made.queued()
	return []queued{q}, err
}

// enqueued is what became of the actions, as --json tells it.
type enqueued struct {
	Actions      []queued `json:"enqueued"`      // in a dry run what would be
	AlreadyKnown *int     `json:"already_known"` // nil: it cannot be told
	DryRun       bool     `json:"dry_run"`

	unknown error // why it cannot be told which are known
}

// tell prints what was sent, or would be; the closing line only when all is done.
func (f enqueueFlags) tell(cmd *cobra.Command, e enqueued, done bool) error {
	known := 0
	for _, q := range e.Actions {
		if q.known {
			known++
		}
	}
	if e.unknown == nil {
		e.AlreadyKnown = &known
	}
	if done {
		fmt.Fprintln(cmd.ErrOrStderr(), e.closing(known))
	}
	switch out := cmd.OutOrStdout(); {
	case f.asJSON:
		return printJSON(out, e)
	case f.dryRun:
		return printSessions(out, e)
	case f.isNew && len(e.Actions) == 1:
		return printTable(out, "ACTION\tACCESSION", []string{e.Actions[0].ActionID + "\t" + e.Actions[0].AccessionNumber})
	default:
		return printIDs(out, e.Actions)
	}
}

// closing is the one line that sums up.
func (e enqueued) closing(known int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d ", len(e.Actions))
	if e.DryRun {
		b.WriteString("would be ")
	}
	b.WriteString("enqueued")
	switch {
	case e.unknown == nil && known == 0:
		b.WriteString(", none of them known already")
	case e.unknown == nil:
		fmt.Fprintf(&b, ", %d of them known already (harmless)", known)
	case known > 0:
		fmt.Fprintf(&b, ", %d of them on earlier lines too (harmless)", known)
	}
	if e.unknown != nil {
		fmt.Fprintf(&b, "; how many were known already cannot be told: %v", e.unknown)
	}
	return b.String()
}

// printSessions tells how many actions go to which gateway, in the order of sending.
func printSessions(w io.Writer, e enqueued) error {
	var rows []string
	for rest := e.Actions; len(rest) > 0; {
		n, known := 0, 0
		for n < len(rest) && *rest[n].message.SessionID == *rest[0].message.SessionID {
			if rest[n].known {
				known++
			}
			n++
		}
		told := "-"
		if e.unknown == nil {
			told = fmt.Sprint(known)
		}
		first := rest[0]
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%d\t%s", first.ProviderID, orDash(first.SettingID), *first.message.SessionID, n, told))
		rest = rest[n:]
	}
	return printTable(w, "PROVIDER\tSETTING\tSESSION\tACTIONS\tKNOWN", rows)
}
