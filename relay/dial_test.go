package relay_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

func unresolved(t *testing.T) {
	// RFC 7686 keeps this domain out of the DNS, and resolvers know that.
	client := newClient(t, &relay.Client{AllowHosts: []string{"*.onion"}})
	_, err := client.Connect(t.Context(), relay.HybridConnection{Namespace: "nowhere.onion", Path: path}, nil)
	e := asError(t, err)
	if diff := cmp.Diff(verdict{Phase: relay.PhaseDNS, Sent: relay.SentNo}, verdictOf(e)); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(e.Error(), "nowhere.onion") {
		t.Errorf("%q does not name the host", e)
	}
}

func blackHole(t *testing.T) {
	address := deadAddress(t)
	client := newClient(t, &relay.Client{ConnectTimeout: 100 * time.Millisecond, HandshakeTimeout: time.Hour, AckTimeout: time.Hour})
	hc := relay.HybridConnection{Namespace: address, Path: path}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := client.Connect(ctx, hc, nil)
	e := asError(t, err)
	if e.Err == context.DeadlineExceeded {
		t.Fatal("waited for something else than the connect timeout")
	}
	if diff := cmp.Diff(verdict{Phase: relay.PhaseConnect, Sent: relay.SentNo}, verdictOf(e)); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(e.Detail, address) {
		t.Errorf("detail %q does not hold the address %s", e.Detail, address)
	}
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = client.Connect(soon, hc, nil)
	if e := asError(t, err); e.Phase != relay.PhaseConnect || e.Err != context.DeadlineExceeded {
		t.Errorf("the caller's deadline shows as %+v: %v", verdictOf(e), e)
	}
}

func certificates(t *testing.T) {
	server := newServer(t, relaytest.Config{TLS: true})
	gateway, err := relaytest.NewGateway(relaytest.GatewayConfig{Name: path, Relay: server, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer gateway.Close()
	tokens := relay.SharedAccessKey(key.Name, key.Key)
	local := []string{"127.0.0.1", "127.0.0.2"}

	trusting := &site{client: newClient(t, &relay.Client{RootCAs: server.CertPool(), AllowHosts: local}), hc: at(server), tokens: tokens}
	if _, timings := trusting.must(t, create(1)); timings.TLS == 0 {
		t.Error("no TLS handshake")
	}

	// The other address needs a certificate of its own, which this server has not.
	other, err := relaytest.NewServer(relaytest.Config{TLS: true, Addr: "127.0.0.2:0"})
	if err != nil {
		t.Skip("this machine has one loopback address only:", err)
	}
	defer other.Close()
	for name, s := range map[string]*site{
		"bad chain":  {client: &relay.Client{AllowHosts: local}, hc: at(server), tokens: tokens},
		"wrong name": {client: &relay.Client{AllowHosts: local, RootCAs: other.CertPool()}, hc: at(other), tokens: tokens},
	} {
		t.Run(name, func(t *testing.T) {
			defer s.client.Close()
			e := s.fails(t, create(1))
			if diff := cmp.Diff(verdict{Phase: relay.PhaseTLS, Sent: relay.SentNo}, verdictOf(e)); diff != "" {
				t.Error(diff)
			}
			if !strings.Contains(e.Detail, "x509") {
				t.Errorf("detail %q does not say what is wrong with the certificate", e.Detail)
			}
		})
	}
}

func stalled(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{})
	s.client.HandshakeTimeout = 50 * time.Millisecond
	s.relay.Stall(path, 1)
	e := s.fails(t, create(1))
	if diff := cmp.Diff(verdict{Phase: relay.PhaseHandshake, Sent: relay.SentNo}, verdictOf(e)); diff != "" {
		t.Error(diff)
	}
	s.must(t, create(1))
}

// refusals are every status line that the relay is known to give.
func refusals(t *testing.T) {
	const trailer = " TrackingId:1b4e28ba-2fa1-11d2-883f-0016d3cca427_G7, SystemTracker:ns:hc-leeds, Timestamp:2026-01-15T09:30:00"
	s := newSite(t, relaytest.GatewayConfig{})
	for _, test := range []struct {
		name   string
		code   int
		phrase string
		phase  relay.Phase
		detail string
		dials  int
	}{
		{"25 no listener", 404, "There are no listeners connected for the endpoint." + trailer, relay.PhaseNoListener,
			"404 no listener (tracking id 1b4e28ba-2fa1-11d2-883f-0016d3cca427_G7)", 1},
		{"27 no endpoint", 404, "Endpoint does not exist.", relay.PhaseEndpoint, "404 endpoint does not exist", 1},
		{"28 not accepted", 404, "None of the connected listeners accepted the connection within the allowed timeout.", relay.PhaseRendezvous,
			"404 listener did not accept in time", 1},
		{"29 other phrase", 404, "Not here", relay.PhaseNoListener, "404 no listener", 1},
		{"29 no phrase", 404, "", relay.PhaseNoListener, "404 no listener", 1},
		{"31 unauthorized", 401, "Invalid audience", relay.PhaseAuth, "401 token refused: Invalid audience", 2},
		{"31 forbidden", 403, "Send claim required", relay.PhaseAuth, "403 token refused: Send claim required", 2},
		{"32 rejected", 400, "Rejected by user code", relay.PhaseRejected, "400 rejected by the listener: Rejected by user code", 1},
		{"32 rejected with a secret", 418, "you said dGhpcyBpcyBubyBzZWNyZXQgYnV0IGxvb2tzIGxpa2Ugb25l=", relay.PhaseRejected,
			"418 rejected by the listener: you said [...]", 1},
		{"33 internal", 500, "Trouble", relay.PhaseHandshake, "500 instead of an upgrade: Trouble", 1},
		{"33 unavailable", 503, "", relay.PhaseHandshake, "503 instead of an upgrade", 1},
		{"redirect", 302, "Found", relay.PhaseHandshake, "302 instead of an upgrade: Found", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := s.relay.Stats(path).Dials
			s.relay.Refuse(path, test.dials, test.code, test.phrase)
			e := s.fails(t, create(1))
			if diff := cmp.Diff(verdict{Phase: test.phase, Sent: relay.SentNo, Code: test.code}, verdictOf(e)); diff != "" {
				t.Error(diff)
			}
			if e.Detail != test.detail || e.Error() != "connect "+s.hc.String()+": "+test.detail {
				t.Errorf("got %q", e)
			}
			if dials := s.relay.Stats(path).Dials - before; dials != test.dials {
				t.Errorf("dialled %d times, want %d", dials, test.dials)
			}
		})
	}
	s.must(t, create(1))
}

func comesBack(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{ReconnectDelay: 100 * time.Millisecond})
	s.relay.DropListeners(path)
	if e := s.fails(t, create(1)); e.Phase != relay.PhaseNoListener {
		t.Fatalf("got %v", e)
	}
	eventually(t, "listener back", func() bool { return s.relay.Stats(path).Listeners == 1 })
	s.must(t, create(1))
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

func rejects(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{})
	for code, phase := range map[int]relay.Phase{400: relay.PhaseRejected, 429: relay.PhaseRejected, 502: relay.PhaseHandshake} {
		s.gateway.RejectNext(1, code, "not now")
		e := s.fails(t, create(1))
		if diff := cmp.Diff(verdict{Phase: phase, Sent: relay.SentNo, Code: code}, verdictOf(e)); diff != "" {
			t.Error(diff)
		}
		if !strings.Contains(e.Detail, "not now") {
			t.Errorf("detail %q does not hold the listener's words", e.Detail)
		}
	}
}
