package relaytest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// TestSerialOrder queues senders behind a silent one and serves them in turn.
func TestSerialOrder(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	g := newGateway(t, relaytest.GatewayConfig{Relay: s})
	blocker := mustDial(t, s, "hc-leeds", nil) // sends nothing
	requests := []string{create("a", "ACC1"), create("b", "ACC2"), create("c", "ACC3")}
	done := make(chan error, len(requests))
	for i, request := range requests {
		waiting := dialAsync(s, "hc-leeds", nil)
		suite.Until(t, "the dial arrived", func() bool { return s.Stats("hc-leeds").Dials == i+2 })
		go func() {
			d := <-waiting
			if d.err == nil {
				d.err = d.ws.WriteMessage(websocket.TextMessage, []byte(request))
				d.ws.ReadMessage()
				d.ws.ReadMessage()
				d.ws.Close()
			}
			done <- d.err
		}()
	}
	if got := g.Snapshot(); got.Exchanges != 0 || s.Stats("hc-leeds").Open != 1 {
		t.Errorf("served behind an open rendezvous: %+v", got)
	}
	blocker.Close()
	for range requests {
		if err := suite.Receive(t, "an answer", done); err != nil {
			t.Error(err)
		}
	}
	var got []string
	for _, frame := range g.Frames() {
		got = append(got, string(frame))
	}
	if diff := cmp.Diff(requests, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if g.Snapshot().MaxOpen != 1 || s.Stats("hc-leeds").MaxOpen != 1 {
		t.Errorf("two at once: gateway %d, relay %d", g.Snapshot().MaxOpen, s.Stats("hc-leeds").MaxOpen)
	}
}

func TestSlots(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	g := newGateway(t, relaytest.GatewayConfig{Relay: s, Slots: 2})
	// One after the other never counts as two, however quick the redial.
	for range 50 {
		ask(t, s, echo)
	}
	if got := g.Snapshot().MaxOpen; got != 1 {
		t.Errorf("max open %d", got)
	}
	if got := s.Stats("hc-leeds").MaxOpen; got != 1 {
		t.Errorf("relay: max open %d", got)
	}
	mustDial(t, s, "hc-leeds", nil)
	suite.Until(t, "the gateway counts the first", func() bool { return g.Snapshot().Dials == 51 })
	talk(t, mustDial(t, s, "hc-leeds", nil), echo)
	suite.Until(t, "two at once are counted", func() bool { return g.Snapshot().MaxOpen == 2 })
}

func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	g := newGateway(t, relaytest.GatewayConfig{Relay: s, Mode: relaytest.ModePersistent, IdleTimeout: time.Hour})
	ws := mustDial(t, s, "hc-leeds", nil)
	suite.Until(t, "the gateway took it", func() bool { return g.Snapshot().Dials == 1 })
	s.Advance(2 * time.Hour)
	if code := closeCode(t, ws); code != 1000 {
		t.Errorf("without a frame: close code %d", code)
	}
	ws = mustDial(t, s, "hc-leeds", nil)
	talk(t, ws, echo)
	s.Advance(50 * time.Minute)
	talk(t, ws, echo)
	s.Advance(50 * time.Minute)
	talk(t, ws, echo)
	s.Advance(2 * time.Hour)
	if code := closeCode(t, ws); code != 1000 {
		t.Errorf("after a frame: close code %d", code)
	}
}

// TestCloseStall: nobody is served until the Close is answered, or has not been
// for a while.
func TestCloseStall(t *testing.T) {
	t.Parallel()
	t.Run("answered", func(t *testing.T) {
		s := newServer(t, relaytest.Config{})
		newGateway(t, relaytest.GatewayConfig{Relay: s, CloseStall: time.Hour})
		for range 20 {
			ask(t, s, echo)
		}
	})
	t.Run("not answered", func(t *testing.T) {
		const stall = 100 * time.Millisecond
		s := newServer(t, relaytest.Config{})
		newGateway(t, relaytest.GatewayConfig{Relay: s, CloseStall: stall})
		began := time.Now()
		talk(t, mustDial(t, s, "hc-leeds", nil), echo) // and does not read the Close
		ask(t, s, echo)
		if waited := time.Since(began); waited < stall {
			t.Errorf("served after %v", waited)
		}
	})
}

