package consumer

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

const here = "ns/leeds"

var (
	noon     = time.Date(2030, 5, 6, 12, 0, 0, 0, time.UTC)
	evidence = store.History{MaybeSent: 1, Unanswered: []string{here}}
)

// TestOutcomeOf is the policy as a table: what happened, and what becomes of
// the row and the message.
func TestOutcomeOf(t *testing.T) {
	t.Parallel()
	failed := func(phase relay.Phase, sent relay.Sent, code int, answered bool) error {
		return &relay.Error{Phase: phase, Sent: sent, Code: code, Answered: answered, Detail: "detail"}
	}
	ack := func(kind relay.AckKind) trial { return trial{create: true, ack: relay.Ack{Kind: kind, Text: "text"}} }
	err := func(err error) trial { return trial{create: true, err: err} }
	after := func(t trial, h store.History) trial { t.history = h; return t }
	update := func(t trial) trial { t.create = false; return t }
	four := store.History{MaybeSent: 4}

	const retry, complete, dead = store.Retry, store.Complete, store.DeadLetter
	const pending, sent, confirmed, failedStatus = store.Pending, store.Sent, store.Confirmed, store.Failed
	tests := []struct {
		name       string
		trial      trial
		settlement store.Settlement
		status     store.Status
		reason     Reason
		phase      relay.Phase
	}{
		{"created", ack(relay.AckDone), complete, confirmed, "", ""},
		{"exists, explained", after(ack(relay.AckExists), evidence), complete, confirmed, "", ""},
		{"exists, explained within the attempt", trial{create: true, ack: relay.Ack{Kind: relay.AckExists, Unanswered: true}}, complete, confirmed, "", ""},
		{"exists, unexplained", ack(relay.AckExists), dead, failedStatus, ReasonAccessionConflict, relay.PhaseAckError},
		{"exists, evidence elsewhere", after(ack(relay.AckExists), store.History{MaybeSent: 1, Unanswered: []string{"ns/hull"}}), dead, failedStatus, ReasonAccessionConflict, relay.PhaseAckError},
		{"exists, an answered attempt only", after(ack(relay.AckExists), store.History{MaybeSent: 1}), dead, failedStatus, ReasonAccessionConflict, relay.PhaseAckError},
		{"refused", ack(relay.AckRefused), dead, failedStatus, ReasonGatewayRejected, relay.PhaseAckError},
		{"busy", ack(relay.AckBusy), retry, sent, "", relay.PhaseAckError},
		{"busy, whatever the count", after(ack(relay.AckBusy), store.History{MaybeSent: 50}), retry, sent, "", relay.PhaseAckError},
		{"unknown error", ack(relay.AckUnknown), retry, sent, "", relay.PhaseAckError},
		{"unknown error, fifth", after(ack(relay.AckUnknown), four), dead, failedStatus, ReasonGatewayRejected, relay.PhaseAckError},
		{"not found", update(ack(relay.AckNotFound)), retry, sent, "", relay.PhaseAckError},
		{"not found, fifth", after(update(ack(relay.AckNotFound)), four), dead, failedStatus, ReasonItemNotFound, relay.PhaseAckError},
		{"not found, with evidence", after(update(ack(relay.AckNotFound)), evidence), dead, failedStatus, ReasonOutcomeAmbiguous, relay.PhaseAckError},
		{"an ack of no known kind", ack(0), retry, sent, "", relay.PhaseAckInvalid},

		{"no listener", err(failed(relay.PhaseNoListener, relay.SentNo, 404, false)), retry, pending, "", relay.PhaseNoListener},
		{"no listener, after one that may have arrived", after(err(failed(relay.PhaseNoListener, relay.SentNo, 404, false)), evidence), retry, sent, "", relay.PhaseNoListener},
		{"no listener, whatever the count", after(err(failed(relay.PhaseNoListener, relay.SentNo, 404, false)), store.History{MaybeSent: 50}), retry, sent, "", relay.PhaseNoListener},
		{"rejected", err(failed(relay.PhaseRejected, relay.SentNo, 400, false)), retry, pending, "", relay.PhaseRejected},
		{"rejected, fifth", after(err(failed(relay.PhaseRejected, relay.SentNo, 400, false)), store.History{Rejected: 4}), dead, failedStatus, ReasonListenerRejected, relay.PhaseRejected},
		{"write failed in part", err(failed(relay.PhaseSend, relay.SentNo, 0, false)), retry, pending, "", relay.PhaseSend},
		{"ack timeout", err(failed(relay.PhaseAckTimeout, relay.SentMaybe, 0, false)), retry, sent, "", relay.PhaseAckTimeout},
		{"ack timeout, fifth", after(err(failed(relay.PhaseAckTimeout, relay.SentMaybe, 0, false)), four), dead, failedStatus, ReasonRetriesExhausted, relay.PhaseAckTimeout},
		{"ack lost", err(failed(relay.PhaseAckLost, relay.SentMaybe, 1006, false)), retry, sent, "", relay.PhaseAckLost},
		{"closed without reply", err(failed(relay.PhaseAckClosed, relay.SentMaybe, 1000, true)), retry, sent, "", relay.PhaseAckClosed},
		{"closed without reply, fifth", after(err(failed(relay.PhaseAckClosed, relay.SentMaybe, 1000, true)), four), dead, failedStatus, ReasonClosedWithoutReply, relay.PhaseAckClosed},
		{"too large for the gateway", err(failed(relay.PhaseAckClosed, relay.SentNo, 1009, true)), dead, failedStatus, ReasonPayloadTooLarge, relay.PhaseAckClosed},
		{"ack invalid", err(failed(relay.PhaseAckInvalid, relay.SentMaybe, 0, true)), retry, sent, "", relay.PhaseAckInvalid},
		{"ack invalid, fifth", after(err(failed(relay.PhaseAckInvalid, relay.SentMaybe, 0, true)), four), dead, failedStatus, ReasonBadAck, relay.PhaseAckInvalid},
		{"an error of no known kind", err(errPlain("odd")), retry, sent, "", relay.PhaseAckLost},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.trial.now, test.trial.relay = noon, here
			o := outcomeOf(test.trial, RetryPolicy{})
			if o.settlement != test.settlement || o.status != test.status || o.reason != test.reason || o.phase != test.phase {
				t.Errorf("got %s, %s, reason %q, phase %q", o.settlement, o.status, o.reason, o.phase)
			}
			if (o.settlement == retry) != o.due.After(noon) {
				t.Errorf("due %v with settlement %s", o.due, o.settlement)
			}
			if o.reason == ReasonRetriesExhausted && !strings.Contains(o.detail, string(test.phase)) {
				t.Errorf("detail %q does not name the last phase", o.detail)
			}
		})
	}
}

