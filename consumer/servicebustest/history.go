package servicebustest

import "time"

// history remembers message ids for the duplicate detection of one queue. The queue's mutex guards it.
type history struct {
	window time.Duration
	ids    map[string]struct{}
	order  []seenID // oldest first
}

type seenID struct {
	id    string
	until time.Time
}

func newHistory(window time.Duration) history {
	return history{window: window, ids: make(map[string]struct{})}
}

// seen reports whether id was seen within the window, and remembers it if not. Ids of different types differ; a message without
// an id is never a duplicate.
func (h *history) seen(now time.Time, id []byte) bool {
	h.forget(now)
	if len(id) == 0 {
		return false
	}
	if _, known := h.ids[string(id)]; known {
		return true
	}
	key := string(id)
	h.ids[key] = struct{}{}
	h.order = append(h.order, seenID{id: key, until: now.Add(h.window)})
	return false
}

func (h *history) forget(now time.Time) {
	n := 0
	for n < len(h.order) && !h.order[n].until.After(now) {
		delete(h.ids, h.order[n].id)
		n++
	}
	clear(h.order[:n])
	h.order = h.order[n:]
}
