package relay_test

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// stepsOf names the steps that took any time.
func stepsOf(t relay.Timings) string {
	var steps []string
	for _, step := range []struct {
		name string
		took bool
	}{
		{"dns", t.DNS > 0}, {"connect", t.Connect > 0}, {"tls", t.TLS > 0}, {"handshake", t.Handshake > 0}, {"ack", t.Ack > 0}, {"reused", t.Reused},
	} {
		if step.took {
			steps = append(steps, step.name)
		}
	}
	return strings.Join(steps, " ")
}

// silence is an address at which connections are made, by the kernel, and nothing is ever said on them.
func silence(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener.Addr().String()
}

// to is a site at an address that no relay serves.
func to(t *testing.T, address string, client *relay.Client) *site {
	return &site{client: newClient(t, client), hc: relay.HybridConnection{Namespace: address, Path: path}}
}

// TestTimingsOfFailures holds each failure to the steps that led to it, by the error alone: after a failed dial there is nothing else.
func TestTimingsOfFailures(t *testing.T) {
	t.Parallel()
	const limit = 50 * time.Millisecond
	open := func(t *testing.T, client *relay.Client, mode relaytest.Mode) *site {
		s := newSite(t, relaytest.GatewayConfig{Mode: mode})
		s.client = newClient(t, client)
		return s
	}
	for _, test := range []struct {
		name   string
		site   func(*testing.T) *site
		before int // exchanges over the same connection
		phase  relay.Phase
		steps  string
		slow   func(relay.Timings) time.Duration // the step that ran into its limit
	}{
		{"unresolved", func(t *testing.T) *site {
			return to(t, "nowhere.onion", &relay.Client{AllowHosts: []string{"*.onion"}})
		},
			0, relay.PhaseDNS, "dns", nil},
		{"black hole", func(t *testing.T) *site { return to(t, deadAddress(t), &relay.Client{ConnectTimeout: limit}) },
			0, relay.PhaseConnect, "connect", func(t relay.Timings) time.Duration { return t.Connect }},
		{"silent TLS", func(t *testing.T) *site {
			return to(t, silence(t), &relay.Client{TLSTimeout: limit, AllowHosts: []string{"127.0.0.1"}, RootCAs: newServer(t, relaytest.Config{TLS: true}).CertPool()})
		}, 0, relay.PhaseTLS, "connect tls", func(t relay.Timings) time.Duration { return t.TLS }},
		{"no upgrade", func(t *testing.T) *site { return to(t, silence(t), &relay.Client{HandshakeTimeout: limit}) },
			0, relay.PhaseHandshake, "connect handshake", func(t relay.Timings) time.Duration { return t.Handshake }},
		{"no listener", func(t *testing.T) *site { return open(t, &relay.Client{}, relaytest.ModeOffline) },
			0, relay.PhaseNoListener, "connect handshake", nil},
		{"no token", func(t *testing.T) *site {
			s, log, now := to(t, silence(t), &relay.Client{}), []string(nil), make(chan struct{})
			close(now)
			s.tokens = gate{"", &log, now}
			return s
		}, 0, relay.PhaseAuth, "", nil},
		{"token refused", func(t *testing.T) *site {
			s := open(t, &relay.Client{}, "")
			s.tokens = relay.SharedAccessKey("unknown", "unknown")
			return s
		}, 0, relay.PhaseAuth, "connect handshake", nil},
		{"no ack", func(t *testing.T) *site { return open(t, &relay.Client{}, relaytest.ModeSilent) },
			0, relay.PhaseAckTimeout, "connect handshake ack", func(t relay.Timings) time.Duration { return t.Ack }},
		{"no ack, reused", func(t *testing.T) *site {
			s := open(t, &relay.Client{WatchTime: -1}, relaytest.ModePersistent)
			s.gateway.Script(relaytest.Reply{Honest: true}, relaytest.Reply{KeepOpen: true})
			return s
		}, 1, relay.PhaseAckTimeout, "ack reused", func(t relay.Timings) time.Duration { return t.Ack }},
		{"closed", func(t *testing.T) *site { return open(t, &relay.Client{}, relaytest.ModeHangUp) },
			0, relay.PhaseAckClosed, "connect handshake ack", nil},
		{"lost, and nobody there then", func(t *testing.T) *site {
			s := open(t, &relay.Client{WatchTime: -1}, relaytest.ModePersistent)
			s.gateway.Script(relaytest.Reply{Honest: true}, relaytest.Reply{Drop: true})
			return s
		}, 1, relay.PhaseAckLost, "connect handshake ack reused", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := test.site(t)
			for range test.before {
				s.must(t, create(1))
				s.relay.Refuse(path, 1, 404, "")
			}
			if test.phase == relay.PhaseAckTimeout {
				s.client.AckTimeout = unanswered // for this exchange alone: those before must succeed
			}
			e := s.fails(t, create(2))
			if e.Phase != test.phase || stepsOf(e.Timings) != test.steps {
				t.Errorf("%v: phase %s with the steps %q, want %s with %q", e, e.Phase, stepsOf(e.Timings), test.phase, test.steps)
			}
			if test.slow != nil && test.slow(e.Timings) < limit {
				t.Errorf("failed at its limit of %v, but timings are %+v", limit, e.Timings)
			}
		})
	}
}

