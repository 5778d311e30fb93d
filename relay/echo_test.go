package relay_test

import (
	"strings"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// meaning is what an echo says of a gateway whose breaker is open.
type meaning int

const (
	nothing meaning = iota // it stays open, and no probe was spent
	life                   // it closes
	failure                // it stays open, and the next probe is later
)

// echoed is the situation of an echo to a gateway that does with it as reply says, or as its mode does.
func echoed(config relaytest.GatewayConfig, reply *relaytest.Reply, phase relay.Phase, want meaning) func(*testing.T) {
	return func(t *testing.T) {
		s := newSite(t, config)
		if config.Mode == relaytest.ModeSilent {
			s.client.AckTimeout = unanswered
		}
		if reply != nil {
			s.gateway.Script(*reply)
		}
		var b relay.Breaker
		b.Result(inPhase(relay.PhaseEndpoint), epoch, relay.BreakerPolicy{})
		_, err := s.client.Echo(t.Context(), s.hc, s.tokens)
		if phase == "" && err != nil || phase != "" && asError(t, err).Phase != phase {
			t.Errorf("got %v, want phase %q", err, phase)
		}
		closed := b.Result(err, epoch.Add(time.Minute), relay.BreakerPolicy{})
		if closed != (want == life) || b.Open() != (want != life) || (b.Probes == 1) != (want == failure) {
			t.Errorf("after %v: closed %v, and the breaker is %+v", err, closed, b)
		}
	}
}

func echoAnswered(t *testing.T) {
	for _, mode := range []relaytest.Mode{relaytest.ModeOneShot, relaytest.ModePersistent} {
		echoed(relaytest.GatewayConfig{Mode: mode}, nil, "", life)(t)
		s := newSite(t, relaytest.GatewayConfig{Mode: mode})
		for n := range 3 {
			timings, err := s.client.Echo(t.Context(), s.hc, s.tokens)
			if err != nil || timings.Ack == 0 || timings.Reused != (n > 0 && mode == relaytest.ModePersistent) {
				t.Errorf("%s: got %+v, %v", mode, timings, err)
			}
		}
		if frames := s.gateway.Frames(); len(frames) != 3 || !strings.Contains(string(frames[0]), `"action_type":"echo"`) {
			t.Errorf("%s: gateway got %q", mode, frames)
		}
	}
}
