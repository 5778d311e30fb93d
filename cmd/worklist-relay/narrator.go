package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

// narrator tells of an action at some moment, with times as their reader has them.
type narrator struct {
	now time.Time
	at  func(*time.Time) string
}

// inUTC is a time as the JSON has it, to the second.
func inUTC(t *time.Time) string { return t.UTC().Format(time.RFC3339) }

// event is one line of a timeline.
type event struct {
	At   time.Time `json:"at"`
	What string    `json:"what"`
}

// summary is where the action is and why, in one line.
func (n narrator) summary(a store.Action, audit []store.AuditEntry) string {
	why := failureOf(a)
	switch a.Status {
	case store.Confirmed:
		s := "confirmed by the gateway"
		switch {
		case resolved(a, audit):
			s = "confirmed by an operator"
		case a.Duplicate:
			s += ", which had it from an earlier try"
		}
		return s + " at " + n.at(a.ConfirmedAt)
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
	return s + why + "; " + n.nextTry(a)
}

// resolved reports whether a person, not the gateway, confirmed the action. It
// may have been tried before.
func resolved(a store.Action, audit []store.AuditEntry) bool {
	return slices.ContainsFunc(audit, func(e store.AuditEntry) bool {
		return e.Verb == "resolve" && a.ConfirmedAt != nil && e.At.Equal(*a.ConfirmedAt)
	})
}

// failureOf is what went wrong last, with its phase. Where that says it all, the
// words are left to the timeline: the summary is to fit one line.
func failureOf(a store.Action) string {
	switch {
	case a.LastPhase != nil && *a.LastPhase != string(relay.PhaseAckError) && ofTheWire(orEmpty(a.LastError)):
		return ": " + *a.LastPhase
	case a.LastPhase != nil && strings.Contains(orEmpty(a.LastError), *a.LastPhase+": "):
		return ": " + *a.LastError
	case a.LastPhase != nil && a.LastError != nil:
		return ": " + *a.LastPhase + ": " + *a.LastError
	case a.LastPhase != nil || a.LastError != nil:
		return ": " + cmp.Or(orEmpty(a.LastPhase), orEmpty(a.LastError))
	}
	return ""
}

// ofTheWire reports whether an error says in other words what its phase does.
func ofTheWire(text string) bool {
	for _, verb := range []string{"connect ", "exchange ", "last phase "} {
		if strings.HasPrefix(text, verb) {
			return true
		}
	}
	return false
}

// nextTry is when and how an open action is to move.
func (n narrator) nextTry(a store.Action) string {
	due := a.NextTry()
	switch late := n.now.Sub(due); {
	case a.ClaimedUntil != nil && late < 0:
		return "a try is under way"
	case a.NextRetryAt != nil && late < 0:
		return "next try " + n.at(&due)
	case late < time.Minute:
		return "next try now"
	default:
		return "its next try was due " + n.at(&due) + ": is the service up?"
	}
}

// timeline puts what is known of an action in order.
func (n narrator) timeline(a store.Action, attempts []store.Attempt, audit []store.AuditEntry) []event {
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
		add(a.AttemptStartedAt, text+fmt.Sprintf("; its claim ends %s", n.at(a.ClaimedUntil)))
	}
	add(a.ConfirmedAt, "recorded as confirmed"+settlement(a))
	add(a.FailedAt, "recorded as failed, "+orDash(a.Reason)+settlement(a))
	slices.SortStableFunc(events, func(x, y event) int { return x.At.Compare(y.At) })
	if a.Status == store.Pending || a.Status == store.Sent {
		due := a.NextTry()
		text := fmt.Sprintf("%s (%s, %s so far)", n.nextTry(a), orDash((*string)(a.Settlement)), several(a.RetryCount, "retry"))
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
	if t.Phase != nil && !strings.Contains(orEmpty(t.Error), *t.Phase+": ") {
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
