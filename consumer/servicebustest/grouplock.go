package servicebustest

import "time"

// sessionWait is how long an accept of the next session waits if the client does not say.
const sessionWait = time.Minute

// accept has a consumer ask for the session named id, or for the next available one if id is nil and for that wait until a moment.
// It is answered at once or later, as accepted tells; later, the consumer is woken.
func (q *queue) accept(c *consumer, id *string, now, until time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c.timeout = alarm{index: -1, owner: c}
	switch {
	case id != nil:
		g := q.sessionOf(*id)
		if g.holder != nil && !g.lockedUntil.After(now) {
			q.lose(g, now)
			g = q.sessionOf(*id)
		}
		if g.holder != nil {
			c.refused = errSessionLocked
			return
		}
		q.grant(g, c, now)
	case q.sessions.available.Len() > 0:
		q.grant(q.sessions.available.Front().Value.(*group), c, now)
	default:
		c.element = q.sessions.wanted.PushBack(c)
		q.setAlarm(&c.timeout, until)
	}
}

// ring ends a consumer's waiting for a session.
func (c *consumer) ring(q *queue, _ time.Time) {
	q.unwant(c)
	c.refused = errNoSession
	c.wake()
}

func (q *queue) unwant(c *consumer) {
	if c.element != nil {
		q.sessions.wanted.Remove(c.element)
		c.element = nil
	}
	q.setAlarm(&c.timeout, time.Time{})
}

// grant locks a free session for a consumer and wakes it.
func (q *queue) grant(g *group, c *consumer, now time.Time) {
	if g.place != nil {
		q.sessions.available.Remove(g.place)
	}
	q.unwant(c)
	g.holder, c.group = c, g
	g.place = q.sessions.held.PushBack(g)
	q.setLock(g, now)
	c.wake()
}

func (q *queue) setLock(g *group, now time.Time) {
	g.lockedUntil = now.Add(q.settings.LockDuration)
	q.setAlarm(&g.alarm, g.lockedUntil)
}

// acceptance is what has become of a consumer's asking for a session. If it is neither granted nor refused it is to come.
type acceptance struct {
	granted bool
	id      string
	until   time.Time
	refused *fault
}

func (q *queue) accepted(c *consumer) acceptance {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c.group == nil {
		return acceptance{refused: c.refused}
	}
	return acceptance{granted: true, id: c.group.id, until: c.group.lockedUntil}
}

// holds reports whether a consumer has the lock of its session. A lock that has run out a moment ago is lost by that.
func (q *queue) holds(c *consumer, now time.Time) bool {
	g := c.group
	if g == nil || g.holder != c {
		return false
	}
	if !g.lockedUntil.After(now) {
		q.lose(g, now)
		return false
	}
	return true
}

// stillHolds is holds for a caller that does not hold the mutex.
func (q *queue) stillHolds(c *consumer, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.holds(c, now)
}

// ring ends a session lock that has run out.
func (g *group) ring(q *queue, now time.Time) { q.lose(g, now) }

// lose ends a session lock that has run out: a delivery is counted for every message that was locked with it.
func (q *queue) lose(g *group, now time.Time) {
	for _, m := range g.outstanding() {
		q.failDelivery(m, now)
	}
	holder := g.holder
	q.free(g)
	holder.wake() // its link is to be detached
}

// leaveSession gives a session back, or ends the waiting for one. What was locked returns to its place, uncounted.
func (q *queue) leaveSession(c *consumer, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.unwant(c)
	if !q.holds(c, now) {
		return
	}
	for _, m := range c.group.outstanding() {
		q.unlock(m, now)
	}
	q.free(c.group)
}

// quitWaiting ends the waiting for a session and leaves a session that is held as it is.
func (q *queue) quitWaiting(c *consumer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.unwant(c)
}

// free ends a session lock.
func (q *queue) free(g *group) {
	q.sessions.held.Remove(g.place)
	g.holder, g.place, g.lockedUntil = nil, nil, time.Time{}
	q.setAlarm(&g.alarm, time.Time{})
	q.review(g)
}

// renewSession gives the lock of a consumer's session its full duration again and returns until when it holds.
func (q *queue) renewSession(c *consumer, now time.Time) (time.Time, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.holds(c, now) {
		return time.Time{}, errSessionLockLost
	}
	q.setLock(c.group, now)
	return c.group.lockedUntil, nil
}
