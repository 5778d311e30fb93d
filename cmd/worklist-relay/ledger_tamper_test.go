package main_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
)

// balanced are books of four actions that agree: a create and its update, a
// second update in doubt, and a create for a provider without a relay.
func balanced() books {
	entries := map[string]*entry{
		"made":   {"made", "gw-001", "A", ""},
		"moved":  {"moved", "gw-001", "A", "IN PROGRESS"},
		"doubt":  {"doubt", "gw-001", "A", "COMPLETED"},
		"astray": {"astray", nowhere, "B", ""},
	}
	row := func(id string, status store.Status, reason string) store.Action {
		e, relay := entries[id], "relay/gw-001"
		return store.Action{ActionID: id, ProviderID: e.provider, AccessionNumber: e.accession, Creates: e.status == "", Status: status, Reason: &reason, Relay: &relay}
	}
	sent := time.Now()
	b := books{
		entries: entries,
		rows: map[string]store.Action{
			"made": row("made", store.Confirmed, ""), "moved": row("moved", store.Confirmed, ""),
			"doubt": row("doubt", store.Failed, "OutcomeAmbiguous"), "astray": row("astray", store.Failed, "NoRelay"),
		},
		attempts: map[string][]store.Attempt{"doubt": {{Attempt: 1, SentAt: &sent, Sent: store.SentMaybe}}},
		dead:     map[string][]string{"doubt": {"OutcomeAmbiguous"}, "astray": {"NoRelay"}},
		gateways: []gatewayBook{{
			relaytest.Snapshot{Name: "gw-001", Items: []relaytest.Item{{AccessionNumber: "A", ActionID: "made", Status: "COMPLETED", Writes: 3}}},
			[]relaytest.Write{
				{ActionID: "made", AccessionNumber: "A", Status: "SCHEDULED"},
				{ActionID: "moved", AccessionNumber: "A", Status: "IN PROGRESS"},
				{ActionID: "doubt", AccessionNumber: "A", Status: "COMPLETED", AckLost: true},
			},
		}},
	}
	b.index()
	return b
}

// amend changes a row.
func (b *books) amend(id string, change func(*store.Action)) {
	row := b.rows[id]
	change(&row)
	b.rows[id] = row
}

