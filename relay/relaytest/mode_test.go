package relaytest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

const echo = `{"action_type":"echo"}`

func TestParseMode(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]relaytest.Mode{
		"": "one-shot", "one-shot": "one-shot", "persistent": "persistent", "offline": "offline",
		"silent": "silent", "reject": "reject", "hangup": "hangup",
	} {
		if got, err := relaytest.ParseMode(name); got != want || err != nil {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	_, err := relaytest.ParseMode("Silent")
	if err == nil || !strings.Contains(err.Error(), `"Silent"`) || !strings.Contains(err.Error(), "one-shot persistent offline silent reject hangup") {
		t.Errorf("%v", err)
	}
}

// talk sends a frame and reads one reply.
func talk(t testing.TB, ws *websocket.Conn, request string) string {
	t.Helper()
	if err := ws.WriteMessage(websocket.TextMessage, []byte(request)); err != nil {
		t.Fatal(err)
	}
	_, text, err := ws.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestModePersistent(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	g := newGateway(t, relaytest.GatewayConfig{Relay: s, Mode: relaytest.ModePersistent})
	ws := mustDial(t, s, "hc-leeds", nil)
	for i := range 100 {
		sameJSON(t, []string{talk(t, ws, create(fmt.Sprint("id-", i), fmt.Sprint("ACC", i)))},
			fmt.Sprintf(`{"status":"created","action_id":"id-%d"}`, i))
	}
	if got := g.Snapshot(); got.Dials != 1 || got.Exchanges != 100 || len(got.Items) != 100 {
		t.Errorf("%d dials, %d exchanges, %d items", got.Dials, got.Exchanges, len(got.Items))
	}
	ws.WriteMessage(websocket.TextMessage, []byte("not JSON"))
	if texts, code := readAll(t, ws); len(texts) != 0 || code != 1000 {
		t.Errorf("malformed: %q, close code %d", texts, code)
	}
}

func TestModePersistentBlocksOthers(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	newGateway(t, relaytest.GatewayConfig{Relay: s, Mode: relaytest.ModePersistent})
	first := mustDial(t, s, "hc-leeds", nil)
	talk(t, first, echo)
	second := dialAsync(s, "hc-leeds", nil)
	suite.Until(t, "the second dial arrived", func() bool { return s.Stats("hc-leeds").Dials == 2 })
	talk(t, first, echo)
	select {
	case <-second:
		t.Fatal("two rendezvous at once")
	default:
	}
	first.Close()
	d := suite.Receive(t, "an answer", second)
	if d.err != nil {
		t.Fatal(d.status)
	}
	defer d.ws.Close()
	talk(t, d.ws, echo)
}

func TestModeSilent(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	g := newGateway(t, relaytest.GatewayConfig{Relay: s, Mode: relaytest.ModeSilent, IdleTimeout: time.Hour})
	ws := mustDial(t, s, "hc-leeds", nil)
	ws.WriteMessage(websocket.TextMessage, []byte(create("id-1", "ACC1")))
	suite.Until(t, "the frame arrived", func() bool { return g.Snapshot().Exchanges == 1 })
	s.Advance(2 * time.Hour)
	ws.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, text, err := ws.ReadMessage(); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("%q, %v", text, err)
	}
	ws.Close()
	if items := g.Snapshot().Items; len(items) != 0 {
		t.Errorf("stored %+v", items)
	}
	ws = mustDial(t, s, "hc-leeds", nil)
	suite.Until(t, "the gateway took it", func() bool { return g.Snapshot().Dials == 2 })
	s.Advance(2 * time.Hour)
	if code := closeCode(t, ws); code != 1000 {
		t.Errorf("without a frame: close code %d", code)
	}
}

func TestModeReject(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	g := newGateway(t, relaytest.GatewayConfig{Relay: s, Mode: relaytest.ModeReject})
	for range 2 {
		texts, code := ask(t, s, create("id-1", "ACC1"))
		if len(texts) != 1 || texts[0] != `{"status":"error","message":"Cannot transition to 'X'"}` || code != 1000 {
			t.Errorf("%q, close code %d", texts, code)
		}
	}
	if got := g.Snapshot(); got.Exchanges != 2 || len(got.Items) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestModeHangUp(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	g := newGateway(t, relaytest.GatewayConfig{Relay: s, Mode: relaytest.ModeHangUp})
	texts, code := ask(t, s, create("id-1", "ACC1"))
	if len(texts) != 0 || code != 1000 {
		t.Errorf("%q, close code %d", texts, code)
	}
	if got := g.Snapshot(); got.Exchanges != 1 || len(got.Items) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestModeOffline(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	g := newGateway(t, relaytest.GatewayConfig{Relay: s, Mode: relaytest.ModeOffline})
	noListener := func(when string) {
		t.Helper()
		if _, status, _ := dial(s, "hc-leeds", nil); !strings.HasPrefix(status, "404 There are no listeners") {
			t.Errorf("%s: %q", when, status)
		}
	}
	noListener("from the start")
	g.SetMode(relaytest.ModeOneShot)
	ask(t, s, create("id-1", "ACC1"))
	open := mustDial(t, s, "hc-leeds", nil)
	g.SetMode(relaytest.ModeOffline)
	suite.Until(t, "no listener", func() bool { return s.Stats("hc-leeds").Listeners == 0 })
	noListener("switched off")
	if code := closeCode(t, open); code != 1006 {
		t.Errorf("the open rendezvous: close code %d", code)
	}
	g.SetMode(relaytest.ModePersistent)
	texts := []string{talk(t, mustDial(t, s, "hc-leeds", nil), create("id-1", "ACC1"))}
	sameJSON(t, texts, `{"status":"exists","action_id":"id-1"}`)
	if g.Mode() != relaytest.ModePersistent || g.Name() != "hc-leeds" {
		t.Errorf("%s %s", g.Name(), g.Mode())
	}
}

// TestBackWithoutRelay: coming back does not wait for what does not exist.
func TestBackWithoutRelay(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	g := newGateway(t, relaytest.GatewayConfig{Relay: s, ReconnectDelay: time.Millisecond})
	g.SetMode(relaytest.ModeOffline)
	s.Delete("hc-leeds")
	g.SetMode(relaytest.ModeOneShot)
	s.Create(relaytest.HybridConnection{Path: "hc-leeds"})
	suite.Until(t, "the gateway is back", func() bool { return s.Stats("hc-leeds").Listeners == 1 })
}

func TestScript(t *testing.T) {
	t.Parallel()
	one := create("id-1", "ACC1")
	const created = `{"status":"created","action_id":"id-1"}`
	for _, test := range []struct {
		name   string
		reply  relaytest.Reply
		want   []string
		code   int
		stored bool
	}{
		{"nothing", relaytest.Reply{}, nil, 1000, false},
		{"text", relaytest.Reply{Text: "hello"}, []string{"hello"}, 1000, false},
		{"text, applied", relaytest.Reply{Text: "hello", Apply: true}, []string{"hello"}, 1000, true},
		{"honest", relaytest.Reply{Honest: true, Apply: true, Text: "ignored"}, []string{created}, 1000, true},
		{"applied, no reply", relaytest.Reply{Apply: true}, nil, 1000, true},
		{"ack and an extra frame", relaytest.Reply{Honest: true, Extra: []string{"more", "and more"}}, []string{created, "more", "and more"}, 1000, true},
		{"extra frames alone", relaytest.Reply{Extra: []string{"more"}}, []string{"more"}, 1000, false},
		{"close 1009", relaytest.Reply{Close: 1009}, nil, 1009, false},
		{"close 1011 after the reply", relaytest.Reply{Text: "hello", Close: 1011}, []string{"hello"}, 1011, false},
		{"dropped", relaytest.Reply{Drop: true}, nil, 1006, false},
		{"dropped, applied", relaytest.Reply{Apply: true, Drop: true}, nil, 1006, true},
		{"dropped after the reply", relaytest.Reply{Honest: true, Drop: true}, []string{created}, 1006, true},
		{"binary", relaytest.Reply{Text: "hello", Binary: true}, []string{"hello"}, 1000, false},
		{"pause", relaytest.Reply{Text: "hello", After: 20 * time.Millisecond}, []string{"hello"}, 1000, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t, relaytest.Config{})
			g := newGateway(t, relaytest.GatewayConfig{Relay: s})
			g.Script(test.reply)
			began := time.Now()
			got, code := ask(t, s, one)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("replies (-want +got):\n%s", diff)
			}
			if code != test.code {
				t.Errorf("close code %d, want %d", code, test.code)
			}
			if stored := len(g.Snapshot().Items) == 1; stored != test.stored {
				t.Errorf("stored %t", stored)
			}
			if took := time.Since(began); took < test.reply.After {
				t.Errorf("replied after %v", took)
			}
			if got, _ := ask(t, s, echo); len(got) != 1 {
				t.Errorf("the next exchange: %q", got)
			}
		})
	}
}

