package relay_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

const applied = `{"status":"updated","accession_number":"ACC202601150001"}`

// answer is what a gateway may say to an action, and what it means.
type answer struct {
	name   string
	action relay.Action
	text   string
	want   relay.Ack
}

var made, moved = create(1), update(1, "COMPLETED")

func answered(status string) relay.Ack { return relay.Ack{Kind: relay.AckDone, Status: status} }

func failed(kind relay.AckKind, text string) relay.Ack {
	return relay.Ack{Kind: kind, Status: "error", Text: text}
}

// The answers of gateways, by what they mean.
var (
	created = []answer{
		{"created", made, `{"status":"created","action_id":"` + made.ID() + `"}`,
			relay.Ack{Kind: relay.AckDone, Status: "created", ActionID: made.ID()}},
		{"created, id in capitals", made, `{"status":"created","action_id":"` + strings.ToUpper(made.ID()) + `"}`,
			relay.Ack{Kind: relay.AckDone, Status: "created", ActionID: made.ID()}},
		{"created, no id", made, `{"status":"created"}`, answered("created")},
		{"created, null id", made, `{"status":"created","action_id":null,"more":[1]}`, answered("created")},
	}
	processed = []answer{
		{"processed create", made, `{"status":"processed"}`, answered("processed")},
		{"processed update", moved, `{"status":"processed"}`, answered("processed")},
	}
	updated = []answer{
		{"updated", moved, applied, relay.Ack{Kind: relay.AckDone, Status: "updated", AccessionNumber: "ACC202601150001"}},
	}
	exists = []answer{
		{"exists", made, `{"status":"exists"}`, relay.Ack{Kind: relay.AckExists, Status: "exists"}},
		{"duplicate", made, `{"status":"duplicate"}`, relay.Ack{Kind: relay.AckExists, Status: "duplicate"}},
		{"first release", made, `{"status":"error","error":"UNIQUE constraint failed: items.accession_number"}`,
			failed(relay.AckExists, "UNIQUE constraint")},
	}
	permanent = []answer{
		{"missing key", made, `{"status":"error","message":"Missing key: 'scheduled' in TESTPERSON"}`, failed(relay.AckRefused, "Missing key")},
		{"unsupported", made, `{"status":"error","message":"Unsupported action: x"}`, failed(relay.AckRefused, "Unsupported action")},
		{"transition", moved, `{"status":"error","message":"Cannot transition to 'COMPLETED'"}`, failed(relay.AckRefused, "Cannot transition")},
		{"no name", made, `{"status":"error","message":"No patient name"}`, failed(relay.AckRefused, "No patient name")},
		{"binding", made, `{"status":"error","message":"Error binding parameter 3: TESTPERSON"}`, failed(relay.AckRefused, "Error binding parameter")},
		{"attribute", made, `{"status":"error","message":"'NoneType' object has no attribute 'x'"}`, failed(relay.AckRefused, "has no attribute")},
	}
	transient = []answer{
		{"locked", made, `{"status":"error","message":"database is locked"}`, failed(relay.AckBusy, "database is locked")},
		{"disk", made, `{"status":"error","message":"Disk I/O Error"}`, failed(relay.AckBusy, "disk I/O error")},
		{"full", made, `{"status":"error","message":"database or disk is full"}`, failed(relay.AckBusy, "database or disk is full")},
		{"open", made, `{"status":"error","message":"unable to open database file"}`, failed(relay.AckBusy, "unable to open database file")},
		{"read only", made, `{"status":"error","message":"attempt to write a readonly database"}`, failed(relay.AckBusy, "readonly database")},
		{"table", made, `{"status":"error","message":"no such table: items"}`, failed(relay.AckBusy, "no such table")},
	}
	unknown = []answer{
		{"unknown", made, `{"status":"error","message":"Oh dear, testperson of 1970-01-31 said \"ouch\""}`,
			failed(relay.AckUnknown, "Oh dear, [...] of [...] said [...]")},
		{"no text", made, `{"status":"error"}`, failed(relay.AckUnknown, "")},
		{"create not found", made, `{"status":"error","message":"shelf not found"}`, failed(relay.AckUnknown, "shelf not found")},
		{"update unique", moved, `{"status":"error","message":"UNIQUE constraint"}`, failed(relay.AckUnknown, "UNIQUE constraint")},
	}
	notFound = []answer{
		{"not found", moved, `{"status":"error","message":"Worklist item 'ACC202601150001' not found"}`, failed(relay.AckNotFound, "not found")},
	}
)

