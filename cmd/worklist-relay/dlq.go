package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/store"
)

func dlqCommand() *cobra.Command {
	return group("dlq", "Look after the dead-letter queue",
		dlqListCommand(), dlqShowCommand(), dlqCountCommand(), dlqReplayCommand(), dlqDiscardCommand(), dlqExportCommand(), dlqReconcileCommand())
}

// withQueue makes a RunE of a function that needs the dead-letter queue and the database.
func withQueue(run func(cmd *cobra.Command, args []string, s *store.Store, letters *consumer.DeadLetters) error) func(*cobra.Command, []string) error {
	return doing(func(cmd *cobra.Command, args []string) error {
		c, err := readConfig(needQueue, needDatabase)
		if err != nil {
			return err
		}
		s, err := c.openStore(cmd.Context())
		if err != nil {
			return err
		}
		err = run(cmd, args, s, &consumer.DeadLetters{Connect: c.connect, Queue: c.ServiceBusQueue, Store: s, Clinic: c.clinic})
		var known failure
		if err != nil && !errors.As(err, &known) {
			err = errors.New(plainly(err))
		}
		return errors.Join(err, s.Close())
	})
}

// selection is the filter flags that the dlq commands share.
type selection struct {
	filter       consumer.DeadLetterFilter
	since, until moment
}

func (s *selection) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.filter.Reason, "reason", "", "only those with this reason, such as RetriesExhausted")
	f.StringVar(&s.filter.ProviderID, "provider", "", "only this provider's")
	f.StringVar(&s.filter.Gateway, "gateway", "", "only those for this hybrid connection (path, or namespace/path)")
	f.StringVar(&s.filter.ActionID, "action", "", "only this action's")
	f.StringVar(&s.filter.AccessionNumber, "accession", "", "only this accession number's")
	between(cmd, &s.since, &s.until, "that failed")
}

// olderThan adds the flag for what clears up: dead letters hold participants'
// details, and nothing else ever removes them.
func (s *selection) olderThan(cmd *cobra.Command) {
	cmd.Flags().Var(&s.until, "older-than", "only those that failed longer ago than this, such as 720h; the same as --until")
	cmd.MarkFlagsMutuallyExclusive("until", "older-than")
}

// of is the filter, with the action ids or sequence numbers that were named.
func (s *selection) of(args []string) (consumer.DeadLetterFilter, error) {
	for _, arg := range args {
		if _, err := strconv.ParseInt(arg, 10, 64); err != nil && !isActionID(arg) {
			return s.filter, usage("%q is neither an action id nor a sequence number", arg)
		}
	}
	if id := s.filter.ActionID; id != "" && !isActionID(id) {
		return s.filter, usage("--action %q is no action id", id)
	}
	f := s.filter
	f.Since, f.Until = s.since.Time, s.until.Time
	if len(args) > 0 {
		f.Only = args
	}
	return f, nil
}

// errNoLetter is a letter that was named and is not there.
var errNoLetter = errors.New("no such dead letter")

// missing tells of the letters that args name and that are not there: a typing
// mistake must not look like work done. It is an error if none of them is.
func missing(cmd *cobra.Command, letters *consumer.DeadLetters, args []string) error {
	if len(args) == 0 {
		return nil
	}
	there := map[string]bool{}
	err := letters.Each(cmd.Context(), consumer.DeadLetterFilter{Only: args}, func(l consumer.DeadLetter) error {
		there[strconv.FormatInt(l.SequenceNumber, 10)], there[l.ActionID] = true, true
		return nil
	})
	if err != nil {
		return err
	}
	var absent []string
	for _, arg := range args {
		if !there[strings.ToLower(arg)] {
			absent = append(absent, arg)
		}
	}
	if len(absent) == 0 {
		return nil
	}
	err = fmt.Errorf("%w: %s; `actions show` tells where an action is", errNoLetter, strings.Join(absent, ", "))
	if len(absent) < len(args) {
		fmt.Fprintln(cmd.ErrOrStderr(), err)
		return nil
	}
	return err
}

// any reports whether something was selected by hand.
func (s *selection) any(args []string) bool {
	f := s.filter
	return len(args) > 0 || f.Reason+f.ProviderID+f.Gateway+f.ActionID+f.AccessionNumber != "" || !s.since.IsZero() || !s.until.IsZero()
}

// whyFlag adds the reason that is audited. --reason is a filter here.
func whyFlag(cmd *cobra.Command, why *string) {
	cmd.Flags().StringVar(why, "reason-why", "", "why, for the audit (required; --why is the same); no participant's details")
	cmd.Flags().SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "why" {
			name = "reason-why"
		}
		return pflag.NormalizedName(name)
	})
	require(cmd, "reason-why")
}

func several(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if stem, ok := strings.CutSuffix(what, "ry"); ok {
		what = stem + "rie"
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// age is how long ago a moment was, for a narrow column.
func age(t, now time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero():
		return "-"
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

// pathOf is the hybrid connection's part of "namespace/path", cut to a column.
func pathOf(gateway string) string {
	const widest = 18
	_, path, _ := strings.Cut(gateway, "/")
	if path == "" {
		return "-"
	}
	return lastOf(path, widest)
}
