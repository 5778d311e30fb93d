//go:build unix

package consumer_test

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// line is one line of the example's input.
type line struct {
	Provider    string  `json:"provider_id"`
	Setting     *string `json:"setting_id"`
	Traceparent string  `json:"traceparent,omitempty"`
	Action      action  `json:"action"`
}

// producerLines are actions for gateways of all kinds of names.
func producerLines() []line {
	named := func(name string) *string { return &name }
	return []line{
		{Provider: provider, Action: newCreate()},
		{Provider: provider, Action: newCreate(), Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		{Provider: provider, Setting: named("north"), Action: newCreate()},
		{Provider: "St. Mary's (north)*!", Setting: named("a/b c~_-$&+,:;=?@%[]\"\\"), Action: newCreate()},
		{Provider: "Zürich", Setting: named("日本 😀"), Action: newCreate()},
		{Provider: strings.Repeat("😀", 64), Setting: named(strings.Repeat("é", 64)), Action: newCreate()},
		{Provider: strings.Repeat("p", 64), Setting: named(strings.Repeat("s", 63)), Action: newCreate()}, // a session id of 128 characters
		{Provider: strings.Repeat("p", 64), Setting: named(strings.Repeat("s", 64)), Action: newCreate()}, // of one more
	}
}

// testProducer runs the README's example: its messages must be those that
// [consumer.Encode] makes, and each must get to its gateway, once.
func testProducer(t *testing.T, js javascript, change ...func(*world, *relaytest.GatewayConfig)) {
	w := newWorld(t, storetest.URL(t, "sqlite"), change...)
	lines := producerLines()
	var input []byte
	for _, l := range lines {
		text, err := json.Marshal(l)
		w.must(err)
		input = append(append(input, text...), '\n')
		if l.Provider != provider || l.Setting != nil {
			w.addRelay(l.Provider, l.Setting, w.relay.Addr(), provider, "LEEDS_KEY")
		}
	}
	js.run(w, input, "enqueue.mjs")
	for i, m := range w.enqueued(len(lines)) {
		w.isEncoded(m, lines[i])
	}
	w.run()
	w.noDeadLetter()
	js.run(w, input, "enqueue.mjs") // an exact resend, when nothing is under way any more
	w.noDeadLetter()
	for _, l := range lines {
		w.hasRow(l.Action.id(), store.Confirmed, "", "")
	}
	sent := map[string]map[string]any{}
	for _, frame := range w.gateway.Frames() {
		a := fromJSON[map[string]any](w, frame)
		sent[a["action_id"].(string)] = a
	}
	if n := w.sentFrames(); n != len(lines) {
		t.Errorf("%d frames, want one of each of %d actions", n, len(lines))
	}
	for _, l := range lines {
		if diff := cmp.Diff(fromJSON[map[string]any](w, l.Action.body()), sent[l.Action.id()]); diff != "" {
			t.Error(diff)
		}
	}
}

// enqueued are the n messages that wait in the queue, in the order in which they were sent.
func (w *world) enqueued(n int) (all []*azservicebus.ReceivedMessage) {
	w.t.Helper()
	if !w.sessions {
		receiver, err := w.client.NewReceiverForQueue(queue, nil)
		w.must(err)
		defer receiver.Close(context.Background())
		all = w.peek(receiver)
	}
	for _, s := range w.broker.Sessions(queue) {
		receiver, err := w.client.AcceptSessionForQueue(context.Background(), queue, s.ID, nil)
		w.must(err)
		all = append(all, w.peek(receiver)...)
		w.must(receiver.Close(context.Background()))
	}
	slices.SortFunc(all, func(a, b *azservicebus.ReceivedMessage) int { return int(*a.SequenceNumber - *b.SequenceNumber) })
	if len(all) != n {
		w.t.Fatalf("%d messages in the queue, want %d", len(all), n)
	}
	return all
}

// peeking is what a Receiver and a SessionReceiver have in common.
type peeking interface {
	PeekMessages(context.Context, int, *azservicebus.PeekMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
}

func (w *world) peek(receiver peeking) []*azservicebus.ReceivedMessage {
	w.t.Helper()
	messages, err := receiver.PeekMessages(context.Background(), 100, nil)
	w.must(err)
	return messages
}

// isEncoded compares a message with the one that a producer in Go would send.
func (w *world) isEncoded(got *azservicebus.ReceivedMessage, l line) {
	w.t.Helper()
	want, err := consumer.Encode(l.Provider, l.Setting, l.Action.body())
	w.must(err)
	if l.Traceparent != "" {
		want.ApplicationProperties["traceparent"] = l.Traceparent
	}
	if _, err := consumer.Encode(l.Provider, l.Setting, got.Body); err != nil {
		w.t.Errorf("the consumer does not take the body: %v", err)
	}
	type content struct {
		ID, Session, Type string
		Properties        map[string]any
		Body              action
	}
	diff := cmp.Diff(
		content{*want.MessageID, *want.SessionID, *want.ContentType, want.ApplicationProperties, fromJSON[action](w, want.Body)},
		content{got.MessageID, text(got.SessionID), text(got.ContentType), got.ApplicationProperties, fromJSON[action](w, got.Body)},
	)
	if diff != "" {
		w.t.Error(diff)
	}
}

// The README's example is the script that is tested.
func TestReadmeJavaScript(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("testdata/js/enqueue.mjs")
	if err != nil {
		t.Fatal(err)
	}
	_, told, _ := strings.Cut(string(readme), "\n```js\n")
	told, _, _ = strings.Cut(told, "```\n")
	if diff := cmp.Diff(string(script), told); diff != "" {
		t.Errorf("the README's block of js is not testdata/js/enqueue.mjs: %s", diff)
	}
}

// patient makes locks that outlast a script on a machine with much to do.
func patient(w *world, _ *relaytest.GatewayConfig) { w.lock = time.Minute }
