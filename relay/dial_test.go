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
	const limit = 100 * time.Millisecond
	client := newClient(t, &relay.Client{ConnectTimeout: limit, TLSTimeout: time.Hour, HandshakeTimeout: time.Hour, AckTimeout: time.Hour})
	hc := relay.HybridConnection{Namespace: address, Path: path}
	_, err := client.Connect(t.Context(), hc, nil)
	e := asError(t, err)
	if e.Err == context.DeadlineExceeded || e.Timings.Connect < limit {
		t.Fatalf("waited %v, for something else than the connect timeout: %v", e.Timings.Connect, e)
	}
	if diff := cmp.Diff(verdict{Phase: relay.PhaseConnect, Sent: relay.SentNo}, verdictOf(e)); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(e.Detail, address) {
		t.Errorf("detail %q does not hold the address %s", e.Detail, address)
	}
	patient := newClient(t, &relay.Client{ConnectTimeout: time.Hour})
	(&site{client: patient, hc: hc}).tooLate(t, relay.PhaseConnect)
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

// stalled is a relay that takes the request, and something else that only takes the connection.
func stalled(t *testing.T) {
	const limit = 50 * time.Millisecond
	s := newSite(t, relaytest.GatewayConfig{})
	s.client = newClient(t, &relay.Client{HandshakeTimeout: limit, ConnectTimeout: time.Hour, TLSTimeout: time.Hour, AckTimeout: time.Hour})
	s.relay.Stall(path, 1)
	for _, hc := range []relay.HybridConnection{s.hc, {Namespace: silence(t), Path: path}} {
		_, err := s.client.Connect(t.Context(), hc, s.tokens)
		e := asError(t, err)
		if diff := cmp.Diff(verdict{Phase: relay.PhaseHandshake, Sent: relay.SentNo}, verdictOf(e)); diff != "" {
			t.Error(diff)
		}
		if want := "no answer to the upgrade in 50ms"; e.Detail != want || e.Timings.Handshake < limit {
			t.Errorf("got %q after %v, want %q", e.Detail, e.Timings.Handshake, want)
		}
	}
	s.client = newClient(t, &relay.Client{})
	s.must(t, create(1))
}
