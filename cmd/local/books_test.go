package main

import (
	"strings"
	"testing"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
)

// agreed are the books as they are when every sample met its expectation.
func agreed(t *testing.T) ([]sample, books) {
	t.Helper()
	list, err := demoSamples(1, day)
	if err != nil {
		t.Fatal(err)
	}
	b := books{fates: map[string]fate{}, rows: map[string]row{}, queue: servicebustest.QueueState{Name: queueName}}
	items := map[string][]relaytest.Item{}
	for _, s := range list {
		b.fates[s.label] = fate{settled: true, reason: string(s.reason)}
		if s.reason != "" {
			b.queue.DeadLettered++
		}
		if s.row != "" {
			r := row{Action: store.Action{ActionID: s.actionID, Status: s.row, Attempts: s.sends}}
			if s.reason != "" {
				reason := string(s.reason)
				r.Reason = &reason
			}
			b.rows[s.actionID] = r
		}
		switch s.item {
		case "":
		case "SCHEDULED":
			items[s.gateway] = append(items[s.gateway], relaytest.Item{AccessionNumber: s.accession, ActionID: s.actionID, Status: s.item, Writes: 1})
		default:
			for i := range items[s.gateway] {
				if item := &items[s.gateway][i]; item.AccessionNumber == s.accession {
					item.Status = s.item
					item.Writes++
				}
			}
		}
	}
	for _, name := range []string{oneShotGateway, persistentGateway, rejectingGateway} {
		b.gateways = append(b.gateways, relaytest.Snapshot{Name: name, Items: items[name]})
	}
	return list, b
}

func TestBooksAgree(t *testing.T) {
	t.Parallel()
	list, b := agreed(t)
	if wrong := b.disagreements(list); len(wrong) > 0 {
		t.Errorf("disagreements:\n%s", strings.Join(wrong, "\n"))
	}
	if writes, items := b.writes(); writes != 22 || items != 14 {
		t.Errorf("%d writes of %d items, not 22 of 14", writes, items)
	}
	var text strings.Builder
	if err := report(&text, list, b); err != nil {
		t.Error(err)
	}
	for line := range strings.SplitSeq(text.String(), "\n") {
		if len(line) > 100 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
}

func TestBooksDisagree(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		spoil  func(list []sample, b *books)
		expect string
	}{
		{"not sent", func(list []sample, b *books) { delete(b.fates, list[0].label) }, "queue: sample-1 (create, no listener once, leeds) was not sent"},
		{"not settled", func(list []sample, b *books) { b.fates[list[0].label] = fate{} }, "queue: sample-1 (create, no listener once, leeds) is not settled"},
		{"dead-lettered instead", func(list []sample, b *books) { b.fates[list[0].label] = fate{settled: true, reason: "NoRelay"} }, "is dead-lettered NoRelay, not completed"},
		{"completed instead", func(list []sample, b *books) { b.fates[named(list, "not JSON").label] = fate{settled: true} }, "is completed, not dead-lettered InvalidMessage"},
		{"one left", func(_ []sample, b *books) { b.queue.Scheduled = 1 }, "queue: 1 messages are left"},
		{"one locked", func(_ []sample, b *books) { b.queue.Locked = 1 }, "queue: 1 messages are left"},
		{"a strange dead letter", func(_ []sample, b *books) { b.queue.DeadLettered++ }, "are dead-lettered, not"},
		{"row missing", func(list []sample, b *books) { delete(b.rows, list[0].actionID) }, "SQL: sample-1 (create, no listener once, leeds) has no row"},
		{"row open", func(list []sample, b *books) { change(b, list[0], func(r *row) { r.Status = store.Sent }) }, "is sent , not confirmed"},
		{"too few tries", func(list []sample, b *books) { change(b, list[0], func(r *row) { r.Attempts = 1 }) }, "took 1 tries, not 2"},
		{"other reason", func(list []sample, b *books) {
			change(b, named(list, "scheduled in the past"), func(r *row) { *r.Reason = "NoRelay" })
		}, "is failed NoRelay, not failed Expired"},
		{"strange row", func(_ []sample, b *books) { b.rows["x"] = row{} }, "SQL: action x is nobody's"},
		{"written twice", func(_ []sample, b *books) { b.gateways[0].Items[1].Writes++ }, "gateway leeds: item"},
		{"item missing", func(_ []sample, b *books) { b.gateways[1].Items = b.gateways[1].Items[1:] }, "the item is missing"},
		{"other action's item", func(_ []sample, b *books) { b.gateways[0].Items[0].ActionID = "x" }, "gateway leeds: item"},
		{"strange item", func(_ []sample, b *books) {
			b.gateways[2].Items = append(b.gateways[2].Items, relaytest.Item{AccessionNumber: "X", Writes: 1})
		}, "gateway york: item X"},
		{"at the wrong gateway", func(_ []sample, b *books) {
			b.gateways[0].Items, b.gateways[1].Items = b.gateways[1].Items, b.gateways[0].Items
		}, "the item is missing"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			list, b := agreed(t)
			test.spoil(list, &b)
			all := strings.Join(b.disagreements(list), "\n")
			if !strings.Contains(all, test.expect) {
				t.Errorf("nothing says %q:\n%s", test.expect, all)
			}
			if err := report(new(strings.Builder), list, b); err == nil {
				t.Error("report is content")
			}
		})
	}
}

func named(list []sample, what string) sample {
	for _, s := range list {
		if s.what == what {
			return s
		}
	}
	panic("no sample " + what)
}

func change(b *books, s sample, do func(*row)) {
	r := b.rows[s.actionID]
	do(&r)
	b.rows[s.actionID] = r
}
