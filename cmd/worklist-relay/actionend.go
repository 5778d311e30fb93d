package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/store"
)

func actionsResolveCommand() *cobra.Command {
	var provider, why string
	var confirmed, failed bool
	cmd := &cobra.Command{
		Use:   "resolve ACTION --confirmed|--failed --why TEXT",
		Short: "End an action as a person found it to be",
		Long: "resolve is for what the program may not guess: an AccessionConflict, an OutcomeAmbiguous,\n" +
			"a stranded action. Look at the gateway first. --confirmed says that the gateway has it as\n" +
			"it was sent, --failed that it has not and nothing more is to be tried. Your name and the\n" +
			"reason are kept, and the action's dead letters are removed. A confirmed action is never\n" +
			"changed.\n\n" +
			"Exit codes: 0 done, 4 refused; others as always.",
		Args: oneAction("resolve"),
		RunE: withQueue(func(cmd *cobra.Command, args []string, s *store.Store, letters *consumer.DeadLetters) error {
			as := store.Failed
			if confirmed {
				as = store.Confirmed
			}
			a, _, _, err := findAction(cmd, s, provider, args[0])
			if err != nil {
				return err
			}
			if err := refusal(s.Resolve(cmd.Context(), a.ProviderID, a.ActionID, as, store.By{Who: operator(), Why: why})); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "action %s: %s, now %s\n", a.ActionID, a.Status, as)
			return removeLetters(cmd, letters, a)
		}),
	}
	f := cmd.Flags()
	f.BoolVar(&confirmed, "confirmed", false, "the gateway has it as it was sent")
	f.BoolVar(&failed, "failed", false, "the gateway has it not, and nothing more is to be tried")
	f.StringVar(&why, "why", "", "reason, for the audit (required); no participant's details")
	f.StringVar(&provider, "provider", "", "only if it is this provider's")
	require(cmd, "why")
	cmd.MarkFlagsMutuallyExclusive("confirmed", "failed")
	cmd.MarkFlagsOneRequired("confirmed", "failed")
	return cmd
}

// removeLetters completes the dead letters of an action that has ended. One that
// is a conflict has other content under the same id, which nobody has judged.
func removeLetters(cmd *cobra.Command, letters *consumer.DeadLetters, a store.Action) error {
	var sequences []int64
	err := letters.Each(cmd.Context(), consumer.DeadLetterFilter{ActionID: a.ActionID, ProviderID: a.ProviderID}, func(l consumer.DeadLetter) error {
		if l.Reason != string(consumer.ReasonActionConflict) {
			sequences = append(sequences, l.SequenceNumber)
		}
		return nil
	})
	if err != nil || len(sequences) == 0 {
		return err
	}
	n, err := letters.Remove(cmd.Context(), sequences)
	if err != nil {
		return fmt.Errorf("its dead letters were not removed, `dlq discard` does: %w", err)
	}
	if n < len(sequences) {
		return failure{exitRefused, fmt.Errorf("%d of %s not removed, somebody else works on it: `dlq discard` removes it later", len(sequences)-n, several(len(sequences), "dead letter"))}
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s removed\n", several(n, "dead letter"))
	return nil
}

func actionsWithdrawCommand() *cobra.Command {
	var provider, why string
	cmd := &cobra.Command{
		Use:   "withdraw ACTION --why TEXT",
		Short: "Call off an action that still waits",
		Long: "withdraw is for an action that is not wanted any more, such as that of a cancelled\n" +
			"appointment: it fails with the reason Withdrawn, and its message is completed without\n" +
			"sending when it comes next. It is refused where the action may be at the gateway: then\n" +
			"the item has to be taken away there, and `actions resolve` writes down that it was.\n\n" +
			"Exit codes: 0 done, 4 refused; others as always.",
		Args: oneAction("withdraw"),
		RunE: withStore(func(cmd *cobra.Command, args []string, _ config, s *store.Store) error {
			a, _, _, err := findAction(cmd, s, provider, args[0])
			if err != nil {
				return err
			}
			if err := refusal(s.Withdraw(cmd.Context(), a.ProviderID, a.ActionID, store.By{Who: operator(), Why: why})); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "action %s: %s, now withdrawn; nothing of it is sent any more\n", a.ActionID, a.Status)
			return err
		}),
	}
	cmd.Flags().StringVar(&why, "why", "", "reason, for the audit (required); no participant's details")
	cmd.Flags().StringVar(&provider, "provider", "", "only if it is this provider's")
	require(cmd, "why")
	return cmd
}

// refusal gives what the store refuses an operator the exit code 4, and says
// what helps.
func refusal(err error) error {
	for _, r := range []struct {
		is    error
		helps string
	}{
		{store.ErrConfirmed, "it is done, and nothing changes that"},
		{store.ErrClaimed, "wait until its try has ended, a minute or two, and do it again"},
		{store.ErrMayHaveArrived, "look at the gateway, then use `actions resolve`"},
		{store.ErrAccessionHeld, "the gateway holds the other action's item under this accession number"},
		{store.ErrEnded, "there is nothing to call off; `dlq discard` removes its dead letter"},
	} {
		if errors.Is(err, r.is) {
			return failure{exitRefused, fmt.Errorf("%w: %s", err, r.helps)}
		}
	}
	return err
}
