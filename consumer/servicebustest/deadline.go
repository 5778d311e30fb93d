package servicebustest

import (
	"container/heap"
	"time"
)

// alarm is something that happens in a queue at a moment that may be moved or called off. The queue's mutex guards it.
type alarm struct {
	at    time.Time // meaningful while index >= 0
	index int       // in queue.deadlines; -1: not set
	owner ringer
}

// ringer is what an alarm is for: a message, a session or a link that waits for one.
type ringer interface {
	// ring is called with the queue's mutex held once the moment has passed. It must set the alarm anew or call it off.
	ring(q *queue, now time.Time)
}

// byDeadline is a heap (container/heap) of alarms; the next one is first.
type byDeadline []*alarm

func (h byDeadline) Len() int           { return len(h) }
func (h byDeadline) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h byDeadline) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push is heap.Interface's: call heap.Push.
func (h *byDeadline) Push(x any) {
	a := x.(*alarm)
	a.index = len(*h)
	*h = append(*h, a)
}

// Pop is heap.Interface's: call heap.Pop.
func (h *byDeadline) Pop() any {
	last := len(*h) - 1
	a := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	a.index = -1
	return a
}

// setAlarm sets an alarm or moves it; a zero moment calls it off.
func (q *queue) setAlarm(a *alarm, at time.Time) {
	a.at = at
	switch {
	case at.IsZero():
		if a.index >= 0 {
			heap.Remove(&q.deadlines, a.index)
		}
		return
	case a.index >= 0:
		heap.Fix(&q.deadlines, a.index)
	default:
		heap.Push(&q.deadlines, a)
	}
	if a.index == 0 && (q.armed.IsZero() || at.Before(q.armed)) {
		select {
		case q.rearm <- struct{}{}:
		default:
		}
	}
}

// run rings alarms when their moments pass. It returns when stop is closed.
func (q *queue) run(stop <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		moves := q.clock.moves()
		if next := q.passDeadlines(q.clock.now()); !next.IsZero() {
			timer.Reset(next.Sub(q.clock.now()))
		}
		select {
		case <-stop:
			return
		case <-q.rearm:
		case <-moves:
		case <-timer.C:
		}
	}
}

// passDeadlines rings every alarm whose moment has passed and returns the next moment, zero if there is none.
func (q *queue) passDeadlines(now time.Time) time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.deadlines) > 0 && !q.deadlines[0].at.After(now) {
		q.deadlines[0].owner.ring(q, now)
	}
	q.armed = time.Time{}
	if len(q.deadlines) > 0 {
		q.armed = q.deadlines[0].at
	}
	return q.armed
}

// ring moves a message on to its next state.
func (m *message) ring(q *queue, now time.Time) {
	switch m.state {
	case stateActive:
		q.expire(m, now)
	case stateLocked:
		q.failDelivery(m, now)
	case stateScheduled:
		q.renumber(m)
		q.activate(m, now)
	case stateDeferred:
		q.setAlarm(&m.alarm, time.Time{})
	}
}

// renumber gives a scheduled message the sequence number that it has from its activation on: it queues behind what came before.
func (q *queue) renumber(m *message) {
	q.all.remove(m)
	q.sequence++
	m.sequence = q.sequence
	q.all.add(m)
}

func expired(m *message, now time.Time) bool {
	return !m.expires.IsZero() && !m.expires.After(now)
}

// expire ends a message whose time to live has run out: it moves to the dead-letter queue if the queue says so, else it vanishes.
func (q *queue) expire(m *message, now time.Time) {
	if q.dead == nil || !q.settings.DeadLetteringOnExpiration {
		q.remove(m)
		return
	}
	q.deadLetter(m, now, "TTLExpiredException", "The message expired and was dead lettered.", nil)
}
