package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

// shown is the document of actions show --json.
type shown struct {
	Summary  string             `json:"summary"`
	Action   store.Action       `json:"action"`
	Timeline []event            `json:"timeline"`
	Attempts []store.Attempt    `json:"attempts"`
	Audit    []store.AuditEntry `json:"audit"`
}

// event is one line of a timeline.
type event struct {
	At   time.Time `json:"at"`
	What string    `json:"what"`
}

func actionsShowCommand() *cobra.Command {
	var provider string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show ACTION",
		Short: "Show where one action is and why, with all that happened to it",
		Long: "show says in one line where the action is and why, and then all that happened to it: every\n" +
			"try at the gateway with how long each step took, what people did, and when the next try\n" +
			"is due. Times are local; --json has them in UTC.",
		Args: oneAction("show"),
		RunE: withStore(func(cmd *cobra.Command, args []string, _ config, s *store.Store) error {
			action, attempts, audit, err := findAction(cmd, s, provider, args[0])
			if err != nil {
				return err
			}
			now := time.Now()
			doc := shown{summary(action, attempts, now), action, timeline(action, attempts, audit, now), attempts, audit}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), doc)
			}
			return printAction(cmd.OutOrStdout(), doc)
		}),
	}
	cmd.Flags().StringVar(&provider, "provider", "", "only if it is this provider's")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func oneAction(verb string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usage("actions %s needs one action id", verb)
		}
		return nil
	}
}

// findAction looks an action up, and says what it may mean that there is none.
func findAction(cmd *cobra.Command, s *store.Store, provider, id string) (store.Action, []store.Attempt, []store.AuditEntry, error) {
	action, attempts, audit, err := s.Action(cmd.Context(), provider, id)
	switch {
	case errors.Is(err, store.ErrNoAction) && provider != "":
		err = fmt.Errorf("no action %s of provider %s", id, provider)
	case errors.Is(err, store.ErrNoAction):
		err = fmt.Errorf("no action %s: it was never received, or its id could not be read; `dlq show %s` looks among the dead letters", id, id)
	}
	return action, attempts, audit, err
}

// summary is where the action is and why, in one line.
func summary(a store.Action, attempts []store.Attempt, now time.Time) string {
	why := failureOf(a)
	switch a.Status {
	case store.Confirmed:
		s := "confirmed by the gateway"
		switch {
		case a.Relay == nil:
			s = "confirmed by an operator"
		case a.Duplicate:
			s += ", which had it from an earlier try"
		}
		return s + " at " + at(a.ConfirmedAt)
	case store.Failed:
		s := "failed"
		if a.Reason != nil {
			s += ", " + *a.Reason
		}
		return s + why + "; nothing is tried any more"
	}
	s := "waiting, certainly not at the gateway"
	if a.Status == store.Sent {
		s = "waiting, may be at the gateway"
	}
	return s + why + "; " + nextTry(a, now)
}

// failureOf is what went wrong last, with its phase.
func failureOf(a store.Action) string {
	switch {
	case a.LastPhase != nil && a.LastError != nil:
		return ": " + *a.LastPhase + ": " + *a.LastError
	case a.LastPhase != nil || a.LastError != nil:
		return ": " + cmp.Or(orEmpty(a.LastPhase), orEmpty(a.LastError))
	}
	return ""
}

// nextTry is when and how an open action is to move.
func nextTry(a store.Action, now time.Time) string {
	due := a.NextTry()
	switch late := now.Sub(due); {
	case a.ClaimedUntil != nil && late < 0:
		return "a try is under way"
	case a.NextRetryAt != nil && late < 0:
		return "next try " + at(&due)
	case late < time.Minute:
		return "next try now"
	default:
		return "its next try was due " + at(&due) + ": is the service up?"
	}
}

