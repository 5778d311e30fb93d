package main_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
)

// books are what was enqueued, and what SQL, the gateways and the queue each
// say became of it.
type books struct {
	entries  map[string]*entry          // by action id
	rows     map[string]store.Action    // by action id
	attempts map[string][]store.Attempt // by action id, but for those that were confirmed at once
	gateways []gatewayBook
	writes   map[string][]write  // what a gateway applied, by action id
	dead     map[string][]string // reasons of dead letters, by action id; "" for one that cannot be read
	queue    queueBook
}

type gatewayBook struct {
	relaytest.Snapshot
	Writes []relaytest.Write
}

type write struct {
	gateway string
	relaytest.Write
}

type queueBook struct {
	Active, Scheduled, Locked int
	DeadLettered              int `json:"dead_lettered"`
}

func (q queueBook) left() int { return q.Active + q.Scheduled + q.Locked }

// queue is what the broker counts.
func (l *ledger) queue() queueBook {
	l.t.Helper()
	var queues []queueBook
	l.get("/broker", &queues)
	return queues[0]
}

func (l *ledger) openBooks() books {
	l.t.Helper()
	b := books{
		entries: l.entries, rows: map[string]store.Action{}, attempts: map[string][]store.Attempt{},
		dead: l.deadLetters(), queue: l.queue(),
	}
	l.get("/gateways", &b.gateways)
	b.index()
	rows, err := l.db.Actions(l.t.Context(), store.ActionFilter{Limit: 10 * len(l.entries)})
	if err != nil {
		l.t.Fatal(err)
	}
	for _, row := range rows {
		b.rows[row.ActionID] = row
		if row.Status == store.Confirmed && row.Attempts == 1 {
			continue
		}
		if _, b.attempts[row.ActionID], _, err = l.db.Action(l.t.Context(), row.ProviderID, row.ActionID); err != nil {
			l.t.Fatal(err)
		}
	}
	return b
}

// index finds the writes of each action.
func (b *books) index() {
	b.writes = map[string][]write{}
	for _, g := range b.gateways {
		for _, w := range g.Writes {
			b.writes[w.ActionID] = append(b.writes[w.ActionID], write{g.Name, w})
		}
	}
}

// deadLetters peeks at the dead-letter queue as any operator could.
func (l *ledger) deadLetters() map[string][]string {
	l.t.Helper()
	ctx := l.t.Context()
	client, err := azservicebus.NewClientFromConnectionString(l.variable("SERVICEBUS_CONNECTION_STRING"), nil)
	if err != nil {
		l.t.Fatal(err)
	}
	defer client.Close(ctx)
	receiver, err := client.NewReceiverForQueue(l.variable("SERVICEBUS_QUEUE"), &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	if err != nil {
		l.t.Fatal(err)
	}
	reasons := map[string][]string{}
	for next := int64(0); ; {
		messages, err := receiver.PeekMessages(ctx, 250, &azservicebus.PeekMessagesOptions{FromSequenceNumber: &next})
		if err != nil {
			l.t.Fatal(err)
		}
		if len(messages) == 0 {
			return reasons
		}
		for _, m := range messages {
			var body struct {
				ActionID string `json:"action_id"`
			}
			_ = json.Unmarshal(m.Body, &body) // what does not parse is nobody's
			reason := ""
			if m.DeadLetterReason != nil {
				reason = *m.DeadLetterReason
			}
			reasons[body.ActionID] = append(reasons[body.ActionID], reason)
			next = *m.SequenceNumber + 1
		}
	}
}

// variable is what the servers put into the environment.
func (p *processes) variable(name string) string {
	for _, v := range slices.Backward(p.env) {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	p.t.Fatalf("%s is not set", name)
	return ""
}

const (
	mostTold    = 30 // disagreements
	mostStories = 3
)

// balance compares the books and tells every disagreement, and of the first
// ones the whole story.
func (l *ledger) balance() {
	l.t.Helper()
	b := l.openBooks()
	found := b.disagreements()
	for i, d := range found {
		if i == mostTold {
			l.t.Errorf("... and %d more", len(found)-i)
			break
		}
		l.t.Errorf("%s", d.text)
		if i < mostStories && d.about != "" {
			l.t.Log(l.story(d.about))
		}
	}
	duplicates, retries, postponed := 0, 0, 0
	for _, row := range b.rows {
		retries += row.RetryCount
		postponed += row.Attempt - row.Attempts
		if row.Duplicate {
			duplicates++
		}
	}
	l.t.Logf("%d actions, %d dead letters, %d duplicates swallowed, %d retries, %d postponements, in %v; harm: %s",
		len(l.entries), b.queue.DeadLettered, duplicates, retries, postponed, time.Since(l.began).Round(100*time.Millisecond), &l.harm)
}

// story is all that SQL and the logs know of an action.
func (l *ledger) story(id string) string {
	var text strings.Builder
	row, attempts, _, err := l.db.Action(l.t.Context(), "", id)
	if err == nil {
		told, _ := json.Marshal(row)
		fmt.Fprintf(&text, "%s\n", told)
	}
	for _, a := range attempts {
		told, _ := json.Marshal(a)
		fmt.Fprintf(&text, "%s\n", told)
	}
	var lines []string
	for i := range l.replicas {
		log, _ := os.ReadFile(filepath.Join(l.logs, fmt.Sprintf("replica-%d.log", i)))
		for one := range bytes.Lines(log) {
			if bytes.Contains(one, []byte(id)) {
				lines = append(lines, fmt.Sprintf("%d %s", i, one))
			}
		}
	}
	slices.SortFunc(lines, func(a, b string) int { return cmp.Compare(a[2:], b[2:]) }) // by their time
	return text.String() + strings.Join(lines, "")
}
