package relaytest_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// What was applied is told in order, with the action that did it, and with what
// certainly did not hear of it. What was only asked for is not told.
func TestWrites(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	g := newGateway(t, relaytest.GatewayConfig{Relay: s})
	ask(t, s, create("id-1", "ACC1"))
	ask(t, s, create("id-1", "ACC1"))        // exists
	ask(t, s, update("ACC2", "IN PROGRESS")) // not found
	g.Script(
		relaytest.Reply{Apply: true, Drop: true},
		relaytest.Reply{Apply: true, Drop: true},
		relaytest.Reply{Drop: true},
		relaytest.Reply{Apply: true},
		relaytest.Reply{Honest: true, Drop: true},
	)
	ask(t, s, create("id-1", "ACC1")) // exists, unheard: no second write, and no word on the first
	ask(t, s, strings.Replace(update("ACC1", "IN PROGRESS"), `"u"`, `"id-3"`, 1))
	ask(t, s, create("id-4", "ACC4")) // not applied
	ask(t, s, create("id-5", "ACC5")) // applied, and closed without a word
	ask(t, s, create("id-6", "ACC6")) // answered, then cut
	want := []relaytest.Write{
		{ActionID: "id-1", AccessionNumber: "ACC1", Status: "SCHEDULED"},
		{ActionID: "id-3", AccessionNumber: "ACC1", Status: "IN PROGRESS", AckLost: true},
		{ActionID: "id-5", AccessionNumber: "ACC5", Status: "SCHEDULED", AckLost: true},
		{ActionID: "id-6", AccessionNumber: "ACC6", Status: "SCHEDULED"},
	}
	if diff := cmp.Diff(want, g.Writes()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

// Going offline between a frame and its reply loses the ack.
func TestWritesOffline(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	g := newGateway(t, relaytest.GatewayConfig{Relay: s})
	g.Script(relaytest.Reply{Honest: true, Until: make(chan struct{})})
	ws := mustDial(t, s, "hc-leeds", nil)
	if err := ws.WriteMessage(websocket.TextMessage, []byte(create("id-1", "ACC1"))); err != nil {
		t.Fatal(err)
	}
	suite.Until(t, "it is applied", func() bool { return len(g.Writes()) == 1 })
	g.SetMode(relaytest.ModeOffline)
	if writes := g.Writes(); !writes[0].AckLost {
		t.Errorf("%+v", writes)
	}
}
