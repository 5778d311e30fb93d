package relay_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(suite.Tests(m)) }

const (
	path       = "hc-leeds"
	createItem = "worklist.create_item"
	updateItem = "worklist.update_status"
)

var key = relaytest.Key{Name: "both", Key: "c3ludGhldGljLWtleS1mb3ItdGVzdHMtb25seS0wMDE=", Send: true, Listen: true}

// unanswered is an AckTimeout that runs out; writing must not take as long.
const unanswered = time.Second

// site is a relay with one gateway, and a client that may dial it.
type site struct {
	relay   *relaytest.Server
	gateway *relaytest.Gateway
	client  *relay.Client
	hc      relay.HybridConnection
	tokens  relay.TokenSource
}

// newSite starts a relay and a gateway as config says, apart from where the gateway listens. No limit of either is one that a slow machine
// can miss: the client watches a connection until it is closed where the gateway closes, and for a moment where it does not.
func newSite(t testing.TB, config relaytest.GatewayConfig) *site {
	t.Helper()
	server := newServer(t, relaytest.Config{})
	return newSiteAt(t, server, config)
}

// newSiteAt is newSite at a given relay.
func newSiteAt(t testing.TB, server *relaytest.Server, config relaytest.GatewayConfig) *site {
	t.Helper()
	config.Name, config.Relay, config.Key = path, server, key
	if config.ReconnectDelay == 0 {
		config.ReconnectDelay = 20 * time.Millisecond
	}
	if config.IdleTimeout == 0 {
		config.IdleTimeout = time.Hour
	}
	gateway, err := relaytest.NewGateway(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { gateway.Close() })
	s := &site{relay: server, gateway: gateway, hc: at(server), tokens: relay.SharedAccessKey(key.Name, key.Key)}
	s.client = newClient(t, &relay.Client{WatchTime: time.Hour, IdleTimeout: time.Hour})
	if config.Mode == relaytest.ModePersistent {
		s.client.WatchTime = 20 * time.Millisecond
	}
	s.client.Hurry(func(w *relay.Waits) { w.Close = time.Minute })
	return s
}

func newServer(t testing.TB, config relaytest.Config) *relaytest.Server {
	t.Helper()
	config.HybridConnections = append(config.HybridConnections, relaytest.HybridConnection{Path: path, Keys: []relaytest.Key{key}})
	server, err := relaytest.NewServer(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return server
}

// newClient lets client dial this machine without TLS and closes it when the test ends.
func newClient(t testing.TB, client *relay.Client) *relay.Client {
	t.Helper()
	if client.RootCAs == nil {
		client.PlainHosts = append(client.PlainHosts, "127.0.0.1")
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func at(server *relaytest.Server) relay.HybridConnection {
	return relay.HybridConnection{Namespace: server.Addr(), Path: path}
}

// send is one turn: connect, exchange, release.
func (s *site) send(ctx context.Context, a relay.Action) (relay.Ack, relay.Timings, error) {
	conn, err := s.client.Connect(ctx, s.hc, s.tokens)
	if err != nil {
		return relay.Ack{}, relay.Timings{}, err
	}
	defer conn.Release()
	ack, err := conn.Exchange(ctx, a)
	return ack, conn.Timings(), err
}

// must is send for an action that arrives.
func (s *site) must(t testing.TB, a relay.Action) (relay.Ack, relay.Timings) {
	t.Helper()
	ack, timings, err := s.send(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return ack, timings
}

// fails is send for an action that does not.
func (s *site) fails(t testing.TB, a relay.Action) *relay.Error {
	t.Helper()
	ack, _, err := s.send(t.Context(), a)
	if err == nil {
		t.Fatalf("got ack %+v, want an error", ack)
	}
	return asError(t, err)
}

func asError(t testing.TB, err error) *relay.Error {
	t.Helper()
	var e *relay.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v (%T), want a *relay.Error", err, err)
	}
	return e
}

// verdict is what of an Error decides.
type verdict struct {
	Phase    relay.Phase
	Sent     relay.Sent
	Answered bool
	Code     int
}

func verdictOf(e *relay.Error) verdict { return verdict{e.Phase, e.Sent, e.Answered, e.Code} }

// create is a create of a synthetic participant; n makes it another one.
func create(n int) relay.Action {
	return relay.NewAction(frameOf(n), actionID(n), createItem, accession(n))
}

func actionID(n int) string  { return fmt.Sprintf("7b0c1f6e-0000-4000-8000-%012d", n) }
func accession(n int) string { return fmt.Sprintf("ACC20260115%04X", n) }

func frameOf(n int) []byte {
	return fmt.Appendf(nil, `{"schema_version":1,"action_id":%q,"action_type":%q,"source_reference":{"appointment_id":"APPT-%d"},`+
		`"parameters":{"worklist_item":{"accession_number":%q,"participant":{"nhs_number":"9990%06d","name":"TESTPERSON^SYNTHETIC",`+
		`"birth_date":"19700131","sex":"F"},"scheduled":{"date":"20260115","time":"093000"},`+
		`"procedure":{"modality":"MG","study_description":"Imaginary bilateral view"}}}}`, actionID(n), createItem, n, accession(n), n)
}

// update moves the item of create(n) to another status.
func update(n int, status string) relay.Action {
	id := fmt.Sprintf("7b0c1f6e-0000-4000-9000-%012d", n)
	frame := fmt.Appendf(nil, `{"schema_version":1,"action_id":%q,"action_type":%q,"parameters":{"worklist_item":{"accession_number":%q,"status":%q}}}`,
		id, updateItem, accession(n), status)
	return relay.NewAction(frame, id, updateItem, accession(n))
}

// deadAddress swallows connections.
func deadAddress(t *testing.T) string {
	t.Helper()
	hole, err := relaytest.NewBlackHole()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hole.Close() })
	return hole.Addr()
}

// sequence is a source whose n-th call gives its n-th token, the last one from then on.
type sequence struct {
	mu     sync.Mutex
	calls  int
	tokens []func(audience string) relay.Token
}

func (s *sequence) Token(_ context.Context, audience string) (relay.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(s.calls, len(s.tokens)-1)
	s.calls++
	return s.tokens[n](audience), nil
}

func (s *sequence) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// signed gives tokens of key that say they live for life, and do for an hour.
func signed(key relaytest.Key, life time.Duration) func(string) relay.Token {
	return func(audience string) relay.Token {
		return relay.NewToken(relaytest.SAS(audience, key, time.Now().Add(time.Hour)), time.Now().Add(life))
	}
}