func TestScriptOrder(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	g := newGateway(t, relaytest.GatewayConfig{Relay: s})
	g.Script(relaytest.Reply{Text: "one", KeepOpen: true}, relaytest.Reply{Text: "two", KeepOpen: true, Binary: true})
	g.Script(relaytest.Reply{Text: "three"})
	ws := mustDial(t, s, "hc-leeds", nil)
	for _, want := range []string{"one", "two", "three"} {
		if got := talk(t, ws, echo); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if code := closeCode(t, ws); code != 1000 {
		t.Errorf("close code %d", code)
	}
	if got, _ := ask(t, s, "not JSON"); len(got) != 0 {
		t.Errorf("after the script: %q", got)
	}
	g.Script(relaytest.Reply{Honest: true, KeepOpen: true})
	if got, code := ask(t, s, "not JSON"); len(got) != 0 || code != 1000 {
		t.Errorf("honest about a malformed request: %q, close code %d", got, code)
	}
}

// TestScriptInModes: a reply that says nothing of the end takes the mode's.
func TestScriptInModes(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	g := newGateway(t, relaytest.GatewayConfig{Relay: s, Mode: relaytest.ModePersistent})
	g.Script(relaytest.Reply{Text: "one"}, relaytest.Reply{Text: "two", Close: 1001})
	ws := mustDial(t, s, "hc-leeds", nil)
	if got := talk(t, ws, echo) + talk(t, ws, echo); got != "onetwo" {
		t.Errorf("got %q", got)
	}
	if code := closeCode(t, ws); code != 1001 {
		t.Errorf("close code %d", code)
	}
	g.SetMode(relaytest.ModeHangUp)
	g.Script(relaytest.Reply{Text: "three"})
	if texts, code := ask(t, s, echo); len(texts) != 1 || code != 1000 {
		t.Errorf("hang-up: %q, close code %d", texts, code)
	}
}

func TestBinaryReply(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	g := newGateway(t, relaytest.GatewayConfig{Relay: s})
	g.Script(relaytest.Reply{Honest: true, Binary: true})
	ws := mustDial(t, s, "hc-leeds", nil)
	ws.WriteMessage(websocket.TextMessage, []byte(echo))
	if kind, text, err := ws.ReadMessage(); err != nil || kind != websocket.BinaryMessage || len(text) == 0 {
		t.Errorf("opcode %d %q: %v", kind, text, err)
	}
}
