package consumer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// dead is the world's dead-letter queue.
func (w *world) dead() *consumer.DeadLetters {
	d := &consumer.DeadLetters{Connect: w.connect, Queue: queue, Store: w.store, Now: w.now}
	d.Hurry(func(d *consumer.Waits) { d.CanaryPoll, d.GatherRoutes = 10*time.Millisecond, 50*time.Millisecond })
	if w.hurryDead != nil {
		d.Hurry(w.hurryDead)
	}
	return d
}

// letters are the dead letters that f selects, in order.
func (w *world) letters(f consumer.DeadLetterFilter) []consumer.DeadLetter {
	w.t.Helper()
	letters := []consumer.DeadLetter{}
	w.must(w.dead().Each(context.Background(), f, func(l consumer.DeadLetter) error {
		letters = append(letters, l)
		return nil
	}))
	return letters
}

// What an operator is told of each dead letter.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		w.gateway.SetMode(relaytest.ModeReject)
		stop := w.run()
		rejected, invalid, foreign := newCreate(), newCreate().with("schema_version", 2), newCreate()
		w.enqueue(rejected)
		w.until("it is dead-lettered", func() bool { return w.queueState().DeadLettered == 1 })
		w.enqueue(invalid)
		w.until("it is dead-lettered", func() bool { return w.queueState().DeadLettered == 2 })
		stop()
		stolen := rejected.message()
		stolen.ApplicationProperties["provider_id"] = "hull"
		again := foreign.messageTo("york")
		again.ApplicationProperties["replays"] = int64(3)
		w.send(stolen, again, &azservicebus.Message{Body: []byte("[]")})
		w.bury(because("ActionConflict", "in use"), &azservicebus.DeadLetterOptions{}, odd)
		gateway := w.relay.Addr() + "/" + provider
		row, other := w.row(rejected.id()), w.row(invalid.id())

		letters := w.letters(consumer.DeadLetterFilter{})
		if len(letters) != 5 {
			t.Fatalf("%d dead letters, want 5", len(letters))
		}
		for i, want := range []consumer.DeadLetter{
			{
				SequenceNumber: 1, ActionID: rejected.id(), ActionType: "worklist.create_item", ProviderID: provider, AccessionNumber: rejected.accession(),
				Reason: "GatewayRejected", Gateway: gateway, Route: gateway, Phase: "ack_error", DeadLetteredAt: *row.FailedAt, Action: &row,
			}, {
				SequenceNumber: 2, ActionID: invalid.id(), ActionType: "worklist.create_item", ProviderID: provider, AccessionNumber: invalid.accession(),
				Reason: "UnsupportedSchema", Gateway: gateway, Route: gateway, Fault: "UnsupportedSchema: schema_version: not 1", DeadLetteredAt: *other.FailedAt, Action: &other,
			}, {
				SequenceNumber: 3, ActionID: rejected.id(), ActionType: "worklist.create_item", ProviderID: "hull", AccessionNumber: rejected.accession(),
				Reason: "ActionConflict",
			}, {
				SequenceNumber: 4, ActionID: foreign.id(), ActionType: "worklist.create_item", ProviderID: "york", AccessionNumber: foreign.accession(),
				Reason: "DeadLettered", Replays: 3,
			}, {
				SequenceNumber: 5, Unreadable: true,
			},
		} {
			got := letters[i]
			if !want.Unreadable && (len(got.Body) == 0 || got.Bytes != len(got.Body) || got.EnqueuedAt.IsZero()) {
				t.Errorf("%d: %d bytes, enqueued at %v", i, got.Bytes, got.EnqueuedAt)
			}
			if want.DeadLetteredAt.IsZero() {
				want.DeadLetteredAt = got.EnqueuedAt
			}
			want.EnqueuedAt, want.Bytes, want.Body, want.Properties = got.EnqueuedAt, got.Bytes, got.Body, got.Properties
			want.Description = got.Description
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%d: %s", i, diff)
			}
		}
		told, err := json.Marshal(letters)
		w.must(err)
		leaktest.Check(t, "what is told", string(told))
	})
}

