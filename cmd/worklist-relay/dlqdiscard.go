package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/store"
)

func dlqDiscardCommand() *cobra.Command {
	var chosen selection
	var yes, all, asJSON bool
	var why string
	cmd := &cobra.Command{
		Use:   "discard [ACTION|SEQUENCE ...] --reason-why TEXT",
		Short: "Remove dead letters for good",
		Long: "discard removes dead letters. It is a dry run unless --yes. What is removed can not be\n" +
			"replayed; the action stays failed in SQL, and the audit keeps your name and the reason.\n" +
			"Dead letters hold participants' details, and nothing removes old ones by itself:\n\n" +
			"  worklist-relay dlq discard --older-than 2160h --reason-why 'kept 90 days' --yes\n\n" +
			"Exit codes: 0 done, 4 something was left; others as always.",
		Args: cobra.ArbitraryArgs,
		RunE: withQueue(func(cmd *cobra.Command, args []string, _ *store.Store, letters *consumer.DeadLetters) error {
			filter, err := chosen.of(args)
			if err != nil {
				return err
			}
			if !all && !chosen.any(args) {
				return usage("dlq discard needs a selection: ids, a filter such as --older-than, or --all")
			}
			if err := missing(cmd, letters, args); err != nil {
				return err
			}
			if !yes {
				return wouldDiscard(cmd, letters, filter, asJSON)
			}
			report, err := letters.Discard(cmd.Context(), consumer.Discard{Filter: filter, By: store.By{Who: operator(), Why: why}})
			if err != nil {
				err = fmt.Errorf("%s discarded, then: %w", several(report.Discarded, "dead letter"), err)
			}
			if asJSON {
				return errors.Join(err, printJSON(cmd.OutOrStdout(), report), leftAny(report))
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "%s discarded\n", several(report.Discarded, "dead letter"))
			for _, skip := range report.Skips {
				fmt.Fprintln(out, hanging(fmt.Sprintf("  left %d: ", skip.Letter.SequenceNumber), skip.Why))
			}
			return errors.Join(err, leftAny(report))
		}),
	}
	chosen.flags(cmd)
	chosen.olderThan(cmd)
	whyFlag(cmd, &why)
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	cmd.Flags().BoolVar(&all, "all", false, "every dead letter")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func leftAny(report consumer.DiscardReport) error {
	switch {
	case report.Interrupted:
		return fmt.Errorf("interrupted: %s discarded; run it again to go on", several(report.Discarded, "dead letter"))
	case report.Skipped > 0:
		return failure{exitRefused, fmt.Errorf("%s left", several(report.Skipped, "dead letter"))}
	case report.NotReached > 0:
		return failure{exitRefused, fmt.Errorf("%s not reached: somebody else has them locked; run it again in some minutes", several(report.NotReached, "dead letter"))}
	}
	return nil
}

func wouldDiscard(cmd *cobra.Command, letters *consumer.DeadLetters, filter consumer.DeadLetterFilter, asJSON bool) error {
	would := struct {
		DryRun    bool    `json:"dry_run"`
		Count     int     `json:"count"`
		Sequences []int64 `json:"sequence_numbers"`
	}{DryRun: true, Sequences: []int64{}}
	err := letters.Each(cmd.Context(), filter, func(l consumer.DeadLetter) error {
		if l.Unreadable {
			return nil
		}
		would.Count++
		would.Sequences = append(would.Sequences, l.SequenceNumber)
		if !asJSON {
			fmt.Fprintf(cmd.OutOrStdout(), "would discard %d  %s  %s\n", l.SequenceNumber, orDash(&l.ActionID), l.Reason)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), would)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s would be discarded; nothing was done: --yes does it\n", several(would.Count, "dead letter"))
	return err
}
