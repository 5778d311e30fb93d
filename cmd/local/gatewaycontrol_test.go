package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// states reads GET /gateways.
func (p production) states(t *testing.T) (states []gatewayState) {
	t.Helper()
	status, text, err := ask(p.env["LOCAL_HTTP_ADDR"], "GET", "/gateways", "")
	if err != nil || status != 200 {
		t.Fatal(status, text, err)
	}
	if err := json.Unmarshal([]byte(text), &states); err != nil {
		t.Fatal(err)
	}
	return states
}

// steer posts to the control address.
func (p production) steer(t *testing.T, path, body string) {
	t.Helper()
	if status, text, err := ask(p.env["LOCAL_HTTP_ADDR"], "POST", path, body); err != nil || status != 200 {
		t.Fatal(status, text, err)
	}
}

// exchange sends an action to a provider's gateway, past the queue. before is
// called when the connection is open.
func (p production) exchange(t *testing.T, provider string, a action, before func()) (relay.Ack, error) {
	t.Helper()
	row, err := p.store.Relay(t.Context(), provider, nil)
	if err != nil {
		t.Fatal(err)
	}
	hc := relay.HybridConnection{Namespace: row.Namespace, Path: row.HybridConnection}
	conn, err := p.relay.Connect(t.Context(), hc, relay.SharedAccessKey(*row.KeyName, p.env[*row.KeyVariable]))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	before()
	item := a.Parameters.WorklistItem
	return conn.Exchange(t.Context(), relay.NewAction(marshal(a), a.ActionID, a.ActionType, item.AccessionNumber))
}

// Each kind of fault strikes one frame, and the gateway tells what it did with it.
func TestOneTimeFaults(t *testing.T) {
	p := fromEnv(t, served(t, "--consumer=false", "--gateways", "leeds=persistent"))
	samples := newSampler(1, day)
	var want []relaytest.Write
	for _, test := range []struct {
		fault string
		phase relay.Phase // "": an ack
		kind  relay.AckKind
		does  string // the status of the write; "": none
		lost  bool
	}{
		{`{"kind":"lose-ack"}`, relay.PhaseAckLost, 0, "SCHEDULED", true},
		{`{"kind":"drop-before","after":"1ms"}`, relay.PhaseAckLost, 0, "", false},
		{`{"kind":"hang-up"}`, relay.PhaseAckClosed, 0, "", false},
		{`{"kind":"late","after":"50ms"}`, "", relay.AckDone, "SCHEDULED", false},
		{`{"kind":"busy"}`, "", relay.AckBusy, "", false},
	} {
		p.steer(t, "/gateways/leeds", `{"next":[`+test.fault+`]}`)
		a, began := samples.create(), time.Now()
		ack, err := p.exchange(t, "leeds", a, func() {})
		if phase := phaseOf(err); phase != test.phase || ack.Kind != test.kind {
			t.Errorf("%s: phase %q, ack %s: %v", test.fault, phase, ack.Kind, err)
		}
		if took := time.Since(began); strings.Contains(test.fault, "50ms") && took < 50*time.Millisecond {
			t.Errorf("%s: answered after %v", test.fault, took)
		}
		if test.does != "" {
			want = append(want, relaytest.Write{
				ActionID: a.ActionID, AccessionNumber: a.Parameters.WorklistItem.AccessionNumber, Status: test.does, AckLost: test.lost,
			})
		}
		// Each on a connection of its own, for what is reused may be sent again.
		p.relay.CloseIdle(relay.HybridConnection{Namespace: p.env["RELAY_PLAIN_HOSTS"], Path: "leeds"})
	}
	if diff := cmp.Diff(want, p.states(t)[0].Writes); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

// What is cut is the connection to the gateway that was named.
func TestDropsSenders(t *testing.T) {
	p := fromEnv(t, served(t, "--consumer=false", "--gateways", "leeds=one-shot,hull=one-shot"))
	samples := newSampler(1, day)
	for drop, cut := range map[string]map[string]bool{
		"leeds": {"leeds": true, "hull": false},
		"*":     {"leeds": true, "hull": true},
	} {
		for provider, want := range cut {
			_, err := p.exchange(t, provider, samples.create(), func() { p.steer(t, "/relay", `{"drop":"`+drop+`"}`) })
			if (err != nil) != want {
				t.Errorf("drop %s: %s: %v", drop, provider, err)
			}
		}
	}
}

func phaseOf(err error) relay.Phase {
	var failure *relay.Error
	if errors.As(err, &failure) {
		return failure.Phase
	}
	return ""
}
