package consumer_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
)

// connectSituations are about the way to the gateway, before a frame is sent.
var connectSituations = []situation{
	{"21_name_does_not_resolve", func(t *testing.T, url string) {
		// RFC 7686 keeps this domain out of the DNS, and resolvers know that.
		w := dialling(t, url, "nowhere.onion", func(c *relay.Client) { c.AllowHosts = []string{"*.onion"} })
		w.failsToConnect(failedDial{phase: relay.PhaseDNS, says: "nowhere.onion", took: "dns"})
	}},
	{"22_black_hole", func(t *testing.T, url string) {
		hole, err := relaytest.NewBlackHole()
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer hole.Close()
		w := dialling(t, url, hole.Addr(), func(c *relay.Client) { c.PlainHosts, c.ConnectTimeout = []string{hole.Addr()}, 200*time.Millisecond })
		w.failsToConnect(failedDial{phase: relay.PhaseConnect, says: "dial tcp " + hole.Addr(), took: "connect"})
	}},
	{"23_certificate_of_a_bad_chain", func(t *testing.T, url string) {
		server := overTLS(t, "127.0.0.1:0")
		w := dialling(t, url, server.Addr(), func(c *relay.Client) { c.AllowHosts = []string{"127.0.0.1"} })
		w.failsToConnect(failedDial{phase: relay.PhaseTLS, says: "x509", took: "connect tls"})
	}},
	{"23_certificate_of_another_name", func(t *testing.T, url string) {
		server := overTLS(t, "127.0.0.2:0") // which its certificate does not name
		w := dialling(t, url, server.Addr(), func(c *relay.Client) { c.AllowHosts, c.RootCAs = []string{"127.0.0.2"}, server.CertPool() })
		w.failsToConnect(failedDial{phase: relay.PhaseTLS, says: "127.0.0.2", took: "connect tls"})
	}},
	{"24_upgrade_never_answered", func(t *testing.T, url string) {
		silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, nobody else does
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		address := silent.Addr().String()
		w := dialling(t, url, address, func(c *relay.Client) { c.PlainHosts, c.HandshakeTimeout = []string{address}, 200*time.Millisecond })
		w.failsToConnect(failedDial{phase: relay.PhaseHandshake, says: "no answer to the upgrade in 200ms", took: "connect handshake"})
	}},
	{"25_no_listener", func(t *testing.T, url string) {
		w := newWorld(t, url, func(_ *world, g *relaytest.GatewayConfig) { g.Mode = relaytest.ModeOffline })
		w.failsToConnect(failedDial{phase: relay.PhaseNoListener, code: 404, says: "no listener", took: "connect handshake"})
	}},
	{"26_listener_comes_back", func(t *testing.T, url string) {
		w := running(t, url, func(_ *world, g *relaytest.GatewayConfig) { g.Mode = relaytest.ModeOffline })
		id := w.enqueue(newCreate())
		w.until("tried twice in vain", func() bool { return w.row(id).Attempts >= 2 })
		w.gateway.SetMode(relaytest.ModeOneShot)
		w.noDeadLetter()
		row := w.hasRow(id, store.Confirmed, "", "")
		attempts := w.attempts(id)
		for i, a := range attempts {
			if last := i == row.Attempts-1; !last && (text(a.Phase) != string(relay.PhaseNoListener) || a.Sent != store.SentNo) || last && a.Sent != store.SentYes {
				t.Errorf("attempt %d of %d: phase %q, sent %s", i+1, row.Attempts, text(a.Phase), a.Sent)
			}
		}
		w.writtenOnce(1)
	}},
	{"27_endpoint_does_not_exist", func(t *testing.T, url string) {
		w := newWorld(t, url)
		w.relay.Delete(provider)
		w.failsToConnect(failedDial{phase: relay.PhaseEndpoint, code: 404, says: "endpoint does not exist", took: "connect handshake"})
	}},
	{"28_listener_does_not_accept", func(t *testing.T, url string) {
		w := newWorldWith(t, url, relaytest.Config{RendezvousTimeout: 500 * time.Millisecond})
		w.gateway.IgnoreNext(1)
		w.failsToConnect(failedDial{phase: relay.PhaseRendezvous, code: 404, says: "listener did not accept in time", took: "connect handshake"})
	}},
	{"29_404_with_another_phrase", refusedByRelay(404, "Not here", failedDial{phase: relay.PhaseNoListener, code: 404, says: "no listener", took: "connect handshake"})},
	{"29_404_without_a_phrase", refusedByRelay(404, "", failedDial{phase: relay.PhaseNoListener, code: 404, says: "no listener", took: "connect handshake"})},
	{"30_cached_token_has_expired", func(t *testing.T, url string) {
		var expires atomic.Pointer[time.Time] // of the token that is used at once
		w, tokens := withTokens(t, url, func(call int32, audience string) string {
			if call == 1 {
				soon := time.Now().Add(4 * time.Second)
				expires.Store(&soon)
				return relaytest.SAS(audience, sendKey, soon)
			}
			return relaytest.SAS(audience, sendKey, time.Now().Add(time.Hour))
		})
		w.run()
		w.enqueue(newCreate())
		w.noDeadLetter()
		w.until("the token has expired", func() bool { return time.Now().After(*expires.Load()) })
		id := w.enqueue(newCreate())
		w.noDeadLetter()
		w.confirmedIn(id, 1)
		w.writtenOnce(2)
		if dials := w.relay.Stats(provider).Dials; tokens.calls.Load() != 2 || dials != 3 {
			t.Errorf("%d tokens for %d dials, want 2 for 3", tokens.calls.Load(), dials)
		}
	}},
	{"31_bad_signature", tokenRefused(401, "signature", func(audience string) string {
		return relaytest.SAS(audience, relaytest.Key{Name: sendKey.Name, Key: "another"}, time.Now().Add(time.Hour))
	})},
	{"31_wrong_audience", tokenRefused(401, "InvalidAudience", func(audience string) string {
		return relaytest.SAS(audience+"-elsewhere", sendKey, time.Now().Add(time.Hour))
	})},
	{"31_without_the_right_to_send", tokenRefused(403, "403 token refused", func(audience string) string {
		return relaytest.SAS(audience, listenKey, time.Now().Add(time.Hour))
	})},
	{"32_listener_rejects_with_4xx", rejectedByListener(429, failedDial{phase: relay.PhaseRejected, code: 429, says: "429 rejected by the listener", took: "connect handshake"})},
	{"32_listener_rejects_five_times", func(t *testing.T, url string) {
		w := running(t, url)
		w.gateway.RejectNext(-1, 409, "not now")
		id := w.enqueue(newCreate())
		if d := w.deadLetter(consumer.ReasonListenerRejected); !strings.Contains(d, "409") {
			t.Errorf("description %q does not hold the code", d)
		}
		row := w.hasRow(id, store.Failed, consumer.ReasonListenerRejected, relay.PhaseRejected)
		if row.Attempts != 5 || row.SentAt != nil || row.FailedAt == nil {
			t.Errorf("%d attempts, sent at %v, failed at %v", row.Attempts, row.SentAt, row.FailedAt)
		}
		w.nothingSent()
	}},
	{"33_listener_rejects_with_5xx", rejectedByListener(502, failedDial{phase: relay.PhaseHandshake, code: 502, says: "502 instead of an upgrade", took: "connect handshake"})},
	{"33_relay_answers_500", refusedByRelay(500, "Trouble", failedDial{phase: relay.PhaseHandshake, code: 500, says: "500 instead of an upgrade", took: "connect handshake"})},
	{"33_relay_answers_503", refusedByRelay(503, "", failedDial{phase: relay.PhaseHandshake, code: 503, says: "503", took: "connect handshake"})},
	{"37_gateway_serves_another_sender", func(t *testing.T, url string) {
		w := newWorld(t, url)
		other := &relay.Client{PlainHosts: []string{w.relay.Addr()}}
		defer other.Close()
		hc := relay.HybridConnection{Namespace: w.relay.Addr(), Path: provider}
		holding, err := other.Connect(context.Background(), hc, relay.SharedAccessKey(sendKey.Name, sendKey.Key))
		w.must(err)
		defer holding.Release()
		w.run()
		id := w.enqueue(newCreate())
		w.until("waiting at the relay", func() bool { return w.relay.Stats(provider).Dials == 2 })
		w.hasRow(id, store.Pending, "", "")
		w.gateway.AcceptDelay(300 * time.Millisecond)
		holding.Release()
		w.noDeadLetter()
		w.confirmedIn(id, 1)
		if a := w.attempts(id)[0]; a.HandshakeUs < 300_000 {
			t.Errorf("the wait of %d us for the upgrade is not in the attempt", a.HandshakeUs)
		}
		w.writtenOnce(1)
	}},
}

