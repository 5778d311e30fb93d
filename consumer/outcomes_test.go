package consumer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
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

// outcomeQueue is in every world; there is another that requires sessions and
// takes a MessageID once.
const (
	outcomeQueue       = "worklist-outcomes"
	uniqueOutcomeQueue = outcomeQueue + "-unique"
)

// telling makes a world's consumer tell outcomes.
func telling(w *world, _ *relaytest.GatewayConfig) {
	w.consumer.OutcomeQueue, w.consumer.TellOwed = outcomeQueue, 50*time.Millisecond
}

// inNoHurry gives an outcome minutes to be told, so that none is owed where the machine
// is slow.
func inNoHurry(w *world, _ *relaytest.GatewayConfig) {
	w.consumer.Hurry(func(d *consumer.Waits) { d.TellLimit = patience })
}

// Every end is told once, with what SQL says of it; a conflict is not the end of
// the action that it is about, and what waits has not ended.
func TestOutcomesAreTold(t *testing.T) {
	t.Parallel()
	eachKind(t, func(w *world) {
		w.run()
		const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		confirmed, invalid := newCreate(), newCreate().with("parameters.worklist_item.procedure.modality", "?")
		m := confirmed.message()
		m.ApplicationProperties["traceparent"] = trace
		w.send(m)
		w.until("it is confirmed", func() bool { return w.allConfirmed([]action{confirmed}) })
		w.gateway.Script(relaytest.Reply{Text: `{"status":"error","message":"invalid accession"}`})
		rejected, conflict := newCreate(), confirmed.with("parameters.worklist_item.procedure.modality", "CT")
		noRelay := newCreate()
		m = noRelay.messageTo("nowhere")
		m.ApplicationProperties["traceparent"] = "no trace" // and so not passed on
		w.send(rejected.message(), invalid.message(), m, conflict.message())
		w.drained()

		told := w.outcomes()
		if len(told) != 4 {
			w.t.Fatalf("%d outcomes, want 4: %v\n%s", len(told), told, w.log)
		}
		for _, a := range []action{confirmed, rejected, invalid, noRelay} {
			w.toldAsInSQL(told[a.id()], a.id())
		}
		if got := told[confirmed.id()].ApplicationProperties["traceparent"]; got != trace {
			w.t.Errorf("traceparent is %v, want %v", got, trace)
		}
		if _, has := told[noRelay.id()].ApplicationProperties["traceparent"]; has {
			w.t.Error("what is no trace was passed on")
		}
		for id, m := range told {
			if text := string(m.Body) + fmt.Sprint(m.ApplicationProperties); strings.Contains(text, "SYN0") {
				w.t.Errorf("outcome of %s holds an accession number: %s", id, text)
			}
		}
	}, telling, inNoHurry)
}

// A consumer that ends after the record and before the settlement has told, and
// the next delivery tells again in the same words.
func TestOutcomeToldTwiceIsTheSame(t *testing.T) {
	t.Parallel()
	for _, q := range []string{outcomeQueue, uniqueOutcomeQueue} {
		t.Run(q, func(t *testing.T) {
			t.Parallel()
			toldTwice(t, q)
		})
	}
}

func toldTwice(t *testing.T, q string) {
	eachKind(t, func(w *world) {
		w.consumer.OutcomeQueue = q
		w.run()
		acked, goOn := w.stopAfter("exchange")
		id := w.enqueue(newCreate())
		acked()
		w.broker.DropConnections()
		goOn()
		w.until("settling fails", func() bool { return strings.Contains(w.log.String(), "settled by a later delivery") })
		if n := len(w.broker.Messages(q)); n != 1 {
			w.t.Fatalf("%d outcomes were told before the settlement, want 1", n)
		}
		w.broker.ExpireLocks()
		w.drained()
		told := w.broker.Messages(q)
		if want := map[string]int{outcomeQueue: 2, uniqueOutcomeQueue: 1}[q]; len(told) < want || q == uniqueOutcomeQueue && len(told) > 1 {
			w.t.Errorf("%d outcomes, want %d\n%s", len(told), want, w.log)
		}
		row := w.confirmedIn(id, 1)
		for _, m := range told {
			if want := fmt.Sprintf("%s:confirmed:%d", id, row.ConfirmedAt.UnixMicro()); m.MessageID != want {
				w.t.Errorf("MessageID is %s, want %s", m.MessageID, want)
			}
		}
	}, telling, inNoHurry, shortLease, settlingSoonFails)
}

