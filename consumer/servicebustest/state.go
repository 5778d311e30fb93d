package servicebustest

import (
	"slices"
	"strings"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

// QueueState counts the messages of a queue at one moment. No message is counted twice: Service Bus's own active count is
// Active and Locked together.
type QueueState struct {
	Name         string
	Active       int // deliverable now
	Scheduled    int
	DeadLettered int // in the dead-letter queue, locked ones included
	Locked       int
	Deferred     int
}

// Queues returns the counts of every queue, in name order.
func (s *Server) Queues() []QueueState {
	var states []QueueState
	for _, q := range s.mainQueues() {
		states = append(states, q.state())
	}
	return states
}

// state counts the queue and its dead-letter queue under both locks, so that a message on its way is counted once.
func (q *queue) state() QueueState {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dead.mu.Lock()
	defer q.dead.mu.Unlock()
	return QueueState{
		Name: q.name, Active: q.counts[stateActive], Scheduled: q.counts[stateScheduled], DeadLettered: q.dead.all.len(),
		Locked: q.counts[stateLocked], Deferred: q.counts[stateDeferred],
	}
}

// SessionState tells what the server knows of one session.
type SessionState struct {
	ID       string
	Messages int // in whatever state; dead letters belong to no session

	// Held is set while a receiver has the session lock, whether or not it is still connected.
	Held        bool
	LockedUntil time.Time // zero unless Held
}

// Sessions returns the sessions of a queue in the order of their ids: those that have messages, a state or a holder. A queue that
// is unknown, or that does not require sessions, has none.
func (s *Server) Sessions(queue string) []SessionState {
	q := s.queue(queue)
	if q == nil {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	states := make([]SessionState, 0, len(q.sessions.byID))
	for _, g := range q.sessions.byID {
		states = append(states, SessionState{ID: g.id, Messages: g.messages, Held: g.holder != nil, LockedUntil: g.lockedUntil})
	}
	slices.SortFunc(states, func(a, b SessionState) int { return strings.Compare(a.ID, b.ID) })
	return states
}

// Accepts returns how many links wait for the next session of a queue that has something to deliver.
func (s *Server) Accepts(queue string) int {
	q := s.queue(queue)
	if q == nil {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.sessions.wanted.Len()
}

// MessageState tells what the server knows of one message. It holds no body and no values of properties, but for the reason of a
// dead letter.
type MessageState struct {
	SequenceNumber         int64
	EnqueuedSequenceNumber int64  // the first one it had
	MessageID              string // empty if it has none, or one that is no string
	SessionID              string
	State                  string   // active, locked, scheduled or deferred
	DeliveryCount          int      // deliveries that failed, 0 at first
	Properties             []string // keys of the application properties, sorted
	EnqueuedTime           time.Time
	ScheduledTime          time.Time // zero if it was never scheduled
	LockedUntil            time.Time // zero unless it is locked

	// DeadLetterReason and DeadLetterErrorDescription are empty if they are absent or no strings.
	DeadLetterReason, DeadLetterErrorDescription string
}

// Messages returns what is in a queue, or in a dead-letter queue, "name/$DeadLetterQueue", in the order of the sequence numbers.
// It disturbs nothing. An unknown queue has no messages.
func (s *Server) Messages(queue string) []MessageState {
	q := s.queue(queue)
	if q == nil {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	states := make([]MessageState, 0, q.all.len())
	q.all.from(0, func(m *message) bool {
		states = append(states, m.describe())
		return true
	})
	return states
}

func (m *message) describe() MessageState {
	state := MessageState{
		SequenceNumber: m.sequence, EnqueuedSequenceNumber: m.original, State: m.state.String(), DeliveryCount: int(m.deliveries),
		EnqueuedTime: m.enqueued, ScheduledTime: m.scheduled,
		DeadLetterReason: m.property(propertyReason), DeadLetterErrorDescription: m.property(propertyDescription),
	}
	state.MessageID, _ = amqp.Text(m.content.Property(amqp.PropertyMessageID))
	state.SessionID, _ = amqp.Text(m.content.Property(amqp.PropertyGroupID))
	if m.state == stateLocked {
		state.LockedUntil = m.lockEnd()
	}
	if m.content.ApplicationProperties != nil {
		for _, e := range amqp.NewDecoder(m.content.ApplicationProperties).Map() {
			name, _ := amqp.Text(e.Key)
			state.Properties = append(state.Properties, name)
		}
		slices.Sort(state.Properties)
	}
	return state
}
