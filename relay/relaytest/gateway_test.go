package relaytest_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// create is a create of a visibly synthetic participant.
func create(id, accession string) string {
	return fmt.Sprintf(`{"schema_version":1,"action_id":%q,"action_type":"worklist.create_item",
		"parameters":{"worklist_item":{"accession_number":%q,
		"participant":{"nhs_number":"9990000001","name":"SYNTHETIC^TESSA","birth_date":"19700101","sex":"F"},
		"scheduled":{"date":"20260102","time":"090000"},
		"procedure":{"modality":"MG","study_description":"TEST ONLY"}}}}`, id, accession)
}

func update(accession, status string) string {
	return fmt.Sprintf(`{"action_id":"u","action_type":"worklist.update_status",
		"parameters":{"worklist_item":{"accession_number":%q,"status":%q}}}`, accession, status)
}

// without removes one member of a create, by the text of it.
func without(request, member string) string {
	if !strings.Contains(request, member) {
		panic("no " + member)
	}
	return strings.Replace(request, member, "", 1)
}

// ask sends one frame on a rendezvous of its own and reads to its end.
func ask(t testing.TB, s *relaytest.Server, request string) (texts []string, code int) {
	t.Helper()
	ws := mustDial(t, s, "hc-leeds", nil)
	defer ws.Close()
	if err := ws.WriteMessage(websocket.TextMessage, []byte(request)); err != nil {
		t.Fatal(err)
	}
	return readAll(t, ws)
}