func TestTimingsOfTheCallersLimit(t *testing.T) {
	t.Parallel()
	s := to(t, silence(t), &relay.Client{HandshakeTimeout: time.Hour})
	if e := s.tooLate(t, relay.PhaseHandshake); stepsOf(e.Timings) != "connect handshake" {
		t.Errorf("got %v with the steps %q", e, stepsOf(e.Timings))
	}
}

// tooLate connects until the caller's deadline passes, in phase: a slow machine may not come so far within the shortest.
func (s *site) tooLate(t *testing.T, phase relay.Phase) *relay.Error {
	t.Helper()
	for limit := 20 * time.Millisecond; ; limit *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		_, err := s.client.Connect(ctx, s.hc, s.tokens)
		cancel()
		e := asError(t, err)
		if e.Err != context.DeadlineExceeded || limit > time.Minute {
			t.Fatalf("the caller's deadline shows as %+v: %v", verdictOf(e), e)
		}
		if e.Phase == phase {
			return e
		}
	}
}

// TestTimingsOfAnEcho fails in Connect and in Exchange.
func TestTimingsOfAnEcho(t *testing.T) {
	t.Parallel()
	s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModeSilent})
	s.client.AckTimeout = unanswered
	for _, want := range []string{"connect handshake ack", "connect handshake"} {
		timings, err := s.client.Echo(t.Context(), s.hc, s.tokens)
		if e := asError(t, err); stepsOf(timings) != want || e.Timings != timings {
			t.Errorf("%v: got the steps %q, the error has %q, want %q", e, stepsOf(timings), stepsOf(e.Timings), want)
		}
		s.relay.Refuse(path, 1, 404, "")
	}
}

// TestTimingsOfAFrameThatIsStuck also has the connection's own timings, which are those of the error.
func TestTimingsOfAFrameThatIsStuck(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	defer close(done)
	s := rawSite(t, func(*websocket.Conn) { <-done })
	s.client.AckTimeout = 50 * time.Millisecond
	s.client.Hurry(func(w *relay.Waits) { w.Close = 10 * time.Millisecond })
	_, timings, err := s.send(t.Context(), relay.NewAction(bytes.Repeat([]byte(" "), 16<<20), "", updateItem, ""))
	if e := asError(t, err); e.Phase != relay.PhaseSend || e.Timings != timings || timings.Ack < s.client.AckTimeout {
		t.Errorf("got %v with %+v, the connection has %+v", e, e.Timings, timings)
	}
}

// TestOwnLimitsAreNotTheCallers holds every limit but the caller's to look like a failure of the relay, which a Breaker counts.
func TestOwnLimitsAreNotTheCallers(t *testing.T) {
	t.Parallel()
	pool := newServer(t, relaytest.Config{TLS: true}).CertPool()
	for phase, s := range map[relay.Phase]*site{
		relay.PhaseConnect:   to(t, deadAddress(t), &relay.Client{ConnectTimeout: 20 * time.Millisecond}),
		relay.PhaseTLS:       to(t, silence(t), &relay.Client{TLSTimeout: 20 * time.Millisecond, AllowHosts: []string{"127.0.0.1"}, RootCAs: pool}),
		relay.PhaseHandshake: to(t, silence(t), &relay.Client{HandshakeTimeout: 20 * time.Millisecond}),
		relay.PhaseAuth:      {client: newClient(t, &relay.Client{}), hc: relay.HybridConnection{Namespace: "127.0.0.1:1", Path: path}, tokens: late{}},
	} {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			e := s.fails(t, create(1))
			if e.Phase != phase || e.Err == context.DeadlineExceeded {
				t.Errorf("%v, phase %s, looks like the caller's deadline", e, e.Phase)
			}
			var b relay.Breaker
			if b.Result(e, time.Now(), relay.BreakerPolicy{}); b.Failures != 1 {
				t.Errorf("%v is no failure to a breaker", e)
			}
		})
	}
}

// late is a source that ran into a limit of its own.
type late struct{}

func (late) Token(context.Context, string) (relay.Token, error) {
	return relay.Token{}, context.DeadlineExceeded
}