// TestCloseDelay: what is sent between the ack and the Close is lost.
func TestCloseDelay(t *testing.T) {
	t.Parallel()
	const delay = 50 * time.Millisecond
	s := newServer(t, relaytest.Config{})
	g := newGateway(t, relaytest.GatewayConfig{Relay: s, CloseDelay: delay})
	ws := mustDial(t, s, "hc-leeds", nil)
	began := time.Now()
	talk(t, ws, create("id-1", "ACC1"))
	if err := ws.WriteMessage(websocket.TextMessage, []byte(create("id-2", "ACC2"))); err != nil {
		t.Fatal(err)
	}
	if texts, code := readAll(t, ws); len(texts) != 0 || code != 1000 {
		t.Errorf("%q, close code %d", texts, code)
	}
	if took := time.Since(began); took < delay {
		t.Errorf("closed after %v", took)
	}
	if got := g.Snapshot(); got.Exchanges != 1 || len(got.Items) != 1 {
		t.Errorf("%+v", got)
	}
}

// TestSenderDropsAfterFrame: the item is created all the same.
func TestSenderDropsAfterFrame(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	g := newGateway(t, relaytest.GatewayConfig{Relay: s, RTT: 20 * time.Millisecond})
	ws := mustDial(t, s, "hc-leeds", nil)
	ws.WriteMessage(websocket.TextMessage, []byte(create("id-1", "ACC1")))
	ws.Close()
	suite.Until(t, "the item is stored", func() bool { return len(g.Snapshot().Items) == 1 })
	texts, _ := ask(t, s, create("id-1", "ACC1"))
	sameJSON(t, texts, `{"status":"exists","action_id":"id-1"}`)
}

func TestRTT(t *testing.T) {
	t.Parallel()
	const rtt = 30 * time.Millisecond
	s := newServer(t, relaytest.Config{})
	newGateway(t, relaytest.GatewayConfig{Relay: s, RTT: rtt})
	began := time.Now()
	ask(t, s, echo)
	if took := time.Since(began); took < rtt {
		t.Errorf("answered after %v", took)
	}
}

func TestReconnects(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	newGateway(t, relaytest.GatewayConfig{Relay: s, ReconnectDelay: time.Hour})
	for range 2 {
		s.DropListeners("hc-leeds")
		if _, status, _ := dial(s, "hc-leeds", nil); !strings.HasPrefix(status, "404 There are no listeners") {
			t.Errorf("dropped: %q", status)
		}
		<-time.After(50 * time.Millisecond)
		if s.Stats("hc-leeds").Listeners != 0 {
			t.Error("back before its delay was over")
		}
		suite.Until(t, "the gateway is back", func() bool {
			s.Advance(time.Hour) // it may not have noticed before
			return s.Stats("hc-leeds").Listeners == 1
		})
		ask(t, s, echo)
	}
}

// TestDropListenersKeepsRendezvous: an exchange survives the control channel.
func TestDropListenersKeepsRendezvous(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	newGateway(t, relaytest.GatewayConfig{Relay: s})
	ws := mustDial(t, s, "hc-leeds", nil)
	s.DropListeners("hc-leeds")
	if got := talk(t, ws, echo); !strings.Contains(got, "echo") {
		t.Errorf("got %q", got)
	}
}

// TestGatewayRenewsToken outlives several tokens on one control channel.
func TestGatewayRenewsToken(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{
		HybridConnections: []relaytest.HybridConnection{{Path: "hc-leeds", Keys: []relaytest.Key{sendKey, listenKey}}},
	})
	newGateway(t, relaytest.GatewayConfig{Relay: s, Key: listenKey, TokenLife: time.Hour, ReconnectDelay: 100 * time.Hour})
	for n := range 4 {
		s.Advance(58 * time.Minute)
		suite.Until(t, "a new token", func() bool { return s.Stats("hc-leeds").Renewals == n+1 })
	}
	ws := mustDial(t, s, "hc-leeds", header(lasting(s, sendKey, 5*time.Hour)))
	talk(t, ws, echo)
}