// sameJSON compares a reply with what is wanted, "" being none.
func sameJSON(t testing.TB, got []string, want string) {
	t.Helper()
	if want == "" || len(got) != 1 {
		if want != "" || len(got) != 0 {
			t.Errorf("replies %q, want %q", got, want)
		}
		return
	}
	var g, w any
	if err := json.Unmarshal([]byte(got[0]), &g); err != nil {
		t.Fatalf("%q: %v", got[0], err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(w, g); diff != "" {
		t.Errorf("reply (-want +got):\n%s", diff)
	}
}

func TestGatewayReplies(t *testing.T) {
	t.Parallel()
	const scheduled, progress, completed = "SCHEDULED", "IN PROGRESS", "COMPLETED"
	one, test := create("id-1", "ACC1"), strings.Replace(create("id-1", "ACC1"), "create_item", "create_test_item", 1)
	name := `"name":"SYNTHETIC^TESSA",`
	refused := func(text string) string { return fmt.Sprintf(`{"status":"error","message":%q}`, text) }
	const exists = `{"status":"exists","action_id":"id-1"}`
	notFound := refused("Worklist item 'ACC1' not found")
	for _, test := range []struct {
		name    string
		before  []string // requests that go ahead
		request string
		want    string // reply; empty: none
		status  string // of ACC1 afterwards; empty: there is none
	}{
		{"echo", nil, `{"action_type":"echo","n":[1,"<&>"]}`, `{"status":"echo","payload":{"action_type":"echo","n":[1,"<&>"]}}`, ""},
		{"unsupported action", nil, `{"action_type":"dance"}`, refused("Unsupported action: dance"), ""},
		{"name of the update in old releases", nil, `{"action_type":"worklist.update_item_status"}`, refused("Unsupported action: worklist.update_item_status"), ""},
		{"no action", nil, `{}`, refused("Unsupported action: no-op"), ""},
		{"key in another case", nil, `{"Action_Type":"echo"}`, refused("Unsupported action: no-op"), ""},

		{"create", nil, one, `{"status":"created","action_id":"id-1"}`, scheduled},
		{"create again", []string{one}, one, exists, scheduled},
		{"create with another id", []string{create("id-0", "ACC1")}, one, exists, scheduled},
		{"create test item", nil, test, `{"status":"created","action_id":"id-1"}`, scheduled},
		{"create test item again", []string{one}, test, exists, scheduled},
		{"create test item without a name", nil, without(test, name), refused("No patient name provided for the test item"), ""},
		{"create test item that trips it up", nil, strings.Replace(test, `"worklist_item":`, `"worklist_item":5,"x":`, 1), "", ""},
		{"create without a name", nil, without(one, name), exists, ""},
		{"create with a null name", nil, strings.Replace(one, `"SYNTHETIC^TESSA"`, "null", 1), exists, ""},
		{"create without a date", nil, without(one, `"date":"20260102",`), exists, ""},
		{"create without a time", nil, without(one, `,"time":"090000"`), exists, ""},
		{"create without a schedule", nil, without(one, `"scheduled":{"date":"20260102","time":"090000"},`), exists, ""},
		{"create without parameters", nil, `{"action_id":"id-1","action_type":"worklist.create_item"}`, exists, ""},
		{"create without sex", nil, without(one, `,"sex":"F"`), `{"status":"created","action_id":"id-1"}`, scheduled},
		{"create without an id", nil, without(one, `"action_id":"id-1",`), refused("Missing action_id in payload"), ""},
		{"create with an empty id", nil, strings.Replace(one, `"id-1"`, `""`, 1), refused("Missing action_id in payload"), ""},
		{"create with a list for a name", nil, strings.Replace(one, `"SYNTHETIC^TESSA"`, `["x"]`, 1), refused("Error binding parameter 5: type 'list' is not supported"), ""},
		{"create with a text for a participant", nil, strings.Replace(one, `"participant":`, `"participant":"x","y":`, 1), refused("'str' object has no attribute 'get'"), ""},
		{"create with null parameters", nil, `{"action_id":"id-1","action_type":"worklist.create_item","parameters":null}`, refused("'NoneType' object has no attribute 'get'"), ""},

		{"start", []string{one}, update("ACC1", progress), `{"accession_number":"ACC1","status":"updated"}`, progress},
		{"start in lower case", []string{one}, update("ACC1", "in progress"), `{"accession_number":"ACC1","status":"updated"}`, progress},
		{"start again", []string{one, update("ACC1", progress)}, update("ACC1", progress), notFound, progress},
		{"complete", []string{one, update("ACC1", progress)}, update("ACC1", completed), `{"accession_number":"ACC1","status":"updated"}`, completed},
		{"discontinue", []string{one, update("ACC1", progress)}, update("ACC1", "DISCONTINUED"), `{"accession_number":"ACC1","status":"updated"}`, "DISCONTINUED"},
		{"complete before start", []string{one}, update("ACC1", completed), notFound, scheduled},
		{"discontinue before start", []string{one}, update("ACC1", "DISCONTINUED"), notFound, scheduled},
		{"start after the end", []string{one, update("ACC1", progress), update("ACC1", completed)}, update("ACC1", progress), notFound, completed},
		{"update of an unknown item", nil, update("ACC1", progress), notFound, ""},
		{"unknown status", []string{one}, update("ACC1", "paused"), refused("Cannot transition to 'PAUSED'"), scheduled},
		{"back to scheduled", []string{one}, update("ACC1", scheduled), refused("Cannot transition to 'SCHEDULED'"), scheduled},
		{"update without parameters", nil, `{"action_type":"worklist.update_status"}`, refused("Missing key: 'parameters'"), ""},
		{"update without an item", nil, `{"action_type":"worklist.update_status","parameters":{}}`, refused("Missing key: 'worklist_item'"), ""},
		{"update without an accession number", nil, without(update("ACC1", progress), `"accession_number":"ACC1",`), refused("Missing key: 'accession_number'"), ""},
		{"update without a status", nil, without(update("ACC1", progress), `,"status":"IN PROGRESS"`), refused("Missing key: 'status'"), ""},
		{"update with a number for a status", nil, strings.Replace(update("ACC1", progress), `"IN PROGRESS"`, "7", 1), refused("'int' object has no attribute 'upper'"), ""},

		{"not JSON", nil, `{"action_type":`, "", ""},
		{"empty frame", nil, ``, "", ""},
		{"JSON list", nil, `[]`, "", ""},
		{"JSON null", nil, `null`, "", ""},
		{"JSON text", nil, `"echo"`, "", ""},
		{"not UTF-8", nil, "{\"action_type\":\"echo\",\"x\":\"\xff\"}", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t, relaytest.Config{})
			g := newGateway(t, relaytest.GatewayConfig{Relay: s})
			for _, request := range test.before {
				ask(t, s, request)
			}
			got, code := ask(t, s, test.request)
			if code != 1000 {
				t.Errorf("close code %d", code)
			}
			sameJSON(t, got, test.want)
			status := ""
			for _, item := range g.Snapshot().Items {
				if item.AccessionNumber == "ACC1" {
					status = item.Status
				}
			}
			if status != test.status {
				t.Errorf("ACC1 is %q, want %q", status, test.status)
			}
		})
	}
}

