package relay_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

const applied = `{"status":"updated","accession_number":"ACC202601150001"}`

// acks are answers that a gateway may give, over a real connection.
func acks(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{})
	made, moved := create(1), update(1, "COMPLETED")
	answered := func(status string) relay.Ack { return relay.Ack{Kind: relay.AckDone, Status: status} }
	failure := func(kind relay.AckKind, text string) relay.Ack {
		return relay.Ack{Kind: kind, Status: "error", Text: text}
	}
	for _, test := range []struct {
		name   string
		action relay.Action
		reply  string
		want   relay.Ack
	}{
		{"38 created", made, `{"status":"created","action_id":"` + made.ID() + `"}`,
			relay.Ack{Kind: relay.AckDone, Status: "created", ActionID: made.ID()}},
		{"38 created, id in capitals", made, `{"status":"created","action_id":"` + strings.ToUpper(made.ID()) + `"}`,
			relay.Ack{Kind: relay.AckDone, Status: "created", ActionID: made.ID()}},
		{"38 created, no id", made, `{"status":"created"}`, answered("created")},
		{"38 created, null id", made, `{"status":"created","action_id":null,"more":[1]}`, answered("created")},
		{"39 processed create", made, `{"status":"processed"}`, answered("processed")},
		{"39 processed update", moved, `{"status":"processed"}`, answered("processed")},
		{"40 updated", moved, applied, relay.Ack{Kind: relay.AckDone, Status: "updated", AccessionNumber: "ACC202601150001"}},
		{"42 exists", made, `{"status":"exists"}`, relay.Ack{Kind: relay.AckExists, Status: "exists"}},
		{"42 duplicate", made, `{"status":"duplicate"}`, relay.Ack{Kind: relay.AckExists, Status: "duplicate"}},
		{"42 first release", made, `{"status":"error","error":"UNIQUE constraint failed: items.accession_number"}`,
			failure(relay.AckExists, "UNIQUE constraint")},
		{"44 missing key", made, `{"status":"error","message":"Missing key: 'scheduled' in TESTPERSON"}`, failure(relay.AckRefused, "Missing key")},
		{"44 unsupported", made, `{"status":"error","message":"Unsupported action: x"}`, failure(relay.AckRefused, "Unsupported action")},
		{"44 transition", moved, `{"status":"error","message":"Cannot transition to 'COMPLETED'"}`, failure(relay.AckRefused, "Cannot transition")},
		{"44 no name", made, `{"status":"error","message":"No patient name"}`, failure(relay.AckRefused, "No patient name")},
		{"44 binding", made, `{"status":"error","message":"Error binding parameter 3: TESTPERSON"}`, failure(relay.AckRefused, "Error binding parameter")},
		{"44 attribute", made, `{"status":"error","message":"'NoneType' object has no attribute 'x'"}`, failure(relay.AckRefused, "has no attribute")},
		{"45 locked", made, `{"status":"error","message":"database is locked"}`, failure(relay.AckBusy, "database is locked")},
		{"45 disk", made, `{"status":"error","message":"Disk I/O Error"}`, failure(relay.AckBusy, "disk I/O error")},
		{"45 full", made, `{"status":"error","message":"database or disk is full"}`, failure(relay.AckBusy, "database or disk is full")},
		{"45 open", made, `{"status":"error","message":"unable to open database file"}`, failure(relay.AckBusy, "unable to open database file")},
		{"45 read only", made, `{"status":"error","message":"attempt to write a readonly database"}`, failure(relay.AckBusy, "readonly database")},
		{"45 table", made, `{"status":"error","message":"no such table: items"}`, failure(relay.AckBusy, "no such table")},
		{"46 unknown", made, `{"status":"error","message":"Oh dear, testperson of 1970-01-31 said \"ouch\""}`,
			failure(relay.AckUnknown, "Oh dear, [...] of [...] said [...]")},
		{"46 no text", made, `{"status":"error"}`, failure(relay.AckUnknown, "")},
		{"46 create not found", made, `{"status":"error","message":"shelf not found"}`, failure(relay.AckUnknown, "shelf not found")},
		{"46 update unique", moved, `{"status":"error","message":"UNIQUE constraint"}`, failure(relay.AckUnknown, "UNIQUE constraint")},
		{"47 not found", moved, `{"status":"error","message":"Worklist item 'ACC202601150001' not found"}`, failure(relay.AckNotFound, "not found")},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.gateway.Script(relaytest.Reply{Text: test.reply})
			ack, _ := s.must(t, test.action)
			if diff := cmp.Diff(test.want, ack); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func invalidAcks(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModePersistent})
	made, moved := create(1), update(1, "COMPLETED")
	for _, test := range []struct {
		name   string
		action relay.Action
		reply  string
	}{
		{"41 another action's id", made, `{"status":"created","action_id":"` + create(2).ID() + `"}`},
		{"41 another action's id in an error", made, `{"status":"error","message":"database is locked","action_id":"` + create(2).ID() + `"}`},
		{"another accession number", moved, `{"status":"updated","accession_number":"ACC202601150002"}`},
		{"update's status for a create", made, applied},
		{"create's status for an update", moved, `{"status":"created"}`},
		{"exists for an update", moved, `{"status":"exists"}`},
		{"echo for a create", made, `{"status":"echo"}`},
		{"not JSON", made, `TESTPERSON^SYNTHETIC`},
		{"white space", made, ` `},
		{"cut JSON", made, `{"status":"created"`},
		{"two values", made, `{"status":"created"}{"status":"created"}`},
		{"not UTF-8", made, "{\"status\":\"created\",\"x\":\"\xff\"}"},
		{"array", made, `["created"]`},
		{"null", made, `null`},
		{"no status", made, `{"action_id":"` + made.ID() + `"}`},
		{"status is no text", made, `{"status":1}`},
		{"status in another case", made, `{"Status":"created"}`},
		{"unknown status", made, `{"status":"TESTPERSON^SYNTHETIC"}`},
		{"over 64 KiB", made, fmt.Sprintf(`{"status":"created","x":%q}`, strings.Repeat("TESTPERSON", 6600))},
	} {
		t.Run(test.name, func(t *testing.T) {
			fine := relaytest.Reply{Text: `{"status":"processed"}`}
			s.gateway.Script(fine, relaytest.Reply{Text: test.reply}, fine)
			s.must(t, create(3))
			e := s.fails(t, test.action)
			if diff := cmp.Diff(verdict{Phase: relay.PhaseAckInvalid, Sent: relay.SentMaybe, Answered: true}, verdictOf(e)); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(fmt.Sprintf("%+v", *e), "TESTPERSON") {
				t.Errorf("error repeats the answer: %v", e)
			}
			// Whatever comes next must not come over the same connection.
			if _, timings := s.must(t, create(3)); timings.Reused {
				t.Error("the connection was kept")
			}
		})
	}
}

func binaryAck(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{})
	s.gateway.Script(relaytest.Reply{Honest: true, Binary: true})
	if ack, _ := s.must(t, create(1)); ack.Kind != relay.AckDone || ack.Status != "created" {
		t.Errorf("got %+v", ack)
	}
}

func extraFrame(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModePersistent})
	s.gateway.Script(relaytest.Reply{Honest: true, Extra: []string{`{"status":"error","message":"database is locked"}`}, KeepOpen: true})
	if ack, _ := s.must(t, create(1)); ack.Status != "created" {
		t.Errorf("got %+v", ack)
	}
	ack, timings := s.must(t, create(2))
	if ack.Status != "created" || timings.Reused {
		t.Errorf("got %+v, reused %v", ack, timings.Reused)
	}
}

func ackThenBreak(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModePersistent})
	for n := range 20 {
		s.gateway.Script(relaytest.Reply{Honest: true, Drop: true})
		if ack, _ := s.must(t, create(n)); ack.Status != "created" {
			t.Errorf("got %+v", ack)
		}
	}
}