// What cannot be told holds nothing up, and is told later: by this consumer, or by another.
func TestOutcomesAreOwed(t *testing.T) {
	t.Parallel()
	eachKind(t, func(w *world) {
		w.consumer.OutcomeQueue = "no-such-queue"
		stop := w.run()
		actions := []action{newCreate(), newCreate(), newCreate()}
		w.enqueue(actions...)
		w.noDeadLetter()
		for _, a := range actions {
			if row := w.row(a.id()); row.Status != store.Confirmed || !row.OutcomeOwed {
				w.t.Errorf("row is %q, outcome owed %v, want confirmed and true", row.Status, row.OutcomeOwed)
			}
		}
		if n := strings.Count(w.log.String(), "outcomes cannot be told"); n != 1 {
			w.t.Errorf("logged %d times, want once", n)
		}
		stop()

		other := w.replica()
		other.OutcomeQueue, other.TellOwed = outcomeQueue, w.consumer.TellOwed
		w.broker.Disable(outcomeQueue, true)
		w.runAnother(other)
		w.until("it cannot tell either", func() bool { return strings.Count(w.log.String(), "outcomes cannot be told") == 2 })
		w.broker.Disable(outcomeQueue, false)
		for _, a := range actions {
			w.until("nothing is owed any more", func() bool { return !w.row(a.id()).OutcomeOwed })
			w.toldAsInSQL(w.outcomes()[a.id()], a.id())
		}
	}, telling)
}

// Where it cannot even be noted that an outcome is owed, the message is left, and the
// next delivery tells: nothing else would know of it.
func TestOutcomeToldWhenTheDatabaseIsBack(t *testing.T) {
	t.Parallel()
	w, p := behindProxy(t)
	telling(w, nil)
	p.loseAnswerTo("FROM worklist_outcomes")
	w.run()
	a := newCreate()
	w.enqueue(a)
	w.until("it is left", func() bool { return strings.Contains(w.log.String(), "the database is away") })
	if n := w.queueState().DeadLettered + len(w.broker.Messages(outcomeQueue)); n != 0 {
		t.Errorf("%d messages where none is expected", n)
	}
	p.cut.Store(false)
	w.until("the database is noticed", func() bool { return strings.Contains(w.log.String(), "database takes writes again") })
	w.broker.ExpireLocks()
	w.noDeadLetter()
	w.confirmedIn(a.id(), 1)
	w.frames(1)
	w.until("it is told", func() bool { return w.outcomes()[a.id()] != nil })
	w.toldAsInSQL(w.outcomes()[a.id()], a.id())
}

// Ends that no delivery sees are told too, and the message that comes after is no
// dead letter.
func TestOutcomesOfOperators(t *testing.T) {
	t.Parallel()
	eachKind(t, func(w *world) {
		w.run()
		by := store.By{Who: "ada@ops", Why: "cancelled by telephone"}
		withdrawn, resolved := newCreate(), newCreate()
		w.enqueue(withdrawn, resolved)
		for _, a := range []action{withdrawn, resolved} {
			w.until("it waits", func() bool { return w.row(a.id()).RetryCount > 0 })
		}
		w.between(func() error { return w.store.Withdraw(w.t.Context(), provider, withdrawn.id(), by) })
		w.between(func() error { return w.store.Resolve(w.t.Context(), provider, resolved.id(), store.Failed, by) })
		for a, reason := range map[*action]string{&withdrawn: store.Withdrawn, &resolved: store.Resolved} {
			w.until("it is told", func() bool { return w.outcomes()[a.id()] != nil })
			w.toldAsInSQL(w.outcomes()[a.id()], a.id())
			if got := text(w.row(a.id()).Reason); got != reason {
				w.t.Errorf("reason is %q, want %q", got, reason)
			}
		}
		w.noDeadLetter()
	}, telling, func(w *world, g *relaytest.GatewayConfig) {
		g.Mode, w.consumer.Retry.Delays = relaytest.ModeOffline, []time.Duration{300 * time.Millisecond}
	})
}