func TestDeadLetterFilter(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 5, 6, 7, 8, 9, 0, time.UTC)
	l := consumer.DeadLetter{
		SequenceNumber: 12, ActionID: "0b8f7a2c-5a66-4b61-9f43-0d0f5e1c2a3b", ProviderID: "leeds", AccessionNumber: "SYN0001",
		Reason: "NoRelay", Gateway: "contoso.example/site/hc-leeds", DeadLetteredAt: at,
	}
	unreadable := consumer.DeadLetter{SequenceNumber: 13, Unreadable: true}
	for i, c := range []struct {
		filter           consumer.DeadLetterFilter
		letter, unlisted bool
	}{
		{consumer.DeadLetterFilter{}, true, true},
		{consumer.DeadLetterFilter{Reason: "norelay"}, true, false},
		{consumer.DeadLetterFilter{Reason: "NoRela"}, false, false},
		{consumer.DeadLetterFilter{ProviderID: "LEEDS"}, true, false},
		{consumer.DeadLetterFilter{ProviderID: "hull"}, false, false},
		{consumer.DeadLetterFilter{ActionID: "0B8F7A2C-5A66-4B61-9F43-0D0F5E1C2A3B"}, true, false},
		{consumer.DeadLetterFilter{AccessionNumber: "syn0001"}, true, false},
		{consumer.DeadLetterFilter{Gateway: "contoso.example/site/HC-Leeds"}, true, false},
		{consumer.DeadLetterFilter{Gateway: "site/hc-leeds"}, true, false},
		{consumer.DeadLetterFilter{Gateway: "hc-leeds"}, true, false},
		{consumer.DeadLetterFilter{Gateway: "leeds"}, false, false},
		{consumer.DeadLetterFilter{Since: at}, true, false},
		{consumer.DeadLetterFilter{Since: at.Add(1)}, false, false},
		{consumer.DeadLetterFilter{Until: at}, false, false},
		{consumer.DeadLetterFilter{Until: at.Add(1)}, true, false},
		{consumer.DeadLetterFilter{Only: []string{"12"}}, true, false},
		{consumer.DeadLetterFilter{Only: []string{"13", "0B8F7A2C-5A66-4B61-9F43-0D0F5E1C2A3B"}}, true, true},
		{consumer.DeadLetterFilter{Only: []string{}}, false, false},
		{consumer.DeadLetterFilter{Only: []string{"12"}, Reason: "Expired"}, false, false},
		{consumer.DeadLetterFilter{Only: []string{"13"}, Reason: "Expired"}, false, true},
	} {
		if got := c.filter.Selects(l); got != c.letter {
			t.Errorf("%d: %+v selects the letter: %v", i, c.filter, got)
		}
		if got := c.filter.Selects(unreadable); got != c.unlisted {
			t.Errorf("%d: %+v selects the unreadable one: %v", i, c.filter, got)
		}
	}
}

// Pages are turned, and the visitor may end it.
func TestEachDeadLetter(t *testing.T) {
	t.Parallel()
	const many = 530
	w := newWorld(t, storetest.URL(t, "sqlite"))
	ids := w.buryMany(many, provider)
	var seen []string
	for _, l := range w.letters(consumer.DeadLetterFilter{}) {
		seen = append(seen, l.ActionID)
	}
	if diff := cmp.Diff(ids, seen); diff != "" {
		t.Error(diff)
	}
	wanted := []string{ids[3], ids[500], strconv.Itoa(400)}
	if letters := w.letters(consumer.DeadLetterFilter{Only: wanted}); len(letters) != 3 || letters[1].SequenceNumber != 400 {
		t.Errorf("%d letters of three that were named", len(letters))
	}
	for _, end := range []error{consumer.ErrStop, errors.New("enough")} {
		n := 0
		err := w.dead().Each(context.Background(), consumer.DeadLetterFilter{}, func(consumer.DeadLetter) error {
			if n++; n == 300 {
				return end
			}
			return nil
		})
		if n != 300 || end == consumer.ErrStop && err != nil || end != consumer.ErrStop && err != end {
			t.Errorf("ended after %d with %v, want 300 and %v", n, err, end)
		}
	}
	w.clear()
}

// buryMany makes n dead letters of creates for a provider, without a consumer
// and without rows, and returns their action ids.
func (w *world) buryMany(n int, provider string) (ids []string) {
	w.t.Helper()
	var messages []*azservicebus.Message
	for range n {
		a := newCreate()
		ids = append(ids, a.id())
		messages = append(messages, a.messageTo(provider))
	}
	w.buryMessages(messages...)
	return ids
}

// buryMessages dead-letters messages as the broker does whose time to live ends.
func (w *world) buryMessages(messages ...*azservicebus.Message) {
	w.t.Helper()
	before, expiry := w.queueState().DeadLettered, time.Millisecond
	sender := w.link()
	for page := range slices.Chunk(messages, 500) {
		batch, err := sender.NewMessageBatch(context.Background(), nil)
		w.must(err)
		for _, m := range page {
			m.TimeToLive = &expiry
			if w.sessions {
				w.must(sender.SendMessage(context.Background(), m, nil)) // a batch takes the session of its first
			} else {
				w.must(batch.AddMessage(m, nil))
			}
		}
		if !w.sessions {
			w.must(sender.SendMessageBatch(context.Background(), batch, nil))
		}
	}
	w.until(fmt.Sprintf("%d are dead-lettered", len(messages)), func() bool {
		return w.queueState().DeadLettered == before+len(messages)
	})
}

// clear empties the dead-letter queue: looking for leaks takes long in a long one.
func (w *world) clear() {
	w.t.Helper()
	dead, err := w.client.NewReceiverForQueue(queue, &azservicebus.ReceiverOptions{
		SubQueue: azservicebus.SubQueueDeadLetter, ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete,
	})
	w.must(err)
	defer dead.Close(context.Background())
	for w.queueState().DeadLettered > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		_, err := dead.ReceiveMessages(ctx, 1000, &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: time.Millisecond})
		cancel()
		w.must(err)
	}
}
