package consumer

import "sync"

// turns lets the messages of one accession number claim their actions in the
// order in which they were received, although each is handled by a goroutine of
// its own: an update that claimed before its create would not see it. (What the SDK
// releases and receives again may still come late; the gateway's "not found"
// and a retry mend that, and sessions keep the order.) The zero value is ready.
type turns struct {
	mu   sync.Mutex // guards last
	last map[turnKey]chan struct{}
}

type turnKey struct{ provider, accession string }

// take joins the queue of an accession number. before is closed when the turn
// comes; own is closed by pass, which must be called and may be called again.
func (t *turns) take(provider, accession string) (before, own <-chan struct{}, pass func()) {
	mine := make(chan struct{})
	if accession == "" {
		return passed, mine, sync.OnceFunc(func() { close(mine) })
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last == nil {
		t.last = make(map[turnKey]chan struct{})
	}
	key := turnKey{provider, accession}
	before = passed
	if earlier, ok := t.last[key]; ok {
		before = earlier
	}
	t.last[key] = mine
	return before, mine, sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		close(mine)
		if t.last[key] == mine {
			delete(t.last, key)
		}
	})
}

// passed is the turn before the first.
var passed = func() <-chan struct{} {
	closed := make(chan struct{})
	close(closed)
	return closed
}()
