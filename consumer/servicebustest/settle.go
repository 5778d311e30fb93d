package servicebustest

import (
	"fmt"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

// settlement is what a receiver decides about a message that it has locked.
type settlement uint8

const (
	settleComplete settlement = iota
	settleAbandon
	settleDefer
	settleDeadLetter
	settleRelease // gives the message back without counting a delivery: it was never looked at
)

// maxPropertyBytes bounds one application property that a settlement writes.
const maxPropertyBytes = 32767

// settle ends the lock that token names. Properties are written onto the message unless it is completed or released; for a dead
// letter they hold the reason and the description too.
func (q *queue) settle(token amqp.UUID, how settlement, properties amqp.Map, now time.Time) error {
	for _, e := range properties {
		if len(amqp.AppendValue(nil, e.Value)) > maxPropertyBytes {
			return errPropertyTooLong
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	m := q.holder(token, now)
	if m == nil {
		return q.lockLost()
	}
	switch how {
	case settleComplete:
		q.remove(m)
	case settleRelease:
		q.unlock(m, now)
	case settleAbandon:
		m.setProperties(properties)
		q.failDelivery(m, now)
	case settleDefer:
		m.setProperties(properties)
		m.deferred = true
		q.unlock(m, now)
	case settleDeadLetter:
		if q.dead == nil {
			return errDeadLetterTwice
		}
		q.deadLetter(m, now, "", "", properties)
	}
	return nil
}

// holder returns the message that is locked with token, nil if the lock is gone or has run out a moment ago.
func (q *queue) holder(token amqp.UUID, now time.Time) *message {
	m := q.locked[token]
	switch {
	case m == nil || m.lockEnd().After(now):
		return m
	case m.group != nil:
		q.lose(m.group, now)
	default:
		q.failDelivery(m, now)
	}
	return nil
}

func (q *queue) lockLost() error {
	if q.sessionful() {
		return errSessionLockLost
	}
	return errMessageLockLost
}

// failDelivery ends a lock and counts a delivery. With the last delivery that the queue allows, the message is dead-lettered.
func (q *queue) failDelivery(m *message, now time.Time) {
	m.deliveries++
	if q.dead != nil && int(m.deliveries) >= q.settings.MaxDeliveryCount {
		q.deadLetter(m, now, "MaxDeliveryCountExceeded",
			fmt.Sprintf("Message could not be consumed after %d delivery attempts.", m.deliveries), nil)
		return
	}
	q.unlock(m, now)
}

// unlock returns a message to where it was before it was locked, or to the deferred ones.
func (q *queue) unlock(m *message, now time.Time) {
	switch {
	case m.deferred:
		q.move(m, stateDeferred, time.Time{})
	case expired(m, now):
		q.expire(m, now)
	default:
		q.offer(m)
	}
}

// deadLetter moves a message to the dead-letter queue. It keeps its sequence number; deliveries are counted from the start again.
func (q *queue) deadLetter(m *message, now time.Time, reason, description string, properties amqp.Map) {
	if reason != "" {
		properties = properties.Set("DeadLetterReason", reason).Set("DeadLetterErrorDescription", description)
	}
	q.remove(m)
	m.setProperties(properties)
	m.deadLettered, m.deliveries, m.deferred, m.expires = q.name, 0, false, time.Time{}

	q.dead.mu.Lock()
	defer q.dead.mu.Unlock()
	m.state = stateActive
	q.dead.counts[m.state]++
	q.dead.bytes += m.size
	q.dead.all.add(m)
	q.dead.offer(m)
}

// renew gives each lock its full duration again and returns until when they hold. If one is lost, none is renewed.
func (q *queue) renew(tokens []amqp.UUID, now time.Time) ([]time.Time, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	held := make([]*message, len(tokens))
	if q.sessionful() {
		return nil, errSessionMessage
	}
	for i, token := range tokens {
		if held[i] = q.holder(token, now); held[i] == nil {
			return nil, errMessageLockLost
		}
	}
	until := make([]time.Time, len(tokens))
	for i, m := range held {
		until[i] = now.Add(q.settings.LockDuration)
		m.lockedUntil = until[i]
		q.setAlarm(&m.alarm, until[i])
	}
	return until, nil
}

// expireLocks ends every lock as if it had run out, those of sessions included.
func (q *queue) expireLocks(now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.sessions.held.Len() > 0 {
		q.lose(q.sessions.held.Front().Value.(*group), now)
	}
	for _, m := range q.locked {
		q.failDelivery(m, now)
	}
}