// timeline puts what is known of an action in order.
func timeline(a store.Action, attempts []store.Attempt, audit []store.AuditEntry, now time.Time) []event {
	events := []event{{a.EnqueuedAt, "enqueued"}, {a.ReceivedAt, "received"}}
	add := func(at *time.Time, what string) {
		if at != nil {
			events = append(events, event{*at, what})
		}
	}
	for _, t := range attempts {
		add(&t.StartedAt, attemptText(t))
	}
	for _, e := range audit {
		add(&e.At, auditText(e))
	}
	if a.ClaimedUntil != nil {
		text := fmt.Sprintf("attempt %d began", a.Attempt)
		if a.AttemptSentAt != nil {
			text += ", sent to " + orDash(a.AttemptRelay)
		}
		add(a.AttemptStartedAt, text+fmt.Sprintf("; its claim ends %s", at(a.ClaimedUntil)))
	}
	add(a.ConfirmedAt, "recorded as confirmed"+settlement(a))
	add(a.FailedAt, "recorded as failed, "+orDash(a.Reason)+settlement(a))
	slices.SortStableFunc(events, func(x, y event) int { return x.At.Compare(y.At) })
	if a.Status == store.Pending || a.Status == store.Sent {
		due := a.NextTry()
		text := fmt.Sprintf("%s (%s, %s so far)", nextTry(a, now), orDash((*string)(a.Settlement)), several(a.RetryCount, "retry"))
		if a.PostponeCount > 0 {
			text += fmt.Sprintf(", postponed %s", several(a.PostponeCount, "time"))
		}
		add(&due, text)
	}
	return events
}

// settlement is what became of the message, or is to.
func settlement(a store.Action) string {
	switch {
	case a.Settlement == nil:
		return ""
	case *a.Settlement == store.Complete:
		return "; message completed"
	case *a.Settlement == store.DeadLetter:
		return "; message dead-lettered"
	}
	return ""
}

// attemptText is one attempt with its steps.
func attemptText(t store.Attempt) string {
	var steps []string
	if t.Reused {
		steps = append(steps, "reused connection")
	}
	for _, step := range []struct {
		name string
		us   int64
	}{{"dns", t.DNSUs}, {"connect", t.ConnectUs}, {"tls", t.TLSUs}, {"handshake", t.HandshakeUs}, {"ack", t.AckUs}} {
		if step.us > 0 {
			steps = append(steps, step.name+" "+briefTime(time.Duration(step.us)*time.Microsecond))
		}
	}
	text := fmt.Sprintf("attempt %d at %s", t.Attempt, orDash(t.Relay))
	if len(steps) > 0 {
		text += " (" + strings.Join(steps, ", ") + ")"
	}
	text += ": " + t.Result
	if t.Phase != nil {
		text += ", " + *t.Phase
	}
	if t.Error != nil {
		text += ": " + *t.Error
	}
	if t.Sent == store.SentMaybe {
		text += "; it may have arrived"
	}
	return text + "; took " + briefTime(t.EndedAt.Sub(t.StartedAt))
}

func auditText(e store.AuditEntry) string {
	text := e.Verb + " by " + e.Who
	if e.Why != "" {
		text += ": " + e.Why
	}
	if e.Detail != "" {
		text += " (" + e.Detail + ")"
	}
	return text
}

// briefTime is a duration with as many digits as a person reads.
func briefTime(d time.Duration) string {
	switch {
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%dms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1fms", float64(d.Microseconds())/1000)
}

func printAction(w io.Writer, s shown) error {
	a := s.Action
	fmt.Fprintf(w, "%s  %s\n", a.ActionID, a.ActionType)
	fmt.Fprintf(w, "provider %s, setting %s, accession number %s, %s\n", a.ProviderID, orDash(a.SettingID), orDash(&a.AccessionNumber), several(a.Attempts, "try"))
	fmt.Fprintf(w, "gateway %s\n", orDash(a.Relay))
	fmt.Fprintln(w, hanging("", s.Summary))
	if a.Status != store.Confirmed && a.LastPhase != nil {
		if advice, known := phases[relay.Phase(*a.LastPhase)]; known {
			fmt.Fprintln(w, hanging("", advice.Meaning+" "+advice.Todo))
		}
	}
	fmt.Fprintln(w)
	for _, e := range s.Timeline {
		fmt.Fprintln(w, hanging(at(&e.At)+"  ", e.What))
	}
	return nil
}