// Where a first copy of the frame was lost within the attempt, no answer to the
// second but a confirmation takes its evidence away.
func TestOutcomeOfKeepsEvidence(t *testing.T) {
	t.Parallel()
	for _, kind := range []relay.AckKind{relay.AckBusy, relay.AckRefused, relay.AckNotFound, relay.AckUnknown} {
		o := outcomeOf(trial{create: true, now: noon, ack: relay.Ack{Kind: kind, Unanswered: true}}, RetryPolicy{})
		if o.sent != relay.SentMaybe || o.answered {
			t.Errorf("%v: sent %q, answered %v, want maybe and unanswered", kind, o.sent, o.answered)
		}
	}
	if o := outcomeOf(trial{create: true, ack: relay.Ack{Kind: relay.AckDone, Unanswered: true}}, RetryPolicy{}); o.sent != relay.SentYes || !o.answered {
		t.Errorf("done: sent %q, answered %v", o.sent, o.answered)
	}
}

func TestOutcomeOfEndsInTime(t *testing.T) {
	t.Parallel()
	trial := trial{create: true, now: noon, expires: noon.Add(4 * time.Second), err: &relay.Error{Phase: relay.PhaseNoListener, Sent: relay.SentNo}}
	if o := outcomeOf(trial, RetryPolicy{}); o.reason != ReasonRetriesExhausted {
		t.Errorf("settled %s %q, want RetriesExhausted: the next try would be after its time", o.settlement, o.reason)
	}
	trial.expires = noon.Add(6 * time.Second)
	if o := outcomeOf(trial, RetryPolicy{}); o.settlement != store.Retry {
		t.Errorf("settled %s %q, want a retry: there is time", o.settlement, o.reason)
	}
}

func TestDelays(t *testing.T) {
	t.Parallel()
	want := []time.Duration{5, 5, 15, 45, 120, 300, 300, 300}
	for n, seconds := range want {
		if got := (RetryPolicy{}).delay(n, 0); got != seconds*time.Second {
			t.Errorf("delay %d is %v, want %v", n, got, seconds*time.Second)
		}
	}
	for n, seconds := range []time.Duration{30, 60, 120, 300, 300} {
		if got := (RetryPolicy{}).postponement(n); got != seconds*time.Second {
			t.Errorf("postponement %d is %v, want %v", n, got, seconds*time.Second)
		}
	}
}

// Whatever the numbers, a delay is at least its step and at most a fifth more.
func TestDelayBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(-5, 1<<40).Draw(t, "n")
		random := rapid.Float64Range(0, 0.9999999).Draw(t, "random")
		least := (RetryPolicy{}).delay(n, 0)
		got := (RetryPolicy{}).delay(n, random)
		if got < least || got > least+least/5 || least < 5*time.Second || least > 5*time.Minute {
			t.Fatalf("delay %v, least %v", got, least)
		}
	})
}

type errPlain string

func (e errPlain) Error() string { return string(e) }
