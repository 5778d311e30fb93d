package relay_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// refusal is a status line in place of the upgrade, and what it means.
type refusal struct {
	code   int
	phrase string
	phase  relay.Phase
	detail string
	dials  int
}

const trailer = " TrackingId:1b4e28ba-2fa1-11d2-883f-0016d3cca427_G7, SystemTracker:ns:hc-leeds, Timestamp:2026-01-15T09:30:00"

// The status lines that the relay is known to give.
var (
	refusedNoListener = []refusal{
		{404, "There are no listeners connected for the endpoint." + trailer, relay.PhaseNoListener,
			"404 no listener (tracking id 1b4e28ba-2fa1-11d2-883f-0016d3cca427_G7)", 1},
		{404, "There are no listeners connected for the endpoint.", relay.PhaseNoListener, "404 no listener", 1},
	}
	refusedNoEndpoint = []refusal{{404, "Endpoint does not exist.", relay.PhaseEndpoint, "404 endpoint does not exist", 1}}
	refusedRendezvous = []refusal{{404, "None of the connected listeners accepted the connection within the allowed timeout.", relay.PhaseRendezvous,
		"404 listener did not accept in time", 1}}
	refusedOtherwise = []refusal{
		{404, "Not here", relay.PhaseNoListener, "404 no listener", 1},
		{404, "", relay.PhaseNoListener, "404 no listener", 1},
	}
	refusedToken = []refusal{
		{401, "InvalidAudience: not here", relay.PhaseAuth, "401 token refused: InvalidAudience", 2},
		{403, "Send claim required", relay.PhaseAuth, "403 token refused", 2},
	}
	refusedByListener = []refusal{
		{400, "Rejected by user code", relay.PhaseRejected, "400 rejected by the listener: Rejected by user code", 1},
		{418, "you said dGhpcyBpcyBubyBzZWNyZXQgYnV0IGxvb2tzIGxpa2Ugb25l=", relay.PhaseRejected,
			"418 rejected by the listener", 1},
	}
	refusedInTrouble = []refusal{
		{500, "Trouble", relay.PhaseHandshake, "500 instead of an upgrade", 1},
		{503, "", relay.PhaseHandshake, "503 instead of an upgrade", 1},
		{302, "Found", relay.PhaseHandshake, "302 instead of an upgrade", 1},
	}
)

// refused is the situation of a dial that is answered with each of these.
func refused(refusals ...refusal) func(*testing.T) {
	return func(t *testing.T) {
		s := newSite(t, relaytest.GatewayConfig{})
		for _, r := range refusals {
			before := s.relay.Stats(path).Dials
			s.relay.Refuse(path, r.dials, r.code, r.phrase)
			e := s.fails(t, create(1))
			if diff := cmp.Diff(verdict{Phase: r.phase, Sent: relay.SentNo, Code: r.code}, verdictOf(e)); diff != "" {
				t.Error(diff)
			}
			if e.Detail != r.detail || e.Error() != "connect "+s.hc.String()+": "+r.detail {
				t.Errorf("got %q, want the detail %q", e, r.detail)
			}
			if dials := s.relay.Stats(path).Dials - before; dials != r.dials {
				t.Errorf("dialled %d times at %d %q, want %d", dials, r.code, r.phrase, r.dials)
			}
		}
		s.must(t, create(1))
	}
}

func nobodyListens(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModeOffline})
	if diff := cmp.Diff(verdict{Phase: relay.PhaseNoListener, Sent: relay.SentNo, Code: 404}, verdictOf(s.fails(t, create(1)))); diff != "" {
		t.Error(diff)
	}
}

func comesBack(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{})
	s.gateway.SetMode(relaytest.ModeOffline)
	suite.Until(t, "listener gone", func() bool { return s.relay.Stats(path).Listeners == 0 })
	if e := s.fails(t, create(1)); e.Phase != relay.PhaseNoListener {
		t.Fatalf("got %v", e)
	}
	s.gateway.SetMode(relaytest.ModeOneShot)
	suite.Until(t, "listener back", func() bool { return s.relay.Stats(path).Listeners == 1 })
	s.must(t, create(1))
}

// noEndpoint is a hybrid connection that was removed, and one that never was.
func noEndpoint(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{})
	s.relay.Delete(path)
	for _, name := range []string{path, "hc-nowhere"} {
		s.hc.Path = name
		if diff := cmp.Diff(verdict{Phase: relay.PhaseEndpoint, Sent: relay.SentNo, Code: 404}, verdictOf(s.fails(t, create(1)))); diff != "" {
			t.Error(name, diff)
		}
	}
}

func notAccepted(t *testing.T) {
	s := newSiteAt(t, newServer(t, relaytest.Config{RendezvousTimeout: 50 * time.Millisecond}), relaytest.GatewayConfig{})
	s.gateway.IgnoreNext(1)
	if diff := cmp.Diff(verdict{Phase: relay.PhaseRendezvous, Sent: relay.SentNo, Code: 404}, verdictOf(s.fails(t, create(1)))); diff != "" {
		t.Error(diff)
	}
}

func tokenExpired(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{})
	stale := func(audience string) relay.Token {
		return relay.NewToken(relaytest.SAS(audience, key, time.Now().Add(-time.Minute)), time.Now().Add(time.Hour))
	}
	source := &sequence{tokens: []func(string) relay.Token{stale, signed(key, time.Hour)}}
	s.tokens = source
	s.must(t, create(1))
	s.must(t, create(2))
	if source.Calls() != 2 || s.relay.Stats(path).Dials != 3 {
		t.Errorf("%d tokens for %d dials, want 2 for 3", source.Calls(), s.relay.Stats(path).Dials)
	}
}

func tokenRefused(t *testing.T) {
	listenOnly := relaytest.Key{Name: "listen", Key: "bGlzdGVuLW9ubHkta2V5LWZvci10ZXN0cy0wMDAwMDE=", Listen: true}
	s := newSite(t, relaytest.GatewayConfig{})
	s.relay.Create(relaytest.HybridConnection{Path: path, Keys: []relaytest.Key{key, listenOnly}})
	for name, tokens := range map[string]relay.TokenSource{
		"signature": relay.SharedAccessKey(key.Name, "another"),
		"right":     relay.SharedAccessKey(listenOnly.Name, listenOnly.Key),
		"none":      nil,
	} {
		t.Run(name, func(t *testing.T) {
			s.tokens = tokens
			before := s.relay.Stats(path).Dials
			e := s.fails(t, create(1))
			if e.Phase != relay.PhaseAuth || e.Sent != relay.SentNo || e.Code != 401 && e.Code != 403 {
				t.Errorf("got %+v", verdictOf(e))
			}
			want := 2
			if tokens == nil {
				want = 1
			}
			if dials := s.relay.Stats(path).Dials - before; dials != want {
				t.Errorf("dialled %d times, want %d", dials, want)
			}
		})
	}
}

// rejects is the situation of a listener that refuses with each of these codes.
func rejects(phase relay.Phase, codes ...int) func(*testing.T) {
	return func(t *testing.T) {
		s := newSite(t, relaytest.GatewayConfig{})
		for _, code := range codes {
			s.gateway.RejectNext(1, code, "not now, TESTPERSON")
			e := s.fails(t, create(1))
			if diff := cmp.Diff(verdict{Phase: phase, Sent: relay.SentNo, Code: code}, verdictOf(e)); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(e.Detail, "TESTPERSON") || !strings.Contains(e.Detail, strconv.Itoa(code)) {
				t.Errorf("detail %q: want the code, and none of the listener's words", e.Detail)
			}
		}
	}
}
