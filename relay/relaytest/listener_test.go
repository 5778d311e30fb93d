package relaytest_test

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

func TestAcceptMessage(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{HybridConnections: []relaytest.HybridConnection{
		{Path: "clinic"}, {Path: "clinic/leeds"},
	}})
	control := mustDial(t, s, "Clinic/Leeds?sb-hc-action=listen", nil)
	senderHeader := header("Bearer secret")
	senderHeader.Set("X-Request", "one")
	sender := dialAsync(s, "CLINIC/leeds/room%201/x?b=2&sb-hc-action=connect&sb-hc-id=mine&a=%3D&SB-HC-token=t", senderHeader)
	message := readAccept(t, control)
	mustDial(t, s, message.Address, nil)
	d := suite.Receive(t, "an answer", sender)
	if d.err != nil {
		t.Fatal(d.status)
	}
	defer d.ws.Close()

	want := "ws://" + s.Addr() + "/$hc/clinic/leeds/room%201/x?b=2&a=%3D&sb-hc-action=accept&sb-hc-id=" + message.ID
	if message.Address != want {
		t.Errorf("address\n %s, want\n %s", message.Address, want)
	}
	if message.ID == "mine" || len(message.ID) != 36 {
		t.Errorf("id %q", message.ID)
	}
	headers := message.ConnectHeaders
	if len(headers["Sec-WebSocket-Key"]) != 24 || headers["Host"] != s.Addr() || headers["X-Request"] != "one" {
		t.Errorf("connectHeaders %v", headers)
	}
	for name, value := range headers {
		if strings.Contains(value, "secret") {
			t.Errorf("the token is in connectHeaders, under %s", name)
		}
	}
	if e := message.RemoteEndpoint; e.Address != "127.0.0.1" || d.ws.LocalAddr().String() != e.Address+":"+strconv.Itoa(e.Port) {
		t.Errorf("remoteEndpoint %+v of %s", e, d.ws.LocalAddr())
	}
}

func TestLongestPrefix(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{HybridConnections: []relaytest.HybridConnection{
		{Path: "clinic"}, {Path: "/clinic/leeds/"},
	}})
	for dialled, want := range map[string]string{
		"clinic":            "clinic",
		"clinic/leeds":      "clinic/leeds",
		"clinic/leeds/":     "clinic/leeds",
		"clinic/LEEDS/room": "clinic/leeds",
		"clinic/leeds2":     "clinic",
		"clinic/york/leeds": "clinic",
		"clinic%2Fleeds":    "clinic/leeds",
	} {
		before := s.Stats(want).Dials
		dial(s, dialled, nil)
		if got := s.Stats(want).Dials - before; got != 1 {
			t.Errorf("%s did not come to %s", dialled, want)
		}
	}
}