// The README's table of fields is what the message has.
func TestReadmeOutcomeMessage(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n| field | meaning |\n")
	section, _, _ = strings.Cut(section, "\n\n")
	var want []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(section, -1) {
		want = append(want, row[1])
	}
	w := running(t, storetest.URL(t, "sqlite"), telling, inNoHurry)
	id := w.enqueue(newCreate())
	w.drained()
	var body map[string]any
	w.must(json.Unmarshal(w.outcomes()[id].Body, &body))
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(body))); diff != "" {
		t.Errorf("README (-) and message (+) differ:\n%s", diff)
	}
}

// tellings are the messages in the outcome queue, in order.
func (w *world) tellings() []*azservicebus.ReceivedMessage {
	w.t.Helper()
	if len(w.broker.Messages(outcomeQueue)) == 0 {
		return nil
	}
	client, err := w.connect() // the test's own may be closed by now
	w.must(err)
	defer client.Close(context.Background())
	receiver, err := client.NewReceiverForQueue(outcomeQueue, nil)
	w.must(err)
	messages, err := receiver.PeekMessages(context.Background(), 100, nil)
	w.must(err)
	return messages
}

// outcomes are those told last, by action.
func (w *world) outcomes() map[string]*azservicebus.ReceivedMessage {
	w.t.Helper()
	byAction := make(map[string]*azservicebus.ReceivedMessage)
	for _, m := range w.tellings() {
		id, _, _ := strings.Cut(m.MessageID, ":")
		byAction[id] = m
	}
	return byAction
}

// toldAsInSQL holds what was told against the action's row.
func (w *world) toldAsInSQL(m *azservicebus.ReceivedMessage, id string) {
	w.t.Helper()
	if m == nil {
		w.t.Errorf("the outcome of %s is not told\n%s", id, w.log)
		return
	}
	row := w.row(id)
	asText := func(at *time.Time) any {
		if at == nil {
			return nil
		}
		return at.Format(time.RFC3339Nano)
	}
	orNil := func(s *string) any {
		if s == nil {
			return nil
		}
		return *s
	}
	ended := row.ConfirmedAt
	if row.Status == store.Failed {
		ended = row.FailedAt
	}
	want := map[string]any{
		"schema_version": 1.0, "action_id": id, "action_type": row.ActionType, "provider_id": row.ProviderID, "setting_id": orNil(row.SettingID),
		"status": string(row.Status), "reason": orNil(row.Reason), "phase": orNil(row.LastPhase), "attempts": float64(row.Attempts),
		"duplicate": row.Duplicate, "enqueued_at": asText(&row.EnqueuedAt), "sent_at": asText(row.SentAt),
		"confirmed_at": asText(row.ConfirmedAt), "failed_at": asText(row.FailedAt),
	}
	var got map[string]any
	w.must(json.Unmarshal(m.Body, &got))
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("SQL (-) and what was told (+) differ:\n%s", diff)
	}
	if want := fmt.Sprintf("%s:%s:%d", id, row.Status, ended.UnixMicro()); m.MessageID != want {
		w.t.Errorf("MessageID is %s, want %s", m.MessageID, want)
	}
	if got, want := text(m.SessionID), consumer.SessionID(row.ProviderID, row.SettingID); got != want {
		w.t.Errorf("session is %s, want %s", got, want)
	}
	properties := []any{m.ApplicationProperties["provider_id"], m.ApplicationProperties["status"], text(m.ContentType)}
	if diff := cmp.Diff([]any{row.ProviderID, string(row.Status), "application/json"}, properties); diff != "" {
		w.t.Errorf("properties differ:\n%s", diff)
	}
}