// Whatever is not as it should be is told, and only that.
func TestLedgerTellsWhatDisagrees(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		tamper func(*books)
		want   []string // parts of the sentences, in order
	}{
		{"nothing", func(*books) {}, nil},
		{"nothing, a rival having lost", func(b *books) {
			b.entries["rival"] = &entry{"rival", "gw-001", "A", ""}
			b.rows["rival"] = store.Action{ActionID: "rival", ProviderID: "gw-001", AccessionNumber: "A", Creates: true}
			b.fail("rival", "AccessionConflict")
		}, nil},
		{"nothing, a turn having never come", func(b *books) {
			b.gateways[0].Writes = b.gateways[0].Writes[:1]
			b.gateways[0].Items[0].Status, b.gateways[0].Items[0].Writes = "SCHEDULED", 1
			b.attempts["moved"] = b.attempts["doubt"]
			b.fail("moved", "OutcomeAmbiguous")
			b.fail("doubt", "ItemNotFound")
		}, nil},
		{"a turn that came", func(b *books) { b.fail("doubt", "ItemNotFound") }, []string{"and is at its gateway", "has no cause to fail as ItemNotFound", "not as ambiguous"}},
		{"a relay there was", func(b *books) { b.fail("moved", "NoRelay") }, []string{"and is at its gateway", "has no cause to fail as NoRelay"}},
		{"queue", func(b *books) { b.queue.Scheduled = 1 }, []string{"1 messages are left"}},
		{"no row", func(b *books) { delete(b.rows, "made") }, []string{"create made (gw-001, A) has no row"}},
		{"open row", func(b *books) { b.amend("moved", func(a *store.Action) { a.Status = store.Sent }) }, []string{"is still sent"}},
		{"foreign row", func(b *books) { b.rows["x"] = store.Action{} }, []string{"action x is nobody's"}},
		{"another's row", func(b *books) { b.amend("moved", func(a *store.Action) { a.AccessionNumber = "B" }) }, []string{"is another action in SQL"}},
		{"another's gateway", func(b *books) { relay := "relay/gw-002"; b.amend("made", func(a *store.Action) { a.Relay = &relay }) }, []string{"was confirmed over relay/gw-002"}},
		{"foreign dead letter", func(b *books) { b.dead[""] = []string{"InvalidMessage"} }, []string{`action "" is nobody's`}},
		{"no dead letter", func(b *books) { delete(b.dead, "astray") }, []string{"failed as NoRelay, and is not dead-lettered"}},
		{"other dead letter", func(b *books) { b.dead["astray"] = []string{"Expired", "NoRelay"} }, []string{"failed as NoRelay, and is dead-lettered as Expired"}},
		{"dead and confirmed", func(b *books) { b.dead["made"] = []string{"Expired"} }, []string{"is confirmed, and dead-lettered as Expired"}},
		{"no cause", func(b *books) { b.fail("moved", "Expired") }, []string{"and is at its gateway", "has no cause to fail as Expired"}},
		{"no doubt", func(b *books) { b.attempts["doubt"][0].Answered = true }, []string{"has no cause to fail as OutcomeAmbiguous"}},
		{"never sent", func(b *books) { b.attempts["doubt"][0].SentAt = nil }, []string{"has no cause to fail as OutcomeAmbiguous"}},
		{"doubt of a create", func(b *books) { b.fail("made", "OutcomeAmbiguous") }, []string{"has no cause to fail as OutcomeAmbiguous"}},
		{"conflict with nobody", func(b *books) { b.fail("made", "AccessionConflict") }, []string{"and is at its gateway"}},
		{"unheard and certain", func(b *books) {
			b.amend("doubt", func(a *store.Action) { a.Status = store.Confirmed })
			delete(b.dead, "doubt")
		}, []string{"not as ambiguous"}},
		{"unheard and no duplicate", func(b *books) { b.gateways[0].Writes[0].AckLost = true }, []string{"not as a duplicate"}},
		{"another's ack", func(b *books) { phase := "ack_invalid"; b.attempts["made"] = []store.Attempt{{Phase: &phase}} }, []string{"was given the ack of another action"}},
		{"not at its gateway", func(b *books) { b.gateways[0].Writes = nil; b.gateways[0].Items = nil }, []string{"made (gw-001, A) is confirmed, and not at", "moved (gw-001, A) is confirmed, and not at"}},
		{"twice", func(b *books) { b.gateways[0].Writes = append(b.gateways[0].Writes, b.gateways[0].Writes[0]) }, []string{"was applied 2 times", `became SCHEDULED when it was "COMPLETED"`, "is not what was written"}},
		{"at another gateway", func(b *books) { b.gateways[0].Name = "gw-002" }, []string{"COMPLETED to A at gw-002", "SCHEDULED to A at gw-002", "IN PROGRESS to A at gw-002"}},
		{"overtaken", func(b *books) { w := b.gateways[0].Writes; w[0], w[1] = w[1], w[0] }, []string{`became IN PROGRESS when it was ""`, `became SCHEDULED when`, "became COMPLETED when", "is not what was written"}},
		{"nobody's write", func(b *books) { b.gateways[0].Writes[0].ActionID = "x"; b.gateways[0].Items[0].ActionID = "x" }, []string{"made (gw-001, A) is confirmed, and not at", "action x, which made SCHEDULED of A, is nobody's"}},
		{"item gone", func(b *books) { b.gateways[0].Items = nil }, []string{"item A is gone"}},
		{"item of its own", func(b *books) {
			b.gateways[0].Items = append(b.gateways[0].Items, relaytest.Item{AccessionNumber: "C", Status: "SCHEDULED", Writes: 1})
		}, []string{"is not what was written"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := balanced()
			test.tamper(&b)
			b.index()
			found := b.disagreements()
			fits := slices.EqualFunc(found, test.want, func(d disagreement, part string) bool { return strings.Contains(d.text, part) })
			if !fits {
				t.Errorf("%q, not %q", found, test.want)
			}
		})
	}
}

// fail makes an action one that was given up, in SQL and in the queue.
func (b *books) fail(id, reason string) {
	b.amend(id, func(a *store.Action) { a.Status, a.Reason = store.Failed, &reason })
	b.dead[id] = []string{reason}
}
