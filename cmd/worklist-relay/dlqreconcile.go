package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/store"
)

func dlqReconcileCommand() *cobra.Command {
	var dryRun, asJSON bool
	cmd := &cobra.Command{
		Use:   "reconcile",
		Short: "Find what the broker gave up on its own, and what is stranded",
		Long: "reconcile looks through the dead-letter queue for messages that the broker gave up on\n" +
			"its own (too many deliveries, time to live over) and marks their actions failed in SQL,\n" +
			"with the broker's reason. An action whose next message is still expected is left alone.\n" +
			"It then lists the actions that should have moved more than 15 minutes ago and did not:\n" +
			"they are stranded, or the service is down. It settles no message and changes nothing\n" +
			"else. run does the same every RECONCILE_INTERVAL.\n\n" +
			"Exit codes: 0 done, 4 done and something is stranded or unreadable; others as always.",
		Args: cobra.NoArgs,
		RunE: doing(func(cmd *cobra.Command, _ []string) error {
			c, err := readConfig(needQueue, needDatabase)
			if err != nil {
				return err
			}
			s, err := c.openStore(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			r, err := c.reconciler(s, nil)
			if err != nil {
				return err
			}
			r.DryRun = dryRun
			found, err := r.Reconcile(cmd.Context())
			if err != nil {
				return errors.New(plainly(err))
			}
			show := func() error { return printReconciliation(cmd.OutOrStdout(), c.ServiceBusQueue, found) }
			if asJSON {
				show = func() error { return printJSON(cmd.OutOrStdout(), found) }
			}
			return errors.Join(show(), needsAPerson(found))
		}),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be marked failed, and change nothing")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// needsAPerson is the error that makes the exit code 4; nil where all is well.
func needsAPerson(found consumer.Reconciliation) error {
	var faults []string
	if n := found.Unreadable.Count; n > 0 {
		faults = append(faults, several(n, "dead letter")+" cannot be read")
	}
	if n := found.Stranded.Count; n > 0 {
		faults = append(faults, several(n, "action")+" stranded")
	}
	if len(faults) == 0 {
		return nil
	}
	return failure{exitRefused, errors.New(strings.Join(faults, ", "))}
}

// printReconciliation is for somebody who was woken up: 80 columns, counts
// first, nothing that is zero, and what helps beside what is wrong.
func printReconciliation(w io.Writer, queue string, found consumer.Reconciliation) error {
	fmt.Fprintf(w, "%s looked at\n", several(found.LookedAt, "dead letter"))
	marked := "given up by the broker; the action is failed now"
	if found.DryRun {
		marked = "given up by the broker; the action would be failed"
	}
	for _, line := range []struct {
		n    int
		text string
	}{
		{found.Own, "dead-lettered by this service, with the reason in SQL"},
		{found.MarkedFailed.Count, marked},
		{found.EndedBefore, "given up by the broker; the action had ended before"},
		{found.StillAlive, "given up by the broker; another message of the action is due"},
		{found.OfNoAction, "given up by the broker; belongs to no action of ours"},
		{found.Unreadable.Count, "cannot be read"},
	} {
		if line.n > 0 {
			fmt.Fprintf(w, "%6d  %s\n", line.n, line.text)
		}
	}
	switch {
	case found.Counts != nil:
		fmt.Fprintf(w, "queue %s: %d active, %d scheduled, %d dead-lettered\n", queue, found.Counts.Active, found.Counts.Scheduled, found.Counts.DeadLettered)
	case found.CountsUnknown != "":
		fmt.Fprintf(w, "queue %s: counts not known: %s\n", queue, found.CountsUnknown)
	}
	return errors.Join(printMarked(w, found), printUnreadable(w, found), printStranded(w, found))
}

func printMarked(w io.Writer, found consumer.Reconciliation) error {
	if found.MarkedFailed.Count == 0 {
		return nil
	}
	head := "failed"
	if found.DryRun {
		head = "would be failed"
	}
	fmt.Fprintf(w, "\n%s%s:\n", head, firstOnly(found.MarkedFailed.Count, len(found.MarkedFailed.First)))
	var rows []string
	for _, m := range found.MarkedFailed.First {
		rows = append(rows, strings.Join([]string{m.ActionID, orDash(&m.ProviderID), m.Reason}, "\t"))
	}
	return printTable(w, "ACTION\tPROVIDER\tREASON", rows)
}

func printUnreadable(w io.Writer, found consumer.Reconciliation) error {
	if found.Unreadable.Count == 0 {
		return nil
	}
	fmt.Fprintf(w, "\ncannot be read%s, by sequence number:\n", firstOnly(found.Unreadable.Count, len(found.Unreadable.First)))
	for _, n := range found.Unreadable.First {
		fmt.Fprintf(w, "%d\n", n)
	}
	_, err := fmt.Fprintln(w, "A property of theirs has a type that no client of this kind reads. Look at them\nand remove them in the Azure portal: Service Bus Explorer, dead-letter queue.")
	return err
}

func printStranded(w io.Writer, found consumer.Reconciliation) error {
	if found.Stranded.Count == 0 {
		return nil
	}
	fmt.Fprintf(w, "\nstranded%s:\n", firstOnly(found.Stranded.Count, len(found.Stranded.First)))
	var rows []string
	for _, a := range found.Stranded.First {
		due := a.NextTry()
		rows = append(rows, strings.Join([]string{a.ActionID, a.ProviderID, string(a.Status), at(&due)}, "\t"))
	}
	if err := printTable(w, "ACTION\tPROVIDER\tSTATUS\tWAS DUE", rows); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "Is the service up? If it is, and the queue holds no message of theirs, ask the\nproducer to send them again with the same ids, which is safe.")
	return err
}

// firstOnly says that a list was cut.
func firstOnly(all, listed int) string {
	if listed == all {
		return ""
	}
	return fmt.Sprintf(" (%d of %d)", listed, all)
}

// reconciler holds the queue against s.
func (c config) reconciler(s *store.Store, log *slog.Logger) (*consumer.Reconciler, error) {
	counts, err := c.counts()
	if err != nil {
		return nil, failure{exitConfig, err}
	}
	return &consumer.Reconciler{Connect: c.connect, Queue: c.ServiceBusQueue, Store: s, Counts: counts, Log: log}, nil
}

// startReconciling reconciles every RECONCILE_INTERVAL until stop is called,
// which waits for it.
func (c config) startReconciling(ctx context.Context, r *consumer.Reconciler) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx, c.ReconcileInterval) })
	return func() {
		cancel()
		running.Wait()
	}
}