func TestSubprotocols(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", nil)
	for _, test := range []struct{ name, sender, listener, wantSender, wantListener string }{
		{"none", "", "", "", ""},
		{"common", "a, b", "b, a", "a", "a"},
		{"listener has fewer", "a, b", "b", "b", "b"},
		{"listener asks for none", "a, b", "", "a", ""},
		{"sender asks for none", "", "b", "", "b"},
		{"nothing in common", "a", "b", "a", "b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			offer := func(protocols string) http.Header {
				if protocols == "" {
					return nil
				}
				return http.Header{"Sec-WebSocket-Protocol": {protocols}}
			}
			sender, listener := join(t, s, control, "hc-leeds", offer(test.sender), offer(test.listener))
			got := []string{sender.Subprotocol(), listener.Subprotocol()}
			if diff := cmp.Diff([]string{test.wantSender, test.wantListener}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSeveralListeners(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	took := make(chan int, 64)
	const listeners = 3
	for i := range listeners {
		control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", nil)
		go func() {
			for {
				var message struct{ Accept accept }
				if control.ReadJSON(&message) != nil {
					return
				}
				if ws, _, err := dial(s, message.Accept.Address, nil); err == nil {
					took <- i
					ws.Close()
				}
			}
		}()
	}
	if got := s.Stats("hc-leeds").Listeners; got != listeners {
		t.Fatalf("%d listeners", got)
	}
	seen := map[int]bool{}
	for range 200 { // one of three is never picked in 200 with a chance below 1e-34
		mustDial(t, s, "hc-leeds", nil).Close()
		seen[suite.Receive(t, "an answer", took)] = true
		if len(seen) == listeners {
			return
		}
	}
	t.Errorf("only %v were picked", seen)
}

func TestDeadListenerIsPassedOver(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", nil)
	control.Close()
	suite.Until(t, "the listener is gone", func() bool { return s.Stats("hc-leeds").Listeners == 0 })
	if _, status, _ := dial(s, "hc-leeds", nil); !strings.HasPrefix(status, "404 There are no listeners") {
		t.Errorf("got %q", status)
	}
}

func TestControlChannelEnds(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	t.Run("dropped", func(t *testing.T) {
		control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", nil)
		sender, listener := join(t, s, control, "hc-leeds", nil, nil)
		s.DropListeners("hc-leeds")
		if _, status, _ := dial(s, "hc-leeds", nil); !strings.HasPrefix(status, "404 There are no listeners") {
			t.Errorf("right after: %q", status)
		}
		if code := closeCode(t, control); code != 1006 {
			t.Errorf("close code %d", code)
		}
		sender.WriteMessage(websocket.TextMessage, []byte("still here"))
		if _, text, err := listener.ReadMessage(); err != nil || string(text) != "still here" {
			t.Errorf("the open rendezvous: %q, %v", text, err)
		}
	})
	t.Run("entity deleted", func(t *testing.T) {
		control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", nil)
		sender, listener := join(t, s, control, "hc-leeds", nil, nil)
		s.Delete("hc-leeds")
		for name, ws := range map[string]*websocket.Conn{"control": control, "sender": sender, "listener": listener} {
			if code := closeCode(t, ws); code != 1001 {
				t.Errorf("%s: close code %d", name, code)
			}
		}
		if _, status, _ := dial(s, "hc-leeds", nil); !strings.HasPrefix(status, "404 Endpoint does not exist") {
			t.Errorf("afterwards: %q", status)
		}
		s.Create(relaytest.HybridConnection{Path: "hc-leeds"})
		mustDial(t, s, "hc-leeds?sb-hc-action=listen", nil)
	})
}

func renewToken(token string) any {
	return map[string]any{"renewToken": map[string]string{"token": token}}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	keys := []relaytest.Key{sendKey, listenKey}
	config := relaytest.Config{HybridConnections: []relaytest.HybridConnection{{Path: "hc-leeds", Keys: keys}}}
	t.Run("control channel", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, config)
		control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", header(sas(s, listenKey)))
		s.Advance(50 * time.Minute)
		join(t, s, control, "hc-leeds", header(sas(s, sendKey)), nil)
		s.Advance(20 * time.Minute)
		if code := closeCode(t, control); code != 1008 {
			t.Errorf("close code %d", code)
		}
		suite.Until(t, "no listener", func() bool { return s.Stats("hc-leeds").Listeners == 0 })
	})
	t.Run("sender", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, config)
		control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", header(lasting(s, listenKey, 3*time.Hour)))
		sender, listener := join(t, s, control, "hc-leeds", header(sas(s, sendKey)), nil)
		s.Advance(2 * time.Hour)
		if code := closeCode(t, sender); code != 1008 {
			t.Errorf("sender's close code %d", code)
		}
		if code := closeCode(t, listener); code != 1008 {
			t.Errorf("listener's close code %d", code)
		}
	})
	t.Run("grace", func(t *testing.T) {
		t.Parallel()
		late := config
		late.TokenGrace = 2 * time.Hour
		s := newServer(t, late)
		control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", header(sas(s, listenKey)))
		sender, listener := join(t, s, control, "hc-leeds", header(sas(s, sendKey)), nil)
		s.Advance(2 * time.Hour)
		sender.WriteMessage(websocket.TextMessage, []byte("late"))
		if _, text, err := listener.ReadMessage(); err != nil || string(text) != "late" {
			t.Errorf("%q, %v", text, err)
		}
		join(t, s, control, "hc-leeds", header(lasting(s, sendKey, 3*time.Hour)), nil)
	})
	t.Run("renewed", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, config)
		control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", header(sas(s, listenKey)))
		control.WriteJSON(renewToken("Bearer " + lasting(s, listenKey, 3*time.Hour)))
		suite.Until(t, "the new token is there", func() bool { return s.Stats("hc-leeds").Renewals == 1 })
		s.Advance(2 * time.Hour)
		join(t, s, control, "hc-leeds", header(lasting(s, sendKey, 3*time.Hour)), nil)
	})
	t.Run("renewed with a bad token", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, config)
		for name, token := range map[string]string{
			"none": "", "wrong right": sas(s, sendKey), "nonsense": "SharedAccessSignature x",
		} {
			control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", header(sas(s, listenKey)))
			control.WriteJSON(renewToken(token))
			if code := closeCode(t, control); code != 1008 {
				t.Errorf("%s: close code %d", name, code)
			}
		}
	})
	t.Run("other frames are nothing", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, config)
		control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", header(sas(s, listenKey)))
		control.WriteMessage(websocket.TextMessage, []byte(`{"renewToken":5`))
		control.WriteMessage(websocket.BinaryMessage, []byte(`[]`))
		control.WriteMessage(websocket.TextMessage, []byte(`{"other":{}}`))
		join(t, s, control, "hc-leeds?sb-hc-token="+url.QueryEscape(sas(s, sendKey)), nil, nil)
	})
}

func TestControlPing(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", nil)
	pong := make(chan string, 1)
	control.SetPongHandler(func(text string) error { pong <- text; return nil })
	go control.ReadMessage()
	control.WriteControl(websocket.PingMessage, []byte("are you there"), time.Now().Add(patience))
	if got := suite.Receive(t, "an answer", pong); got != "are you there" {
		t.Errorf("pong %q", got)
	}
}
