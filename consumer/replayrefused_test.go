package consumer_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// replayCopyRefused: a dead letter stays where its copy, too large for the queue, is
// not taken.
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

// replayNotReadied: what SQL was not readied for is not sent again.
func replayNotReadied(t *testing.T, url string) {
	w := newWorld(t, url)
	w.gateway.SetMode(relaytest.ModeReject)
	a := w.failed()
	w.gateway.SetMode(relaytest.ModeOneShot)
	mend := w.refuse("OLD.status = 'failed'")
	report, err := w.dead().Replay(context.Background(), consumer.Replay{By: by, CanaryWait: soon})
	if q := w.queueState(); err == nil || report.Sent != 0 || q.Active != 0 || q.DeadLettered != 1 {
		t.Errorf("report %+v, %v; queue %+v", report, err, q)
	}
	mend()
	w.run()
	if report := w.replay(consumer.Replay{}); report.Confirmed != 1 {
		t.Errorf("when SQL takes it: %+v", report)
	}
	w.confirmedIn(a.id(), 2)
}

// planKnowsWhatMayHaveArrived: a dry run says what the replay would.
func planKnowsWhatMayHaveArrived(t *testing.T, url string) {
	w := running(t, url, func(w *world, _ *relaytest.GatewayConfig) { w.consumer.Retry.MostArrived = 1 })
	w.gateway.Script(relaytest.Reply{Drop: true})
	a := newCreate()
	w.enqueue(a)
	w.deadLetter(consumer.ReasonRetriesExhausted)
	mended := a.with("parameters.worklist_item.procedure.modality", "CT").body()
	plan, err := w.dead().Plan(context.Background(), consumer.Replay{By: by, With: map[string]consumer.Mended{a.id(): {Body: mended}}})
	w.must(err)
	if plan.Send != 0 || plan.Refused != 1 || !strings.Contains(plan.Items[0].Why, "new action") {
		t.Errorf("plan %+v", plan)
	}
}
