package consumer

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

// outcome is what to record of a delivery and how to settle its message.
type outcome struct {
	status     store.Status
	settlement store.Settlement
	reason     Reason // of a dead letter
	detail     string // last_error, and the dead letter's description; safe to store

	phase     relay.Phase
	code      int        // HTTP status or close code, 0: none
	sent      relay.Sent // what this attempt's sender honestly knows
	answered  bool       // the gateway had its say, so this attempt is no evidence
	duplicate bool       // confirmed by an `exists` that an earlier attempt explains
	attempted bool       // a try at the gateway was made; a postponement is none
	due       time.Time  // of a retry or a postponement

	unrecorded bool // SQL does not know of it, so the copy stands where this message stood
}

// trial is all that [outcomeOf] looks at: what was tried, what came back, and
// what went before.
type trial struct {
	create  bool
	now     time.Time
	expires time.Time // no further attempt is due after this
	retries int       // so far
	random  float64   // [0, 1), for jitter
	history store.History
	relay   string // the hybrid connection this attempt used

	ack relay.Ack // where err is nil
	err error     // nil, or a *relay.Error
}

// evidence reports whether an earlier attempt at this same hybrid connection
// was marked sent and never answered: only that explains an `exists` or a
// missing item. A copy that broke with its connection within this attempt is
// such an attempt too.
func (t trial) evidence() bool {
	return t.ack.Unanswered || slices.Contains(t.history.Unanswered, t.relay)
}

// arrived reports whether any earlier attempt may have reached a gateway.
func arrived(h store.History) bool {
	return h.MaybeSent > 0 || len(h.Unanswered) > 0
}

// outcomeOf is the whole policy: from what happened to what is recorded and
// how the message is settled. It is pure.
func outcomeOf(t trial, policy RetryPolicy) outcome {
	if t.err != nil {
		return ofFailure(t, policy)
	}
	o := ofAck(t, policy)
	if t.ack.Unanswered && o.status != store.Confirmed {
		// The ack is about the second copy; the first stays evidence.
		o.sent, o.answered = relay.SentMaybe, false
	}
	return o
}

// ofAck decides by what the gateway said.
func ofAck(t trial, policy RetryPolicy) outcome {
	said := outcome{sent: relay.SentYes, answered: true, attempted: true, phase: relay.PhaseAckError, detail: t.ack.Text}
	switch t.ack.Kind {
	case relay.AckDone:
		return said.confirmed()
	case relay.AckExists:
		if !t.evidence() {
			said.sent = relay.SentNo
			return said.failed(ReasonAccessionConflict, "the gateway holds this accession number already, and no attempt of ours explains it")
		}
		said.duplicate = true
		return said.confirmed()
	case relay.AckRefused:
		return said.failed(ReasonGatewayRejected, t.ack.Text)
	case relay.AckBusy:
		said.sent, said.status = relay.SentNo, store.Sent
		return said.retried(t, policy)
	case relay.AckNotFound:
		said.sent = relay.SentMaybe
		if !t.create && t.evidence() {
			return said.failed(ReasonOutcomeAmbiguous, "item not found, and an earlier attempt whose ack was lost may have moved it")
		}
		return said.counted(t, policy, ReasonItemNotFound)
	case relay.AckUnknown:
		said.sent = relay.SentMaybe
		return said.counted(t, policy, ReasonGatewayRejected)
	default:
		said.sent, said.phase = relay.SentMaybe, relay.PhaseAckInvalid
		return said.counted(t, policy, ReasonBadAck)
	}
}

// ofFailure decides after an attempt that ended without an ack.
func ofFailure(t trial, policy RetryPolicy) outcome {
	var failure *relay.Error
	if !errors.As(t.err, &failure) {
		failure = &relay.Error{Phase: relay.PhaseAckLost, Sent: relay.SentMaybe, Err: t.err}
	}
	o := outcome{
		phase: failure.Phase, code: failure.Code, sent: failure.Sent, answered: failure.Answered,
		attempted: true, detail: failure.Error(),
	}
	switch {
	case failure.Phase == relay.PhaseAckClosed && failure.Code == closeTooBig:
		return o.failed(ReasonPayloadTooLarge, o.detail)
	case failure.Phase == relay.PhaseAckClosed:
		return o.counted(t, policy, ReasonClosedWithoutReply)
	case failure.Phase == relay.PhaseAckInvalid:
		return o.counted(t, policy, ReasonBadAck)
	case failure.Phase == relay.PhaseRejected && t.history.Rejected+1 >= policy.mostArrived():
		return o.failed(ReasonListenerRejected, fmt.Sprintf("the listener refused with %d, %d times", o.code, t.history.Rejected+1))
	case failure.Sent == relay.SentNo:
		return o.retried(t, policy)
	default:
		return o.counted(t, policy, ReasonRetriesExhausted)
	}
}

// closeTooBig is the websocket close code "message too big", RFC 6455 section 7.4.1.
const closeTooBig = 1009

func (o outcome) confirmed() outcome {
	o.status, o.settlement = store.Confirmed, store.Complete
	o.phase, o.detail = "", ""
	return o
}

func (o outcome) failed(reason Reason, detail string) outcome {
	o.status, o.settlement, o.reason, o.detail = store.Failed, store.DeadLetter, reason, detail
	return o
}

// counted tries again unless as many attempts as the policy allows may have
// arrived, this one included; then the action ends with reason.
func (o outcome) counted(t trial, policy RetryPolicy, reason Reason) outcome {
	if arrived := t.history.MaybeSent + 1; arrived >= policy.mostArrived() {
		return o.failed(reason, fmt.Sprintf("%s, after %d attempts that may have arrived", o.lastPhase(), arrived))
	}
	return o.retried(t, policy)
}

// retried tries again later, unless later is past the action's time.
func (o outcome) retried(t trial, policy RetryPolicy) outcome {
	due := t.now.Add(policy.delay(t.retries, t.random))
	if !t.expires.IsZero() && due.After(t.expires) {
		return o.failed(ReasonRetriesExhausted, fmt.Sprintf("%s, and its time ends %s", o.lastPhase(), t.expires.UTC().Format(time.RFC3339)))
	}
	o.settlement, o.due = store.Retry, due
	if o.status == "" {
		o.status = waitingStatus(o.sent != relay.SentNo || arrived(t.history))
	}
	return o
}

func (o outcome) lastPhase() string {
	if o.detail == "" {
		return "last phase " + string(o.phase)
	}
	return "last phase " + string(o.phase) + ": " + o.detail
}

// waitingStatus is the status of an action that is to be tried again: pending
// while it certainly never reached a gateway.
func waitingStatus(mayHaveArrived bool) store.Status {
	if mayHaveArrived {
		return store.Sent
	}
	return store.Pending
}

// postponed waits without having tried: no attempt is spent.
func postponed(until time.Time, phase relay.Phase, detail string, mayHaveArrived bool) outcome {
	return outcome{
		status: waitingStatus(mayHaveArrived), settlement: store.Postpone,
		sent: relay.SentNo, phase: phase, detail: detail, due: until,
	}
}

// refused ends an action before anything was tried in this delivery.
func refused(reason Reason, detail string) outcome {
	return outcome{sent: relay.SentNo}.failed(reason, detail)
}