// failedDial is what SQL must say of a try that certainly sent nothing.
type failedDial struct {
	phase relay.Phase
	code  int
	says  string // part of the error
	took  string // the steps that took time
}

// failsToConnect sends one create, waits until it is scheduled again, and
// checks that it was tried once and never sent.
func (w *world) failsToConnect(want failedDial) {
	w.t.Helper()
	w.consumer.Retry.Delays = []time.Duration{time.Hour}
	w.run()
	id := w.enqueue(newCreate())
	w.waiting(1)
	row := w.hasRow(id, store.Pending, "", want.phase)
	if row.Attempts != 1 || row.RetryCount != 1 || row.NextRetryAt == nil || row.SentAt != nil {
		w.t.Errorf("%d attempts, %d retries, next at %v, sent at %v", row.Attempts, row.RetryCount, row.NextRetryAt, row.SentAt)
	}
	attempts := w.attempts(id)
	if len(attempts) != 1 {
		w.t.Fatalf("%d attempt rows, want 1", len(attempts))
	}
	a := attempts[0]
	if text(a.Phase) != string(want.phase) || a.Code != want.code || a.Sent != store.SentNo || a.SentAt != nil || a.Answered || a.Result != "retry" {
		w.t.Errorf("attempt has phase %q, code %d, sent %s, answered %v, result %s", text(a.Phase), a.Code, a.Sent, a.Answered, a.Result)
	}
	for where, said := range map[string]string{"the row": text(row.LastError), "the attempt": text(a.Error)} {
		if !strings.Contains(said, want.says) {
			w.t.Errorf("%s says %q, want %q in it", where, said, want.says)
		}
	}
	w.took(a, want.took)
	w.nothingSent()
	if dead := w.queueState().DeadLettered; dead != 0 {
		w.t.Errorf("%d dead letters", dead)
	}
}

