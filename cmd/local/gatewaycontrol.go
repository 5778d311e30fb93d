package main

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// gatewayState is one gateway as GET /gateways shows it.
type gatewayState struct {
	relaytest.Snapshot
	Writes []relaytest.Write `json:"writes"` // in order
}

// gatewayChange is the body of POST /gateways/NAME. One of its members is there.
type gatewayChange struct {
	Mode string         `json:"mode"`
	Next []oneTimeFault `json:"next"` // for the frames that come next, one each
}

// oneTimeFault is what becomes of one frame.
type oneTimeFault struct {
	Kind  string `json:"kind"`
	After string `json:"after"` // a pause before it, at most longestRTT; "": none
}

// oneTimeFaults are the faults of one frame, by kind.
var oneTimeFaults = map[string]relaytest.Reply{
	"lose-ack":    {Apply: true, Drop: true},                                   // applies it, and cuts the connection without a word
	"drop-before": {Drop: true},                                                // cuts the connection without applying it
	"drop-after":  {Honest: true, Drop: true},                                  // applies it, acks it, and cuts the connection
	"hang-up":     {Close: 1000},                                               // closes cleanly without applying it
	"swallow":     {KeepOpen: true},                                            // does nothing until the sender goes
	"late":        {Honest: true},                                              // applies it, and acks it after the pause
	"busy":        {Text: `{"status":"error","message":"database is locked"}`}, // does not apply it, and says that it may mend itself
}

// mostNext bounds the one-time faults of one request.
const mostNext = 100

func (s *stack) showGateways(w http.ResponseWriter, _ *http.Request) {
	states := []gatewayState{}
	for _, g := range s.gateways {
		if attached := s.attached[g.Name]; attached != nil {
			states = append(states, stateOf(attached))
		}
	}
	answer(w, http.StatusOK, states)
}

func stateOf(g *relaytest.Gateway) gatewayState {
	return gatewayState{g.Snapshot(), g.Writes()}
}

func (s *stack) changeGateway(w http.ResponseWriter, r *http.Request) {
	g := s.attached[r.PathValue("name")]
	if g == nil {
		refuse(w, http.StatusNotFound, fmt.Errorf("no gateway of ours is called %q", r.PathValue("name")))
		return
	}
	var change gatewayChange
	err := readBody(r, &change)
	if err == nil {
		err = change.apply(g)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	answer(w, http.StatusOK, stateOf(g))
}

// apply changes the gateway, or nothing of it after an error.
func (c gatewayChange) apply(g *relaytest.Gateway) error {
	var script []relaytest.Reply
	for i, fault := range c.Next {
		reply, err := fault.reply()
		if err != nil {
			return fmt.Errorf("next[%d].%w", i, err)
		}
		script = append(script, reply)
	}
	switch {
	case len(script) > mostNext:
		return fmt.Errorf("next: %d faults are more than %d", len(script), mostNext)
	case c.Mode == "" && len(script) == 0:
		return errors.New("mode: missing, and so is next")
	case c.Mode != "":
		mode, err := relaytest.ParseMode(c.Mode)
		if err != nil {
			return fmt.Errorf("mode: %w", err)
		}
		g.SetMode(mode)
	}
	g.Script(script...)
	return nil
}

// reply is the fault in the gateway's own terms.
func (f oneTimeFault) reply() (relaytest.Reply, error) {
	reply, known := oneTimeFaults[f.Kind]
	if !known {
		return reply, fmt.Errorf("kind: unknown %q; the kinds are %s", f.Kind, strings.Join(faultKinds(), ", "))
	}
	if f.After == "" {
		if f.Kind == "late" {
			return reply, errors.New("after: missing; how late?")
		}
		return reply, nil
	}
	pause, err := time.ParseDuration(f.After)
	if err != nil || pause <= 0 || pause > longestRTT {
		return reply, fmt.Errorf("after: %q is not a duration up to %v", f.After, longestRTT)
	}
	reply.After = pause
	return reply, nil
}

func faultKinds() []string { return slices.Sorted(maps.Keys(oneTimeFaults)) }
