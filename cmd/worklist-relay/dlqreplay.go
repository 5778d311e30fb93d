package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/store"
)

func dlqReplayCommand() *cobra.Command {
	var chosen selection
	var yes, asJSON bool
	var with string
	var r consumer.Replay
	cmd := &cobra.Command{
		Use:   "replay [ACTION|SEQUENCE ...] --reason-why TEXT",
		Short: "Send dead letters again",
		Long: "replay sends dead letters again, as copies, and removes them. It is a dry run unless --yes,\n" +
			"and prints exactly what would be done. Of each gateway the first --canary are sent and must\n" +
			"be confirmed before the rest follows; where a canary fails the rest stays where it is. An\n" +
			"action starts its retries anew; what is known of its earlier tries stays. Ctrl-C stops\n" +
			"between two messages, and running it again goes on from there.\n\n" +
			"What SQL says is confirmed is refused. With --force its copy is sent all the same, and SQL\n" +
			"answers it: nothing goes to a gateway twice.\n\n" +
			"--with FILE puts mended bodies in place of those that were invalid: `dlq export --reveal`\n" +
			"them, mend the file, and replay with it. That is refused where an earlier try may have\n" +
			"arrived: then a new action is needed, with a new id and accession number.\n\n" +
			"Exit codes: 0 done, 4 something was refused or not sent; others as always.",
		Args: cobra.ArbitraryArgs,
		PreRunE: func(*cobra.Command, []string) error {
			switch {
			case r.Canary < 1:
				return usage("--canary must be above 0")
			case r.Rate < 0 || math.IsNaN(r.Rate) || math.IsInf(r.Rate, 0):
				return usage("--rate is no number of messages a second; 0 sets no limit")
			case r.CanaryWait <= 0:
				return usage("--canary-wait must be above 0")
			}
			return nil
		},
		RunE: withQueue(func(cmd *cobra.Command, args []string, _ *store.Store, letters *consumer.DeadLetters) error {
			var err error
			if r.Filter, err = chosen.of(args); err != nil {
				return err
			}
			r.By.Who = operator()
			if with != "" {
				if r.With, err = readMended(with); err != nil {
					return err
				}
			}
			if err := missing(cmd, letters, args); err != nil {
				return err
			}
			if !yes {
				return planReplay(cmd, letters, r, asJSON)
			}
			return replay(cmd, letters, r, asJSON)
		}),
	}
	chosen.flags(cmd)
	whyFlag(cmd, &r.By.Why)
	f := cmd.Flags()
	f.BoolVar(&yes, "yes", false, "do it")
	f.IntVar(&r.Canary, "canary", 1, "of each gateway so many are sent first, and must be confirmed")
	f.DurationVar(&r.CanaryWait, "canary-wait", 90*time.Second, "how long a canary may take")
	f.Float64Var(&r.Rate, "rate", 0, "messages a second at most; 0: no limit")
	f.BoolVar(&r.Force, "force", false, "also what SQL says is confirmed")
	f.StringVar(&with, "with", "", "file of mended bodies")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// planReplay is the dry run.
func planReplay(cmd *cobra.Command, letters *consumer.DeadLetters, r consumer.Replay, asJSON bool) error {
	plan, err := letters.Plan(cmd.Context(), r)
	if err != nil {
		return err
	}
	if asJSON {
		return errors.Join(printJSON(cmd.OutOrStdout(), plan), refusedAny(plan.Refused))
	}
	out := cmd.OutOrStdout()
	for _, item := range plan.Items {
		printItem(out, item)
	}
	printUnused(out, plan.Unused)
	fmt.Fprintf(out, "%s would be sent, %d refused", several(plan.Send, "message"), plan.Refused)
	if plan.Leftover > 0 {
		fmt.Fprintf(out, ", %s removed", several(plan.Leftover, "leftover"))
	}
	fmt.Fprintln(out, "; nothing was done: --yes does it")
	return refusedAny(plan.Refused)
}

// printUnused tells of mended bodies that no selected dead letter is for.
func printUnused(w io.Writer, keys []string) {
	if len(keys) > 0 {
		fmt.Fprintln(w, hanging("not used: ", "bodies for "+strings.Join(keys, ", ")+", which no selected dead letter is for"))
	}
}

func printItem(w io.Writer, item consumer.ReplayItem) {
	l := item.Letter
	text := strings.TrimSpace(l.ActionID + " " + item.Why)
	if item.Verdict == consumer.ReplaySend {
		text = fmt.Sprintf("%s to %s", l.ActionID, l.Route)
		var notes []string
		if item.Canary {
			notes = append(notes, "canary")
		}
		if item.Mended {
			notes = append(notes, "mended")
		}
		if len(notes) > 0 {
			text += " (" + strings.Join(notes, ", ") + ")"
		}
	}
	fmt.Fprintln(w, hanging(fmt.Sprintf("%-8s %d  ", item.Verdict, l.SequenceNumber), text))
}

func refusedAny(n int) error {
	if n == 0 {
		return nil
	}
	return failure{exitRefused, fmt.Errorf("%s refused", several(n, "dead letter"))}
}

func replay(cmd *cobra.Command, letters *consumer.DeadLetters, r consumer.Replay, asJSON bool) error {
	var bar *progress
	r.Progress = func(p consumer.ReplayProgress) {
		if bar == nil {
			bar = newProgress(cmd.ErrOrStderr(), p.Of, "replayed")
		}
		bar.at(p.Sent + p.Leftover)
	}
	report, err := letters.Replay(cmd.Context(), r)
	if bar != nil {
		bar.finish()
	}
	if asJSON {
		return errors.Join(err, printJSON(cmd.OutOrStdout(), report), leftOver(report))
	}
	printReplay(cmd.OutOrStdout(), report)
	return errors.Join(err, leftOver(report))
}

func printReplay(w io.Writer, report consumer.ReplayReport) {
	for _, item := range report.Refusals {
		printItem(w, item)
	}
	if more := report.Refused - len(report.Refusals); more > 0 {
		fmt.Fprintf(w, "... and %d more refused\n", more)
	}
	for _, route := range report.Routes {
		text := fmt.Sprintf("%d of %s sent", route.Sent, several(route.Selected, "message"))
		if route.Why != "" {
			text += "; " + route.Why
		}
		fmt.Fprintln(w, hanging(pathOf(route.Route)+": ", text))
	}
	printUnused(w, report.Unused)
	fmt.Fprintf(w, "%s sent", several(report.Sent, "message"))
	for _, count := range []struct {
		n    int
		what string
	}{{report.NotSent, "not sent"}, {report.Refused, "refused"}, {report.Leftover, "removed that had been replayed before"}, {report.Uncompleted, "not removed, which the next replay does"}, {report.NotReached, "not reached, somebody else has them locked"}} {
		if count.n > 0 {
			fmt.Fprintf(w, ", %d %s", count.n, count.what)
		}
	}
	fmt.Fprintln(w)
}

// leftOver is the error for what a replay did not do.
func leftOver(report consumer.ReplayReport) error {
	left := report.NotSent + report.NotReached
	stopped := 0
	for _, route := range report.Routes {
		if route.State == consumer.RouteStopped {
			stopped++
		}
	}
	switch {
	case report.Interrupted:
		return fmt.Errorf("interrupted: %s sent, %d left; run it again to go on", several(report.Sent, "message"), left)
	case left > 0:
		return failure{exitRefused, fmt.Errorf("%s not sent", several(left, "message"))}
	case stopped > 0:
		return failure{exitRefused, fmt.Errorf("%s did not confirm", several(stopped, "gateway"))}
	}
	return refusedAny(report.Refused)
}