// took checks which steps of an attempt took time.
func (w *world) took(a store.Attempt, want string) {
	w.t.Helper()
	var steps []string
	for _, step := range []struct {
		name string
		us   int64
	}{{"dns", a.DNSUs}, {"connect", a.ConnectUs}, {"tls", a.TLSUs}, {"handshake", a.HandshakeUs}, {"ack", a.AckUs}} {
		if step.us > 0 {
			steps = append(steps, step.name)
		}
	}
	if got := strings.Join(steps, " "); got != want {
		w.t.Errorf("the attempt took time for %q, want %q", got, want)
	}
}

// dialling is a world whose provider has its relay at address. Only the limit
// that change sets can be met before the test loses its patience.
func dialling(t *testing.T, url, address string, change func(*relay.Client)) *world {
	w := newWorld(t, url)
	w.gateways.ConnectTimeout, w.gateways.TLSTimeout, w.gateways.HandshakeTimeout, w.gateways.AckTimeout = time.Hour, time.Hour, time.Hour, time.Hour
	change(w.gateways)
	w.addRelay(provider, nil, address, provider, "LEEDS_KEY")
	return w
}

// overTLS is a relay with a certificate of its own making.
func overTLS(t *testing.T, address string) *relaytest.Server {
	server, err := relaytest.NewServer(relaytest.Config{Addr: address, TLS: true})
	if err != nil {
		t.Skip("this machine has no such address:", err)
	}
	t.Cleanup(func() { server.Close() })
	return server
}

// refusedByRelay is the situation of a status line in place of the upgrade.
func refusedByRelay(code int, phrase string, want failedDial) func(*testing.T, string) {
	return func(t *testing.T, url string) {
		w := newWorld(t, url)
		w.relay.Refuse(provider, 1, code, phrase)
		w.failsToConnect(want)
	}
}

// rejectedByListener is the situation of a listener that refuses.
func rejectedByListener(code int, want failedDial) func(*testing.T, string) {
	return func(t *testing.T, url string) {
		w := newWorld(t, url)
		w.gateway.RejectNext(1, code, "not now")
		w.failsToConnect(want)
	}
}

// tokens stands for Entra ID: it makes a new token at each call.
type tokens struct {
	calls atomic.Int32
	sign  func(call int32, audience string) string
}

func (s *tokens) Token(_ context.Context, audience string) (relay.Token, error) {
	return relay.NewToken(s.sign(s.calls.Add(1), audience), time.Now().Add(time.Hour)), nil
}

// withTokens is a world whose relay row names no key.
func withTokens(t *testing.T, url string, sign func(call int32, audience string) string, change ...func(*world, *relaytest.GatewayConfig)) (*world, *tokens) {
	w, source := newWorld(t, url, change...), &tokens{sign: sign}
	w.consumer.Entra = source
	w.must(w.store.ReplaceRelay(context.Background(), store.Relay{
		ProviderID: provider, Namespace: w.relay.Addr(), HybridConnection: provider,
	}, store.By{Who: "test"}))
	return w, source
}

// tokenRefused is the situation of tokens that are no good, however fresh.
func tokenRefused(code int, says string, sign func(audience string) string) func(*testing.T, string) {
	return func(t *testing.T, url string) {
		w, source := withTokens(t, url, func(_ int32, audience string) string { return sign(audience) })
		w.failsToConnect(failedDial{phase: relay.PhaseAuth, code: code, says: says, took: "connect handshake"})
		if dials := w.relay.Stats(provider).Dials; source.calls.Load() != 2 || dials != 2 {
			t.Errorf("%d tokens for %d dials, want a fresh one once", source.calls.Load(), dials)
		}
	}
}
