package servicebustest

import (
	"cmp"
	"container/list"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

// group is one session of a session queue: the messages with one group-id (section 3.2.4), in order, for one receiver at a time.
// It has that name here because a session is something else in AMQP. The queue's mutex guards it.
type group struct {
	id       string
	ready    bySequence            // deliverable messages
	locked   map[*message]struct{} // delivered and not settled
	messages int                   // in whatever state

	holder      *consumer     // who has the session lock, attached or not; nil: the session is free
	lockedUntil time.Time     // zero: the session is free
	alarm       alarm         // of the session lock
	place       *list.Element // in sessions.available, or in sessions.held

	state   []byte    // what receivers keep with the session; nil: nothing
	stateAt time.Time // when it was set or cleared last; zero: never
}

// sessions are the sessions of a queue. The queue's mutex guards them.
type sessions struct {
	byID      map[string]*group
	available list.List // of *group: free and with something to deliver; longest first
	held      list.List // of *group: locked; longest first
	wanted    list.List // of *consumer that wait for the next available session, longest first
}

// maxSessionID bounds a session id, in characters.
const maxSessionID = 128

// sessionful reports whether messages of the queue belong to sessions. Those of a dead-letter queue never do.
func (q *queue) sessionful() bool { return q.dead != nil && q.settings.RequiresSession }

// admit refuses messages that the queue cannot take: all of them must have a session where sessions are required.
func (q *queue) admit(messages []*message) error {
	if !q.sessionful() {
		return nil
	}
	for _, m := range messages {
		switch id, ok := m.sessionID(); {
		case !ok:
			return errSessionMissing
		case utf8.RuneCountInString(id) > maxSessionID:
			return errSessionTooLong
		}
	}
	return nil
}

func (m *message) sessionID() (string, bool) {
	return amqp.Text(m.content.Property(amqp.PropertyGroupID))
}

// join puts a message that is new in the queue into its session.
func (q *queue) join(m *message) {
	if !q.sessionful() {
		return
	}
	id, _ := m.sessionID()
	m.group = q.sessionOf(id)
	m.group.messages++
}

func (q *queue) sessionOf(id string) *group {
	g := q.sessions.byID[id]
	if g == nil {
		g = &group{id: id, locked: make(map[*message]struct{})}
		g.alarm = alarm{index: -1, owner: g}
		q.sessions.byID[id] = g
	}
	return g
}

// part takes a message that leaves the queue out of its session.
func (q *queue) part(m *message) {
	if g := m.group; g != nil {
		m.group = nil
		g.messages--
		q.review(g)
	}
}

// unlocked notes that a message is no longer locked. Without a session there is nothing to note.
func (g *group) unlocked(m *message) {
	if g != nil {
		delete(g.locked, m)
	}
}

// review is called after a session has changed. A free session with something to deliver goes to who has waited for the longest,
// or waits for somebody itself; a holder hears that there is something; a session with nothing to remember is forgotten.
func (q *queue) review(g *group) {
	deliverable := len(g.ready) > 0
	switch {
	case g.holder != nil:
		if deliverable {
			g.holder.wake()
		}
	case deliverable && q.sessions.wanted.Len() > 0:
		q.grant(g, q.sessions.wanted.Front().Value.(*consumer), q.clock.now())
	case deliverable && g.place == nil:
		g.place = q.sessions.available.PushBack(g)
	case !deliverable && g.place != nil:
		q.sessions.available.Remove(g.place)
		g.place = nil
	}
	if g.holder == nil && g.messages == 0 && g.state == nil {
		delete(q.sessions.byID, g.id)
	}
}

// takeFromSession is take for a consumer with a session. There is nothing for one that holds it no longer.
func (q *queue) takeFromSession(c *consumer, now time.Time, settled bool) (delivery, bool) {
	if !q.holds(c, now) || len(c.group.ready) == 0 {
		return delivery{}, false
	}
	return q.deliver(c.group.ready[0], now, settled), true
}

// outstanding returns the locked messages of a session in their order.
func (g *group) outstanding() []*message {
	messages := make([]*message, 0, len(g.locked))
	for m := range g.locked {
		messages = append(messages, m)
	}
	slices.SortFunc(messages, func(a, b *message) int { return cmp.Compare(a.sequence, b.sequence) })
	return messages
}
