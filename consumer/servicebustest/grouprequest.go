package servicebustest

import (
	"slices"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

// session returns the link whose session a request is about, nil if the queue has no sessions.
func (c call) session() (*consumer, error) {
	switch {
	case !c.queue.sessionful():
		return nil, nil
	case c.link != nil:
		return c.link, nil
	case c.named: // by a client that does not know yet that its link is gone
		return nil, errSessionLockLost
	}
	return nil, errSessionRequired
}

// namedSession is session for a request that names its session and can do without none.
func (c call) namedSession() (*consumer, error) {
	id, ok := amqp.Text(c.args.Get("session-id"))
	if !ok {
		return nil, errBadRequest("the request needs a session-id")
	}
	link, err := c.session()
	switch {
	case err != nil:
		return nil, err
	case link == nil:
		return nil, errNotSessionful
	case c.queue.accepted(link).id != id:
		return nil, errSessionLockLost
	}
	return link, nil
}

func renewSessionLock(c call) (amqp.Map, error) {
	link, err := c.namedSession()
	if err != nil {
		return nil, err
	}
	until, err := c.queue.renewSession(link, c.now)
	if err != nil {
		return nil, err
	}
	return amqp.Map{{Key: "expiration", Value: until}}, nil
}

func getSessionState(c call) (amqp.Map, error) {
	link, err := c.namedSession()
	if err != nil {
		return nil, err
	}
	state, err := c.queue.sessionState(link, c.now)
	if err != nil {
		return nil, err
	}
	var value any // null unless there is a state
	if state != nil {
		value = state
	}
	return amqp.Map{{Key: "session-state", Value: value}}, nil
}

func setSessionState(c call) (amqp.Map, error) {
	link, err := c.namedSession()
	if err != nil {
		return nil, err
	}
	state, ok := c.args.Get("session-state").([]byte)
	if !ok && c.args.Get("session-state") != nil {
		return nil, errBadRequest("the session-state is neither binary nor null")
	}
	if err := c.queue.setSessionState(link, state, c.now); err != nil {
		return nil, err
	}
	return amqp.Map{}, nil
}

// noMoment is the last-updated-time of a client that asks for all sessions: what DateTime.MaxValue of .NET looks like on the wire.
var noMoment = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)

func getMessageSessions(c call) (amqp.Map, error) {
	since, ok := c.args.Get("last-updated-time").(time.Time)
	skip, ok2 := c.args.Get("skip").(int32)
	top, ok3 := c.args.Get("top").(int32)
	switch {
	case !ok || !ok2 || !ok3 || skip < 0 || top < 0:
		return nil, errBadRequest("get-message-sessions needs a last-updated-time, a skip and a top")
	case !c.queue.sessionful():
		return nil, errNotSessionful
	}
	listed := (*group).listed
	if since.Before(noMoment) {
		listed = func(g *group) bool { return g.stateAt.After(since) }
	}
	ids := c.queue.sessionIDs(listed)
	ids = ids[min(int(skip), len(ids)):]
	ids = ids[:min(int(top), len(ids))]
	if len(ids) == 0 {
		return nil, nil
	}
	array := make(amqp.Array, len(ids))
	for i, id := range ids {
		array[i] = id
	}
	return amqp.Map{{Key: "skip", Value: skip + int32(len(ids))}, {Key: "sessions-ids", Value: array}}, nil
}

// listed reports whether a session has something to receive, or a state.
func (g *group) listed() bool {
	return len(g.ready) > 0 || len(g.locked) > 0 || g.state != nil
}

// sessionIDs returns the sessions for which listed is true, in the order of their ids.
func (q *queue) sessionIDs(listed func(*group) bool) []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var ids []string
	for id, g := range q.sessions.byID {
		if listed(g) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (q *queue) sessionState(c *consumer, now time.Time) ([]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.holds(c, now) {
		return nil, errSessionLockLost
	}
	return c.group.state, nil
}

// setSessionState sets the state that is kept with a session. An empty one clears it: clients that mean null send that.
func (q *queue) setSessionState(c *consumer, state []byte, now time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.holds(c, now) {
		return errSessionLockLost
	}
	if len(state) == 0 {
		state = nil
	}
	c.group.state, c.group.stateAt = state, now
	return nil
}
