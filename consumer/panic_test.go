package consumer_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/store"
)

// A message on which handling panics is given back twice, then dead-lettered;
// others are not touched by it.
func panicBeforeTheFrame(t *testing.T, url string) {
	w := newWorld(t, url)
	keys := w.consumer.Secret
	w.consumer.Secret = func(variable string) string {
		if variable == "BROKEN" {
			panic(leaktest.Name)
		}
		return keys(variable)
	}
	w.addRelay("hull", nil, w.relay.Addr(), provider, "BROKEN")
	w.run()
	broken, good := newCreate(), newCreate()
	m := broken.message()
	m.ApplicationProperties["provider_id"] = "hull"
	w.send(m, good.message())
	w.deadLetter(consumer.ReasonInternalError)
	w.hasRow(broken.id(), store.Failed, consumer.ReasonInternalError, "")
	w.confirmedIn(good.id(), 1)
	w.frames(1)
}

// Once the frame may have been sent, a panic ends the action: another try
// would send it again.
func panicAfterTheFrame(t *testing.T, url string) {
	w := newWorld(t, url)
	var panicked atomic.Bool
	w.consumer.Now = func() time.Time {
		if w.gateway != nil && w.sentFrames() > 0 && panicked.CompareAndSwap(false, true) {
			panic("the clock stopped")
		}
		return w.now()
	}
	w.run()
	id := w.enqueue(newCreate())
	w.deadLetter(consumer.ReasonInternalError)
	w.hasRow(id, store.Failed, consumer.ReasonInternalError, "")
	w.frames(1)
	if attempts := w.attempts(id); len(attempts) != 1 || attempts[0].Sent != store.SentMaybe || attempts[0].Answered {
		t.Errorf("attempts %+v, want one that may have arrived and was not answered", attempts)
	}
}
