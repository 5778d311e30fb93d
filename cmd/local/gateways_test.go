package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

func TestParseGateways(t *testing.T) {
	t.Parallel()
	tests := []struct {
		list string
		want []gateway
	}{
		{"leeds=one-shot", []gateway{{"leeds", relaytest.ModeOneShot, 0}}},
		{"leeds=one-shot,hull=persistent:rtt=20ms,york=offline", []gateway{
			{"leeds", relaytest.ModeOneShot, 0},
			{"hull", relaytest.ModePersistent, 20 * time.Millisecond},
			{"york", relaytest.ModeOffline, 0},
		}},
		{" a=silent , b=reject,c=hangup ", []gateway{
			{"a", relaytest.ModeSilent, 0}, {"b", relaytest.ModeReject, 0}, {"c", relaytest.ModeHangUp, 0},
		}},
		{"york=external", []gateway{{"york", external, 0}}},
		{"3=persistent:rtt=1s", []gateway{
			{"gw-001", relaytest.ModePersistent, time.Second},
			{"gw-002", relaytest.ModePersistent, time.Second},
			{"gw-003", relaytest.ModePersistent, time.Second},
		}},
		{"1=one-shot,york=reject,2=silent", []gateway{
			{"gw-001", relaytest.ModeOneShot, 0}, {"york", relaytest.ModeReject, 0},
			{"gw-002", relaytest.ModeSilent, 0}, {"gw-003", relaytest.ModeSilent, 0},
		}},
		{"1=one-shot,hull=silent", []gateway{{"gw-001", relaytest.ModeOneShot, 0}, {"hull", relaytest.ModeSilent, 0}}},
		{"Site.A_1-b=one-shot:rtt=0s", []gateway{{"Site.A_1-b", relaytest.ModeOneShot, 0}}},
	}
	for _, test := range tests {
		t.Run(test.list, func(t *testing.T) {
			got, err := parseGateways(test.list)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("parseGateways (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseGatewaysRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct{ list, want string }{
		{"", "no gateways"},
		{" ", "no gateways"},
		{"leeds", "no mode"},
		{"50", "no mode"},
		{"leeds=", `unknown mode ""`},
		{"leeds=quick", `unknown mode "quick"`},
		{"leeds=One-Shot", `unknown mode "One-Shot"`},
		{"leeds=one-shot,", "no mode"},
		{"=one-shot", `"" is no name`},
		{"le eds=one-shot", `"le eds" is no name`},
		{"leeds/x=one-shot", "is no name"},
		{"-leeds=one-shot", "is no name"},
		{strings.Repeat("x", 51) + "=one-shot", "is no name"},
		{"leeds=one-shot:rtt", `unknown option "rtt"`},
		{"leeds=one-shot:delay=1s", `unknown option "delay=1s"`},
		{"leeds=one-shot:rtt=20", `rtt "20" is not a duration`},
		{"leeds=one-shot:rtt=-1s", `rtt "-1s" is not a duration`},
		{"leeds=one-shot:rtt=2m", `rtt "2m" is not a duration`},
		{"leeds=external:rtt=1s", "no rtt of ours"},
		{"leeds=one-shot,LEEDS=silent", "leeds is named twice"},
		{"2=one-shot,gw-002=silent", "gw-002 is named twice"},
		{"0=one-shot", "a number from 1 to 1000"},
		{"1001=one-shot", "a number from 1 to 1000"},
		{"99999999999999999999=one-shot", "a number from 1 to 1000"},
		{"1000=one-shot,hull=silent", "1001 gateways are more than 1000"},
	}
	for _, test := range tests {
		t.Run(test.list, func(t *testing.T) {
			got, err := parseGateways(test.list)
			if err == nil {
				t.Fatalf("parseGateways accepted it as %v", got)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q does not say %q", err, test.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error is more than one line: %q", err)
			}
		})
	}
}

// What is accepted is safe to be a path, a provider id and an environment
// value, and says again what it was made of.
func FuzzParseGateways(f *testing.F) {
	for _, list := range []string{"leeds=one-shot,hull=persistent:rtt=20ms,york=offline", "50=persistent:rtt=20ms", "x=external", "a=b:c=d,,="} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		gateways, err := parseGateways(list)
		if err != nil {
			return
		}
		if len(gateways) == 0 || len(gateways) > mostGateways {
			t.Fatalf("%d gateways", len(gateways))
		}
		var again []string
		for _, g := range gateways {
			if !gatewayName.MatchString(g.Name) || len(g.Name) > 64 {
				t.Errorf("name %q", g.Name)
			}
			if g.RTT < 0 || g.RTT > longestRTT {
				t.Errorf("rtt %v", g.RTT)
			}
			again = append(again, fmt.Sprintf("%s=%s:rtt=%v", g.Name, g.Mode, g.RTT))
		}
		reparsed, err := parseGateways(strings.Join(again, ","))
		if err != nil {
			t.Fatalf("%v is not parsed again: %v", again, err)
		}
		if diff := cmp.Diff(gateways, reparsed); diff != "" {
			t.Error(diff)
		}
	})
}

func TestGatewayModesListed(t *testing.T) {
	t.Parallel()
	for name := range strings.SplitSeq(gatewayModes, ", ") {
		if _, err := parseMode(name); err != nil {
			t.Error(err)
		}
	}
}
