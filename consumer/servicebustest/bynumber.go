package servicebustest

import (
	"slices"
	"time"
)

// peek returns copies of at most limit messages from a sequence number on, in any state, and stops once they exceed maxBytes.
// With c it shows the messages of the session that c holds and of no other.
func (q *queue) peek(c *consumer, now time.Time, sequence int64, limit, maxBytes int) ([]delivery, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c != nil && !q.holds(c, now) {
		return nil, errSessionLockLost
	}
	var seen []delivery
	q.all.from(sequence, func(m *message) bool {
		if c != nil && m.group != c.group {
			return true
		}
		if len(seen) == limit || len(seen) > 0 && m.size > maxBytes {
			return false
		}
		maxBytes -= m.size
		d := m.delivery()
		if d.state == stateLocked {
			d.state = stateActive // a peek does not tell the lock
		}
		seen = append(seen, d)
		return true
	})
	return seen, nil
}

// takeDeferred returns deferred messages by their sequence numbers: locked, or removed if settled is true. All or none. With c
// they must be of the session that c holds.
func (q *queue) takeDeferred(c *consumer, sequences []int64, now time.Time, settled bool) ([]delivery, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c != nil && !q.holds(c, now) {
		return nil, errSessionLockLost
	}
	found, err := q.inState(stateDeferred, sequences)
	if err != nil {
		return nil, err
	}
	if c != nil && slices.ContainsFunc(found, func(m *message) bool { return m.group != c.group }) {
		return nil, errMessageNotFound
	}
	taken := make([]delivery, len(found))
	for i, m := range found {
		taken[i] = q.deliver(m, now, settled)
	}
	return taken, nil
}

// cancel removes scheduled messages by their sequence numbers. All or none.
func (q *queue) cancel(sequences []int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	found, err := q.inState(stateScheduled, sequences)
	if err != nil {
		return err
	}
	for _, m := range found {
		q.remove(m)
	}
	return nil
}

func (q *queue) inState(state messageState, sequences []int64) ([]*message, error) {
	found := make([]*message, 0, len(sequences))
	chosen := make(map[int64]bool, len(sequences))
	for _, sequence := range sequences {
		m := q.all.find(sequence)
		if m == nil || m.state != state || chosen[sequence] {
			return nil, errMessageNotFound
		}
		chosen[sequence] = true
		found = append(found, m)
	}
	return found, nil
}
