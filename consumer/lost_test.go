package consumer_test

import (
	"bytes"
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
)

// copyRefused is the situation of an action that is to be tried again, and whose copy
// the broker does not take. Until a copy stands for the action, its message does. With
// the first key that the gateway is to be reached with, the try comes to nothing.
func copyRefused(t *testing.T, url, firstKey string) {
	w := newWorld(t, url)
	keys := w.consumer.Secret
	var tried atomic.Bool
	w.consumer.Secret = func(variable string) string {
		if tried.Swap(true) {
			return keys(variable)
		}
		w.broker.RefuseTokens(time.Hour) // links that stand go on: what is received can be completed
		return firstKey
	}
	w.run()
	id := w.enqueue(newCreate())
	w.until("its copy is refused", func() bool { return strings.Contains(w.log.String(), "settled by a later delivery") })
	if q := w.queueState(); q.Active+q.Locked+q.Scheduled+q.DeadLettered != 1 {
		t.Fatalf("the action is lost: %+v\n%s", q, w.log)
	}
	w.broker.RefuseTokens(time.Nanosecond)
	w.broker.ExpireLocks()
	w.noDeadLetter()
	w.hasRow(id, store.Confirmed, "", "")
	w.writtenOnce(1)
}

// replayCopyRefused is the same for a dead letter, replayed with content that is too
// large for the queue.
func replayCopyRefused(t *testing.T, url string) {
	w := newWorld(t, url, func(w *world, _ *relaytest.GatewayConfig) { w.largest = 8 << 10 })
	a := newCreate()
	w.enqueue(a)
	w.bury(because("MaxDeliveryCountExceeded", ""))
	large := append(a.body(), bytes.Repeat([]byte(" "), w.largest)...)
	report, err := w.dead().Replay(context.Background(), consumer.Replay{By: by, With: map[string]consumer.Mended{a.id(): {Body: large}}})
	if err == nil && report.Refused != 1 || report.Sent != 0 {
		t.Errorf("report %+v, %v", report, err)
	}
	letters := w.letters(consumer.DeadLetterFilter{})
	if len(letters) != 1 || letters[0].ActionID != a.id() {
		t.Errorf("%d dead letters are left, want the one whose copy was not taken", len(letters))
	}
}

// expiresWhileDialled: the clinic day ends while the way to the gateway is made.
func expiresWhileDialled(t *testing.T, url string) {
	var w *world
	w, _ = withTokens(t, url, func(_ int32, audience string) string {
		w.ahead.Store(int64(49 * time.Hour))
		return relaytest.SAS(audience, sendKey, time.Now().Add(time.Hour))
	})
	w.run()
	id := w.enqueue(newCreate())
	w.deadLetter(consumer.ReasonExpired)
	w.hasRow(id, store.Failed, consumer.ReasonExpired, "")
	w.nothingSent()
}

// relayChangesDuringReplay: what was to go to one gateway, which has proved that
// it lives, is not sent to another, which has not.
func relayChangesDuringReplay(t *testing.T, url string) {
	w := running(t, url)
	w.gateway.SetMode(relaytest.ModeReject)
	all := w.fail(4)
	w.gateway.SetMode(relaytest.ModePersistent)
	elsewhere := w.addGateway("elsewhere", relaytest.ModePersistent)
	report := w.replay(consumer.Replay{Progress: func(p consumer.ReplayProgress) {
		if p.Cleared == 1 && p.Sent == 1 {
			w.addRelay(provider, nil, w.relay.Addr(), elsewhere.Name(), "LEEDS_KEY")
		}
	}})
	if report.Sent != 1 || report.Refused != 3 || !strings.Contains(report.Refusals[0].Why, "start again") {
		t.Errorf("report %+v", report)
	}
	if n := w.queueState().DeadLettered; n != 3 || len(elsewhere.Frames()) != 0 {
		t.Errorf("%d dead letters are left, want 3; %d frames went elsewhere", n, len(elsewhere.Frames()))
	}
	w.ahead.Store(int64(time.Minute)) // for the change to count
	if report = w.replay(consumer.Replay{}); report.Sent != 3 || report.Confirmed != 1 {
		t.Errorf("started again: %+v", report)
	}
	w.until("all are confirmed", func() bool { return w.allConfirmed(all) })
	if n := len(elsewhere.Snapshot().Items); n != 3 {
		t.Errorf("the other gateway holds %d items, want 3", n)
	}
}

// conflictHoldsNothing: an item that is not ours gives our action no claim to its
// accession number.
func conflictHoldsNothing(t *testing.T, url string) {
	w := running(t, url)
	w.gateway.Script(relaytest.Reply{Text: `{"status":"exists"}`})
	refused := newCreate()
	w.enqueue(refused)
	w.deadLetter(consumer.ReasonAccessionConflict)
	if a := w.attempts(refused.id())[0]; a.Sent != store.SentNo || !a.Answered {
		t.Errorf("the attempt is %q, answered %v: want no, since the item is another's", a.Sent, a.Answered)
	}
	// The other item was taken away, and the producer asks anew.
	id := w.enqueue(newCreate().with("parameters.worklist_item.accession_number", refused.accession()))
	w.drained()
	w.confirmedIn(id, 1)
	w.writtenOnce(1)
}
