package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/store"
)

func dlqShowCommand() *cobra.Command {
	var reveal, asJSON bool
	var chosen selection
	cmd := &cobra.Command{
		Use:   "show ACTION|SEQUENCE",
		Short: "Show one dead letter, or all of one action",
		Long: "show prints what is known of a dead letter, and its body with a participant's details masked.\n" +
			"--reveal shows them and writes into the audit that you did.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("dlq show needs one action id or sequence number")
			}
			return nil
		},
		RunE: withQueue(func(cmd *cobra.Command, args []string, s *store.Store, letters *consumer.DeadLetters) error {
			filter, err := chosen.of(args)
			if err != nil {
				return err
			}
			found := []listed{}
			err = letters.Each(cmd.Context(), filter, func(l consumer.DeadLetter) error {
				found = append(found, listed{l, shownBody(l, reveal)})
				return nil
			})
			if err != nil {
				return err
			}
			if len(found) == 0 {
				return fmt.Errorf("%w: %s; `actions show` tells where an action is", errNoLetter, args[0])
			}
			if reveal {
				if err := auditReveal(cmd, s, found); err != nil {
					return err
				}
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), found)
			}
			for i, l := range found {
				if i > 0 {
					fmt.Fprintln(cmd.OutOrStdout())
				}
				printLetter(cmd.OutOrStdout(), l)
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&reveal, "reveal", false, "show the body unmasked, which is audited")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func printLetter(w io.Writer, l listed) {
	fmt.Fprintf(w, "dead letter %d\n", l.SequenceNumber)
	if l.Unreadable {
		fmt.Fprintln(w, unreadableAdvice)
		return
	}
	status := "not in SQL"
	if l.Action != nil {
		status = string(l.Action.Status)
	}
	lines := [][2]string{
		{"action", orDash(&l.ActionID) + "  " + l.ActionType},
		{"provider", orDash(&l.ProviderID) + ", setting " + orDash(l.SettingID)},
		{"accession", orDash(&l.AccessionNumber)},
		{"gateway", orDash(&l.Gateway)},
		{"reason", l.Reason},
		{"text", orDash(&l.Description)},
		{"phase", orDash(&l.Phase)},
		{"status", status},
		{"enqueued", at(&l.EnqueuedAt)},
		{"failed", at(&l.DeadLetteredAt)},
		{"replays", strconv.Itoa(l.Replays)},
	}
	if l.Fault != "" && l.Fault != l.Description {
		lines = append(lines, [2]string{"fault", l.Fault})
	}
	if help := helps[consumer.Reason(l.Reason)]; help != "" {
		lines = append(lines, [2]string{"to do", help})
	}
	for _, line := range lines {
		fmt.Fprintln(w, hanging(fmt.Sprintf("%-11s", line[0]), line[1]))
	}
	var pretty bytes.Buffer
	if json.Indent(&pretty, l.Body, "", "  ") != nil {
		pretty.Reset()
		pretty.Write(l.Body)
	}
	fmt.Fprintf(w, "body, %d bytes\n%s\n", l.Bytes, pretty.Bytes())
}

// unreadableAdvice is what to do about what no client of this kind reads.
const unreadableAdvice = "A property of an unreadable one has a type that no client of this kind reads.\n" +
	"Look at it and remove it in the Azure portal: Service Bus Explorer, dead letters."