// acked is the situation of an action that is answered with each of these, over a real connection.
func acked(answers ...answer) func(*testing.T) {
	return func(t *testing.T) {
		s := newSite(t, relaytest.GatewayConfig{})
		for _, r := range answers {
			s.gateway.Script(relaytest.Reply{Text: r.text})
			ack, _ := s.must(t, r.action)
			if diff := cmp.Diff(r.want, ack); diff != "" {
				t.Error(r.name, diff)
			}
		}
	}
}

// nonsense is what a gateway may say to an action that is no ack to it.
type nonsense struct {
	name   string
	action relay.Action
	text   string
}

var (
	anothers = []nonsense{
		{"another action's id", made, `{"status":"created","action_id":"` + create(2).ID() + `"}`},
		{"another action's id in an error", made, `{"status":"error","message":"database is locked","action_id":"` + create(2).ID() + `"}`},
		{"another accession number", moved, `{"status":"updated","accession_number":"ACC202601150002"}`},
	}
	invalid = []nonsense{
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
	}
)

// notAcked is the situation of an action that is answered with each of these.
func notAcked(answers ...nonsense) func(*testing.T) {
	return func(t *testing.T) {
		s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModePersistent})
		for _, r := range answers {
			fine := relaytest.Reply{Text: `{"status":"processed"}`}
			s.gateway.Script(fine, relaytest.Reply{Text: r.text}, fine)
			s.must(t, create(3))
			e := s.fails(t, r.action)
			if diff := cmp.Diff(verdict{Phase: relay.PhaseAckInvalid, Sent: relay.SentMaybe, Answered: true}, verdictOf(e)); diff != "" {
				t.Error(r.name, diff)
			}
			if strings.Contains(fmt.Sprintf("%+v", *e), "TESTPERSON") {
				t.Errorf("%s: error repeats the answer: %v", r.name, e)
			}
			// Whatever comes next must not come over the same connection.
			if _, timings := s.must(t, create(3)); timings.Reused {
				t.Errorf("%s: the connection was kept", r.name)
			}
		}
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
	s.client.WatchTime = time.Hour // until the extra frame is there
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

// TestUnaskedFrameBegins has half a frame that nobody asked for on its way when the next action is sent. It is not that action's answer,
// however late its end comes: the connection is closed as soon as such a frame begins.
func TestUnaskedFrameBegins(t *testing.T) {
	t.Parallel()
	var dials atomic.Int32
	ended := make(chan struct{})
	s := rawSite(t, func(ws *websocket.Conn) {
		if !reply(ws) || dials.Add(1) > 1 {
			return
		}
		_, _ = ws.NetConn().Write([]byte("\x81\x14{\"status\":"))
		_, _, err := ws.ReadMessage()
		if !websocket.IsCloseError(err, 1000) {
			t.Errorf("the other side saw %v, want close 1000", err)
		}
		_, _ = ws.NetConn().Write([]byte("\"updated\"}"))
		close(ended)
	})
	s.client.IdleTimeout = time.Hour
	s.must(t, create(1))
	suite.Receive(t, "the connection is closed", ended)
	if ack, timings := s.must(t, update(1, "IN PROGRESS")); timings.Reused || ack.Status != "processed" {
		t.Errorf("got %+v, reused %v", ack, timings.Reused)
	}
}