// dialStatus is the status line of one dial, closed at once.
func dialStatus(s *relaytest.Server) string {
	ws, status, _ := dial(s, "hc-leeds", nil)
	if ws != nil {
		ws.Close()
	}
	return status
}

const joined = "101 Switching Protocols"

func TestRejectNext(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	g := newGateway(t, relaytest.GatewayConfig{Relay: s})
	const twice, always = "422 No such room & more", "502 callback threw"
	g.RejectNext(2, 422, "No such room & more")
	for i, want := range []string{twice, twice, joined} {
		if got := dialStatus(s); got != want {
			t.Errorf("dial %d: %q, want %q", i, got, want)
		}
	}
	g.RejectNext(-1, 502, "callback threw")
	for range 3 {
		if got := dialStatus(s); got != always {
			t.Errorf("got %q", got)
		}
	}
	g.RejectNext(0, 0, "")
	if got := dialStatus(s); got != joined {
		t.Errorf("afterwards: %q", got)
	}
}

func TestIgnoreNext(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{RendezvousTimeout: 200 * time.Millisecond})
	g := newGateway(t, relaytest.GatewayConfig{Relay: s})
	g.IgnoreNext(1)
	if got := dialStatus(s); !strings.HasPrefix(got, "404 None of the connected listeners accepted") {
		t.Errorf("got %q", got)
	}
	suite.Until(t, "the next is joined", func() bool { return dialStatus(s) == joined })
}

func TestAcceptDelay(t *testing.T) {
	t.Parallel()
	t.Run("in time", func(t *testing.T) {
		const delay = 50 * time.Millisecond
		s := newServer(t, relaytest.Config{})
		newGateway(t, relaytest.GatewayConfig{Relay: s}).AcceptDelay(delay)
		began := time.Now()
		if got := dialStatus(s); got != joined {
			t.Errorf("got %q", got)
		}
		if took := time.Since(began); took < delay {
			t.Errorf("joined after %v", took)
		}
	})
	t.Run("too late", func(t *testing.T) {
		s := newServer(t, relaytest.Config{RendezvousTimeout: 20 * time.Millisecond})
		newGateway(t, relaytest.GatewayConfig{Relay: s}).AcceptDelay(time.Hour)
		if got := dialStatus(s); !strings.HasPrefix(got, "404 None of the connected listeners accepted") {
			t.Errorf("got %q", got)
		}
	})
}

func BenchmarkExchange(b *testing.B) {
	for _, tls := range []bool{false, true} {
		b.Run(map[bool]string{false: "plain", true: "tls"}[tls], func(b *testing.B) {
			s := newServer(b, relaytest.Config{TLS: tls})
			newGateway(b, relaytest.GatewayConfig{Relay: s, Mode: relaytest.ModePersistent, DiscardFrames: true})
			ws := mustDial(b, s, "hc-leeds", nil)
			ws.SetReadDeadline(time.Time{})
			b.ReportAllocs()
			for b.Loop() {
				talk(b, ws, echo)
			}
		})
	}
}

// BenchmarkFrames passes frames one way, without a gateway: what the relay costs.
func BenchmarkFrames(b *testing.B) {
	s := newServer(b, relaytest.Config{})
	control := mustDial(b, s, "hc-leeds?sb-hc-action=listen", nil)
	sender, listener := join(b, s, control, "hc-leeds", nil, nil)
	listener.SetReadDeadline(time.Time{})
	payload := make([]byte, 2048)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		if err := sender.WriteMessage(websocket.BinaryMessage, payload); err != nil {
			b.Fatal(err)
		}
		if _, _, err := listener.NextReader(); err != nil {
			b.Fatal(err)
		}
	}
}