func TestGatewayHealth(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	newGateway(t, relaytest.GatewayConfig{Relay: s})
	texts, _ := ask(t, s, `{"action_type":"health","action_id":"h-1"}`)
	var reply struct {
		Status   string `json:"status"`
		ActionID string `json:"action_id"`
		Health   struct {
			Healthy bool           `json:"healthy"`
			Version string         `json:"version"`
			Uptime  *float64       `json:"listener_uptime_seconds"`
			Checks  map[string]any `json:"checks"`
		} `json:"health"`
	}
	if len(texts) != 1 || json.Unmarshal([]byte(texts[0]), &reply) != nil {
		t.Fatalf("%q", texts)
	}
	if h := reply.Health; reply.Status != "ok" || reply.ActionID != "h-1" || !h.Healthy || h.Version == "" || h.Uptime == nil || h.Checks == nil {
		t.Errorf("%s", texts[0])
	}
}

func TestGatewayReleases(t *testing.T) {
	t.Parallel()
	one := create("id-1", "ACC1")
	old := strings.Replace(update("ACC1", "IN PROGRESS"), "update_status", "update_item_status", 1)
	for _, test := range []struct {
		release                          relaytest.Release
		name, duplicate, noName, updated string
		unknown, again                   string
	}{
		{
			relaytest.ReleaseDuplicate, "duplicate",
			`{"status":"duplicate","action_id":"id-1"}`, `{"status":"duplicate","action_id":"id-1"}`,
			`{"accession_number":"ACC1","status":"updated"}`, "",
			`{"status":"error","message":"Worklist item 'ACC1' not found"}`,
		},
		{
			relaytest.ReleaseFirst, "first",
			`{"status":"error","action_id":"id-1","error":"UNIQUE constraint failed: worklist_items.accession_number"}`,
			`{"status":"error","action_id":"id-1","error":"NOT NULL constraint failed: worklist_items.patient_name"}`,
			`{"accession_number":"ACC1","status":"updated"}`, "",
			`{"status":"error","error":"Worklist item 'ACC1' not found"}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t, relaytest.Config{})
			newGateway(t, relaytest.GatewayConfig{Relay: s, Release: test.release})
			for _, step := range []struct{ request, want string }{
				{one, `{"status":"created","action_id":"id-1"}`},
				{one, test.duplicate},
				{without(one, `"name":"SYNTHETIC^TESSA",`), test.noName},
				{old, test.updated},
				{old, test.again},
				{update("ACC1", "COMPLETED"), test.unknown},
				{`{"action_type":"echo"}`, test.unknown},
				{`{"action_type":"health"}`, test.unknown},
			} {
				got, code := ask(t, s, step.request)
				sameJSON(t, got, step.want)
				if code != 1000 {
					t.Errorf("close code %d", code)
				}
			}
		})
	}
}

func TestGatewayFrameSize(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	g := newGateway(t, relaytest.GatewayConfig{Relay: s})
	pad := func(size int) string {
		const empty = `{"action_type":"dance","x":""}`
		return empty[:len(empty)-2] + strings.Repeat("x", size-len(empty)) + `"}`
	}
	for _, test := range []struct{ size, replies, code int }{
		{1 << 20, 1, 1000},
		{1<<20 + 1, 0, 1009},
		{4 << 20, 0, 1009},
	} {
		texts, code := ask(t, s, pad(test.size))
		if len(texts) != test.replies || code != test.code {
			t.Errorf("%d bytes: %d replies, close code %d", test.size, len(texts), code)
		}
	}
	if got := g.Snapshot().Exchanges; got != 1 {
		t.Errorf("%d exchanges", got)
	}
}

func TestGatewayTakesBinary(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	newGateway(t, relaytest.GatewayConfig{Relay: s})
	ws := mustDial(t, s, "hc-leeds", nil)
	ws.WriteMessage(websocket.BinaryMessage, []byte(`{"action_type":"echo"}`))
	kind, text, err := ws.ReadMessage()
	if err != nil || kind != websocket.TextMessage || !strings.Contains(string(text), "echo") {
		t.Errorf("opcode %d %q: %v", kind, text, err)
	}
}

func TestGatewaySnapshot(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	g := newGateway(t, relaytest.GatewayConfig{Name: "Leeds General", Path: "hc-leeds", Relay: s})
	ask(t, s, create("id-1", "ACC1"))
	ask(t, s, create("id-1", "ACC1"))
	ask(t, s, update("ACC1", "IN PROGRESS"))
	ask(t, s, create("id-2", "ACC2"))
	mustDial(t, s, "hc-leeds", nil).Close() // without a frame
	suite.Until(t, "the last dial counted", func() bool { return g.Snapshot().Dials == 5 })
	got, err := json.Marshal(g.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	sameJSON(t, []string{string(got)}, `{"name":"Leeds General","mode":"one-shot","dials":5,"exchanges":4,"max_open":1,"items":[
		{"accession_number":"ACC1","action_id":"id-1","status":"IN PROGRESS","writes":2},
		{"accession_number":"ACC2","action_id":"id-2","status":"SCHEDULED","writes":1}]}`)
	if frames := g.Frames(); len(frames) != 4 || string(frames[3]) != create("id-2", "ACC2") {
		t.Errorf("%d frames", len(frames))
	}
	for _, detail := range []string{"9990000001", "SYNTHETIC", "19700101"} {
		if strings.Contains(string(got), detail) {
			t.Errorf("the snapshot holds %s", detail)
		}
	}
}

func TestGatewayDiscardsFrames(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	g := newGateway(t, relaytest.GatewayConfig{Relay: s, DiscardFrames: true})
	ask(t, s, `{"action_type":"echo"}`)
	if n, got := len(g.Frames()), g.Snapshot().Exchanges; n != 0 || got != 1 {
		t.Errorf("%d frames of %d exchanges", n, got)
	}
}

func TestNewGatewayErrors(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{HybridConnections: []relaytest.HybridConnection{
		{Path: "hc-leeds", Keys: []relaytest.Key{listenKey}},
	}})
	for _, test := range []struct {
		name   string
		config relaytest.GatewayConfig
		want   string
	}{
		{"no relay", relaytest.GatewayConfig{Name: "hc-leeds"}, "without a relay"},
		{"unknown mode", relaytest.GatewayConfig{Name: "hc-leeds", Relay: s, Mode: "busy"}, "one-shot persistent offline silent reject hangup"},
		{"unknown path", relaytest.GatewayConfig{Name: "hc-york", Relay: s, Key: listenKey}, "gateway hc-york: listen: 404 Endpoint does not exist"},
		{"no token", relaytest.GatewayConfig{Name: "hc-leeds", Relay: s}, "401 MissingToken"},
	} {
		g, err := relaytest.NewGateway(test.config)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
		if g != nil {
			g.Close()
		}
	}
}

// FuzzGatewayRequest looks for a request that a gateway does not survive, or
// answers with something that is not a reply.
func FuzzGatewayRequest(f *testing.F) {
	for _, request := range []string{
		create("id-1", "ACC1"), update("ACC1", "IN PROGRESS"), `{"action_type":"echo"}`, `{"action_type":"health"}`,
		`{"action_type":"worklist.create_item","action_id":{},"parameters":[]}`,
		`{"action_type":"worklist.update_status","parameters":{"worklist_item":null}}`, `null`, "\xff",
	} {
		for release := range 3 {
			f.Add(release, []byte(request))
		}
	}
	f.Fuzz(func(t *testing.T, release int, request []byte) {
		reply, items, ok := relaytest.Answer(relaytest.Release(release), request)
		if !ok {
			if reply != nil {
				t.Errorf("a reply to what has none: %s", reply)
			}
			return
		}
		var fields struct {
			Status string `json:"status"`
		}
		if err := json.Unmarshal(reply, &fields); err != nil || fields.Status == "" {
			t.Errorf("reply %q: %v", reply, err)
		}
		if len(items) > 1 || len(items) == 1 && items[0].Writes != 1 {
			t.Errorf("items %+v of one request", items)
		}
	})
}
