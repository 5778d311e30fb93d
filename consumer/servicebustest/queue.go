package servicebustest

import (
	"container/heap"
	"container/list"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

// queue is one queue or one dead-letter queue: its messages, their states and the moves between them. It knows nothing of links
// and frames; consumers wait here and are woken when there may be something for them.
//
// The messages of a session queue are delivered session by session: see group.go and grouplock.go.
//
// Locks are taken in this order: conn.mu, then the mutex of a queue, then that of its dead-letter queue, then conn.dirtyMu.
type queue struct {
	name     string // as configured; a dead-letter queue's ends in /$DeadLetterQueue
	settings Queue  // with its defaults filled in
	clock    *clock // the server's
	dead     *queue // nil for a dead-letter queue

	rearm chan struct{} // tells run that a nearer deadline came up

	mu sync.Mutex
	// guards all below
	disabled  bool
	sequence  int64 // the last one given out
	all       ledger
	ready     bySequence
	deadlines byDeadline
	armed     time.Time // what run waits for; zero: for rearm only
	locked    map[amqp.UUID]*message
	waiting   list.List // of *consumer, longest first
	sessions  sessions
	history   history
	counts    [stateCount]int
	bytes     int
}

// consumer is one receiving link as its queue sees it.
type consumer struct {
	wake func() // called with the queue's mutex held: must not block or call the queue

	// The queue's mutex guards all below.
	element *list.Element // in queue.waiting, or in sessions.wanted, while it waits
	group   *group        // the session it was granted; nil without sessions
	timeout alarm         // of its waiting for a session
	refused *fault        // why it was granted no session
}

const deadLetterSuffix = "/$DeadLetterQueue"

// newQueue returns a queue with its dead-letter queue.
func newQueue(settings Queue, c *clock) *queue {
	dead := emptyQueue(settings.Name+deadLetterSuffix, settings, c)
	q := emptyQueue(settings.Name, settings, c)
	q.dead = dead
	return q
}

func emptyQueue(name string, settings Queue, c *clock) *queue {
	return &queue{
		name: name, settings: settings, clock: c, rearm: make(chan struct{}, 1), locked: make(map[amqp.UUID]*message),
		history: newHistory(settings.DuplicateDetectionWindow), sessions: sessions{byID: make(map[string]*group)},
	}
}

// send takes messages over, all or none of them visible at once, and returns their sequence numbers. Where duplicates are
// detected, one whose message id was seen within the window is swallowed: it gets a number and is gone.
func (q *queue) send(now time.Time, messages ...*message) []int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	numbers := make([]int64, len(messages))
	for i, m := range messages {
		q.sequence++
		numbers[i] = q.sequence
		if q.settings.RequiresDuplicateDetection && q.history.seen(now, m.content.Property(amqp.PropertyMessageID)) {
			continue
		}
		m.sequence, m.original, m.enqueued = q.sequence, q.sequence, now
		q.bytes += m.size
		q.all.add(m)
		q.counts[m.state]++
		q.join(m)
		if m.scheduled.After(now) {
			q.move(m, stateScheduled, m.scheduled)
		} else {
			q.activate(m, now)
		}
	}
	return numbers
}

// activate makes a message deliverable for the first time; from now on its time to live runs.
func (q *queue) activate(m *message, now time.Time) {
	m.enqueued = now
	ttl := q.settings.DefaultTTL
	if h := m.content.Header; h.HasTTL && h.TTL > 0 && (ttl == 0 || h.TTL < ttl) {
		ttl = h.TTL
	}
	if ttl > 0 {
		m.expires = now.Add(ttl)
	}
	q.offer(m)
}

// offer makes a message deliverable and wakes a consumer for it.
func (q *queue) offer(m *message) {
	q.move(m, stateActive, m.expires)
	heap.Push(q.readyWith(m), m)
	if m.group != nil {
		q.review(m.group)
		return
	}
	q.wakeOne()
}

// readyWith returns the heap that a message lies in while it is deliverable.
func (q *queue) readyWith(m *message) *bySequence {
	if m.group != nil {
		return &m.group.ready
	}
	return &q.ready
}

func (q *queue) wakeOne() {
	if e := q.waiting.Front(); e != nil {
		c := q.waiting.Remove(e).(*consumer)
		c.element = nil
		c.wake()
	}
}

// move puts a message into a state with a deadline, none if it is zero.
func (q *queue) move(m *message, to messageState, deadline time.Time) {
	q.counts[m.state]--
	q.counts[to]++
	if m.readyIndex >= 0 {
		heap.Remove(q.readyWith(m), m.readyIndex)
	}
	if m.state == stateLocked {
		delete(q.locked, m.token)
		m.group.unlocked(m)
	}
	m.state = to
	q.setAlarm(&m.alarm, deadline)
}

// remove takes a message out of the queue for good.
func (q *queue) remove(m *message) {
	q.move(m, m.state, time.Time{})
	q.counts[m.state]--
	q.bytes -= m.size
	q.all.remove(m)
	q.part(m)
}

// take returns the next deliverable message: locked, or removed if settled is true. Without one it returns false and has c wait:
// c is woken once. A consumer that is woken and leaves messages behind must call pass.
func (q *queue) take(c *consumer, now time.Time, settled bool) (delivery, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c.group != nil {
		return q.takeFromSession(c, now, settled)
	}
	if len(q.ready) == 0 {
		if c.element == nil {
			c.element = q.waiting.PushBack(c)
		}
		return delivery{}, false
	}
	return q.deliver(q.ready[0], now, settled), true
}

// deliver locks a message, or removes it if settled is true, and returns what the receiver is to see of it.
func (q *queue) deliver(m *message, now time.Time, settled bool) delivery {
	if settled {
		d := m.delivery()
		q.remove(m)
		return d
	}
	q.lock(m, now)
	return m.delivery()
}

// lock locks a message for the lock duration; in a session, for as long as the session is.
func (q *queue) lock(m *message, now time.Time) {
	if m.group != nil {
		q.move(m, stateLocked, time.Time{})
		m.group.locked[m] = struct{}{}
	} else {
		m.lockedUntil = now.Add(q.settings.LockDuration)
		q.move(m, stateLocked, m.lockedUntil)
	}
	// A token is no secret: it names a lock among the locks of one queue.
	binary.BigEndian.PutUint64(m.token[:8], rand.Uint64())
	binary.BigEndian.PutUint64(m.token[8:], rand.Uint64())
	q.locked[m.token] = m
}

// pass tells the queue that a consumer stops taking: if something is left, the next one is woken.
func (q *queue) pass() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.ready) > 0 {
		q.wakeOne()
	}
}

// leave ends a consumer's waiting for messages. What it has locked stays locked until the locks run out, as in the service.
func (q *queue) leave(c *consumer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c.element != nil {
		q.waiting.Remove(c.element)
		c.element = nil
	}
	if len(q.ready) > 0 {
		q.wakeOne()
	}
}
