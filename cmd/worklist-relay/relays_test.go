package main

import (
	"regexp"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

var (
	scriptSendKey   = relaytest.Key{Name: "send", Key: leaktest.RelayKey, Send: true}
	scriptListenKey = relaytest.Key{Name: "listen", Key: "c3ludGhldGljLWxpc3Rlbg==", Listen: true}
)

// hospitals are the gateways of one script, and the relay that they listen on.
// Its zero value has none.
type hospitals struct {
	relay    *relaytest.Server // nil until a script asks for a gateway
	gateways map[string]*relaytest.Gateway
}

// changeGateway makes a gateway do something from now on, and there is one of
// that name after: at the hybrid connection NAME of the relay $RELAY, whose key
// "send" is in $LEEDS_KEY. Besides the modes of relaytest there are
//
//	on         answers (also without a word more)
//	off        not listening
//	busy       listening, and never taking a call
//	refusing   its listener refuses every call
//	gone       its hybrid connection is deleted
func changeGateway(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: gateway NAME [on|off|silent|reject|hangup|persistent|busy|refusing|gone]")
	}
	all := ts.Value("hospitals").(*hospitals)
	g := all.gateway(ts, args[0])
	mode := "on"
	if len(args) == 2 {
		mode = args[1]
	}
	g.IgnoreNext(0)
	g.RejectNext(0, 0, "")
	switch mode {
	case "gone":
		all.relay.Delete(args[0])
		return
	case "busy":
		g.IgnoreNext(-1)
		mode = "on"
	case "refusing":
		g.RejectNext(-1, 409, "no")
		mode = "on"
	case "off":
		mode = string(relaytest.ModeOffline)
	}
	if mode == "on" {
		mode = string(relaytest.ModeOneShot)
	}
	parsed, err := relaytest.ParseMode(mode)
	ts.Check(err)
	g.SetMode(parsed)
}

// gateway is the one of that name, started if there is none yet.
func (h *hospitals) gateway(ts *testscript.TestScript, name string) *relaytest.Gateway {
	if h.relay == nil {
		server, err := relaytest.NewServer(relaytest.Config{RendezvousTimeout: 4 * time.Second})
		ts.Check(err)
		ts.Defer(func() { ts.Check(server.Close()) })
		h.relay, h.gateways = server, make(map[string]*relaytest.Gateway)
		ts.Setenv("RELAY", server.Addr())
		ts.Setenv("RELAY_PLAIN_HOSTS", server.Addr())
	}
	if h.gateways[name] == nil {
		h.relay.Create(relaytest.HybridConnection{Path: name, Keys: []relaytest.Key{scriptSendKey, scriptListenKey}})
		g, err := relaytest.NewGateway(relaytest.GatewayConfig{Name: name, Relay: h.relay, Key: scriptListenKey, ReconnectDelay: 50 * time.Millisecond})
		ts.Check(err)
		ts.Defer(func() { ts.Check(g.Close()) })
		h.gateways[name] = g
	}
	return h.gateways[name]
}

// untilOutput runs the program in a terminal, again and again, until its output matches.
func untilOutput(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 || args[1] != Program {
		ts.Fatalf("usage: until REGEXP worklist-relay ...")
	}
	pattern, err := regexp.Compile(`(?m)` + args[0])
	ts.Check(err)
	late := time.After(Patience)
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		o := commandLine(ts, args[2:]...)
		if o.Code == 0 && pattern.MatchString(o.Out) {
			o.show(ts)
			return
		}
		select {
		case <-time.After(wait):
		case <-late:
			o.show(ts)
			ts.Fatalf("never: %s", args[0])
		}
	}
}
