package servicebustest

import (
	"time"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

// messageState is what can be done with a message at the moment. A message has at most one deadline at a time, and its state
// tells what the deadline means.
type messageState uint8

const (
	stateActive    messageState = iota // deliverable; deadline: it expires
	stateLocked                        // with a receiver; deadline: the lock runs out
	stateScheduled                     // deadline: it becomes active
	stateDeferred                      // only received by sequence number; no deadline, since deferred messages do not expire
	stateCount     = 4
)

func (s messageState) String() string {
	return [stateCount]string{"active", "locked", "scheduled", "deferred"}[s]
}

// message is one message in one queue. All fields are guarded by the queue's mutex; what content points to never changes.
type message struct {
	content  *amqp.Message
	size     int   // bytes as they were sent
	sequence int64 // changes when a scheduled message becomes active, not when one is dead-lettered
	original int64 // the first sequence number it had

	state        messageState
	deferred     bool // where it returns to when its lock ends
	deliveries   uint32
	enqueued     time.Time
	scheduled    time.Time // zero: was never scheduled
	expires      time.Time // zero: never
	deadLettered string    // the queue it was dead-lettered from; empty outside dead-letter queues

	group *group // nil without sessions, and in a dead-letter queue

	token       amqp.UUID // of the lock, as its delivery tag
	lockedUntil time.Time // in a session: see lockEnd

	alarm      alarm // of its deadline
	readyIndex int   // in the heap of deliverable messages; -1: not deliverable
}

// delivery is a copy of what a receiver is to see of a message, taken under the queue's mutex and encoded outside it.
type delivery struct {
	content      *amqp.Message
	sequence     int64
	original     int64
	state        messageState
	deliveries   uint32
	enqueued     time.Time
	scheduled    time.Time
	lockedUntil  time.Time
	expires      time.Time
	deadLettered string
	token        amqp.UUID
}

func (m *message) delivery() delivery {
	return delivery{
		content: m.content, sequence: m.sequence, original: m.original, state: m.state, deliveries: m.deliveries,
		enqueued: m.enqueued, scheduled: m.scheduled, lockedUntil: m.lockEnd(), expires: m.expires,
		deadLettered: m.deadLettered, token: m.token,
	}
}

// lockEnd returns until when a locked message is locked: with its session, if it has one.
func (m *message) lockEnd() time.Time {
	if m.group != nil {
		return m.group.lockedUntil
	}
	return m.lockedUntil
}

// append encodes the message as the service sends it: with its own header and annotations, and the rest as it came.
// A locked message tells until when, and with withToken also its lock token, for replies that have no delivery tag.
func (d *delivery) append(b []byte, withToken bool) []byte {
	header := d.content.Header
	header.DeliveryCount = d.deliveries
	if !d.expires.IsZero() { // else it is as the sender wrote it: a dead letter does not expire, but still tells
		header.HasTTL, header.TTL = true, d.expires.Sub(d.enqueued)
	}
	b = header.Append(b)
	if withToken {
		w := amqp.DeliveryAnnotations(b)
		w.UUID("x-opt-lock-token", swapToken(d.token))
		b = w.End()
	}
	w := amqp.MessageAnnotations(b)
	w.Long(annotationSequence, d.sequence)
	w.Long(annotationOriginal, d.original)
	w.Time(annotationEnqueued, d.enqueued)
	w.Int(annotationState, d.wireState())
	if d.state == stateLocked {
		w.Time(annotationLockedUntil, d.lockedUntil)
	}
	if !d.scheduled.IsZero() {
		w.Time(annotationScheduled, d.scheduled)
	}
	if d.deadLettered != "" {
		w.Text(annotationDeadLetterSource, d.deadLettered)
	}
	for _, e := range d.content.Annotations {
		w.Entry(e)
	}
	return d.content.AppendBare(w.End())
}

// wireState tells the state as clients know it: a locked message is an active one.
func (d *delivery) wireState() int32 {
	switch d.state {
	case stateDeferred:
		return 1
	case stateScheduled:
		return 2
	}
	return 0
}

// Annotations that belong to the service; those that a sender sets are dropped, except the scheduled time, which is read.
const (
	annotationSequence         amqp.Symbol = "x-opt-sequence-number"
	annotationOriginal         amqp.Symbol = "x-opt-enqueue-sequence-number"
	annotationEnqueued         amqp.Symbol = "x-opt-enqueued-time"
	annotationLockedUntil      amqp.Symbol = "x-opt-locked-until"
	annotationScheduled        amqp.Symbol = "x-opt-scheduled-enqueue-time"
	annotationState            amqp.Symbol = "x-opt-message-state"
	annotationDeadLetterSource amqp.Symbol = "x-opt-deadletter-source"
)

func isServiceAnnotation(key any) bool {
	name, _ := amqp.Text(key)
	switch amqp.Symbol(name) {
	case annotationSequence, annotationOriginal, annotationEnqueued, annotationLockedUntil, annotationScheduled,
		annotationState, annotationDeadLetterSource:
		return true
	}
	return false
}

// newMessage takes over a message that was sent. The scheduled time is zero unless the sender set one.
func newMessage(content amqp.Message, size int) *message {
	m := &message{content: &content, size: size, readyIndex: -1}
	m.alarm = alarm{index: -1, owner: m}
	kept := content.Annotations[:0]
	for _, e := range content.Annotations {
		if name, _ := amqp.Text(e.Key); name == string(annotationScheduled) {
			raw, _ := e.Value.(amqp.Raw)
			m.scheduled, _ = amqp.NewDecoder(raw).Value().(time.Time)
		}
		if !isServiceAnnotation(e.Key) {
			kept = append(kept, e)
		}
	}
	content.Annotations = kept
	return m
}

// setProperties writes application properties onto a copy of the content, as abandoning, deferring and dead-lettering can.
// Everything that it does not name stays as it was, byte for byte.
func (m *message) setProperties(properties amqp.Map) {
	if len(properties) == 0 {
		return
	}
	var all amqp.Map
	if m.content.ApplicationProperties != nil {
		all = amqp.NewDecoder(m.content.ApplicationProperties).Map()
	}
	for _, e := range properties {
		if name, ok := amqp.Text(e.Key); ok {
			all = all.Set(name, e.Value)
		}
	}
	changed := *m.content
	changed.ApplicationProperties = amqp.AppendMap(nil, all)
	m.content = &changed
}

// property returns the text of an application property, empty if it is absent or no text.
func (m *message) property(name string) string {
	if m.content.ApplicationProperties == nil {
		return ""
	}
	text, _ := amqp.Text(amqp.NewDecoder(m.content.ApplicationProperties).Map().Get(name))
	return text
}

// swapToken converts a lock token between the delivery tag's byte order, which is that of a .NET Guid, and that of a UUID.
func swapToken(t amqp.UUID) amqp.UUID {
	t[0], t[3] = t[3], t[0]
	t[1], t[2] = t[2], t[1]
	t[4], t[5] = t[5], t[4]
	t[6], t[7] = t[7], t[6]
	return t
}
