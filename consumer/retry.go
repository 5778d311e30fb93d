package consumer

import (
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/worklist-relay/worklist-relay/store"
)

// RetryPolicy says when an action is tried again and for how long. The zero
// value is the default policy.
type RetryPolicy struct {
	// Delays before the first, second, ... retry; the last one repeats.
	// nil: 5 s, 5 s, 15 s, 45 s, 2 min, 5 min.
	Delays []time.Duration

	// Postponements are the waits that spend no attempt, likewise.
	// nil: 30 s, 1 min, 2 min, 5 min.
	Postponements []time.Duration

	// MostArrived bounds the attempts that may have reached the gateway, and
	// the rejections by a listener. 0: 5.
	MostArrived int

	// UpdateLimit is how long after its first receipt an update is still
	// tried. A create is tried until its clinic day ends. 0: 24 h.
	UpdateLimit time.Duration
}

var (
	defaultDelays        = []time.Duration{5 * time.Second, 5 * time.Second, 15 * time.Second, 45 * time.Second, 2 * time.Minute, 5 * time.Minute}
	defaultPostponements = []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute}
)

// jitterShare is the most that chance adds to a delay, so that the actions of
// a hospital that comes back do not all arrive in one moment.
const jitterShare = 0.2

// delay is the wait before retry number n, counted from 0; random is in [0, 1).
func (p RetryPolicy) delay(n int, random float64) time.Duration {
	base := step(p.Delays, defaultDelays, n)
	return base + time.Duration(random*jitterShare*float64(base))
}

// postponement is the wait number n, counted from 0.
func (p RetryPolicy) postponement(n int) time.Duration {
	return step(p.Postponements, defaultPostponements, n)
}

func step(own, otherwise []time.Duration, n int) time.Duration {
	if len(own) == 0 {
		own = otherwise
	}
	return own[min(max(n, 0), len(own)-1)]
}

func (p RetryPolicy) mostArrived() int {
	if p.MostArrived == 0 {
		return 5
	}
	return p.MostArrived
}

func (p RetryPolicy) updateLimit() time.Duration {
	if p.UpdateLimit == 0 {
		return 24 * time.Hour
	}
	return p.UpdateLimit
}

// copyOf makes the message that stands in for m at a later time. It has a new
// MessageID, since duplicate detection would swallow the old one and report
// success: made from the action and the sequence number it copies, it is never
// the same for two copies and always the same when one is copied twice after a
// crash. What the broker gives anew is carried along in properties.
func copyOf(m *azservicebus.ReceivedMessage, in incoming, o outcome) *azservicebus.Message {
	properties := cloneProperties(m.ApplicationProperties)
	delete(properties, "DeadLetterReason")
	delete(properties, "DeadLetterErrorDescription")
	properties[propertyOriginalSequence] = in.original
	id := fmt.Sprintf("%s:%d", in.actionID, in.sequence)
	delete(properties, propertyStandsFor)
	if o.unrecorded {
		// The same message may have a recorded copy yet. If that is never sent,
		// this one repeats the settlement in its place.
		id += ":postponed"
		properties[propertyStandsFor] = in.standsFor
	} else {
		properties[propertyCopiedFrom] = in.standsFor
	}
	if !in.enqueued.IsZero() {
		properties[propertyOriginalEnqueued] = in.enqueued
	}
	delete(properties, propertyPostponements)
	if o.settlement == store.Postpone {
		properties[propertyPostponements] = int64(in.postponed + 1)
	}
	due := o.due.UTC()
	copied := copyWith(m, id, properties)
	copied.ScheduledEnqueueTime = &due
	if !in.expires.IsZero() {
		properties[propertyOriginalExpiry] = in.expires
		// A time to live counts from the copy's own enqueue time: what is left of
		// the original's, and a moment at least, so that the broker dead-letters
		// what is too late.
		left := max(in.expires.Sub(due), time.Millisecond)
		copied.TimeToLive = &left
	}
	return copied
}

// copyWith is m under another MessageID and with other application properties,
// to be delivered at once and without an end.
func copyWith(m *azservicebus.ReceivedMessage, id string, properties map[string]any) *azservicebus.Message {
	return &azservicebus.Message{
		MessageID:             &id,
		Body:                  m.Body,
		ApplicationProperties: properties,
		ContentType:           m.ContentType,
		CorrelationID:         m.CorrelationID,
		Subject:               m.Subject,
		ReplyTo:               m.ReplyTo,
		ReplyToSessionID:      m.ReplyToSessionID,
		To:                    m.To,
		SessionID:             m.SessionID,
	}
}
