package main_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	service "github.com/worklist-relay/worklist-relay/cmd/worklist-relay"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// entraScene is a scene where everything asks for tokens of Entra ID.
type entraScene struct {
	*scene
	identities *identities
	role       string        // of the identity, in PostgreSQL
	gate       *passwordGate // of the database
	granted    atomic.Bool   // the role may come in
}

// newEntraScene has a queue with or without sessions, and an identity with tokens
// for these resources, which live for life.
func newEntraScene(t *testing.T, sessions bool, life time.Duration, ready ...string) *entraScene {
	t.Helper()
	s := &entraScene{scene: &scene{t: t, database: storetest.Empty(t, "postgres")}, identities: newIdentities(t, life, ready...)}
	address, err := url.Parse(s.database)
	s.must(err)
	s.addRole(address)
	s.broker, err = servicebustest.NewServer(servicebustest.Config{
		TLS: true, HTTPAddr: "127.0.0.1:0", Queues: []servicebustest.Queue{{Name: queue, LockDuration: 15 * time.Second, RequiresSession: sessions}},
		VerifyJWT: func(token, _ string) (time.Time, error) { return s.identities.verify(token, forServiceBus) },
	})
	s.must(err)
	t.Cleanup(func() { s.check(s.broker.Close()) })
	s.relay, err = relaytest.NewServer(relaytest.Config{
		TLS: true, HybridConnections: []relaytest.HybridConnection{{Path: "leeds", Keys: []relaytest.Key{listenKey}}},
		AcceptBearer: func(token string) bool { _, err := s.identities.verify(token, forRelay); return err == nil },
	})
	s.must(err)
	t.Cleanup(func() { s.check(s.relay.Close()) })
	s.gateway, err = relaytest.NewGateway(relaytest.GatewayConfig{Name: "leeds", Relay: s.relay, Key: listenKey, ReconnectDelay: 50 * time.Millisecond})
	s.must(err)
	t.Cleanup(func() { s.check(s.gateway.Close()) })
	s.must(s.store.AddRelay(t.Context(), store.Relay{ProviderID: "leeds", Namespace: s.relay.Addr(), HybridConnection: "leeds"}, store.By{Who: "test"}))
	s.client = s.dial()
	s.gate = startPasswordGate(t, address.Host, s.letIn)
	address.User, address.Host = url.User(s.role), s.gate.addr()
	roots := filepath.Join(t.TempDir(), "roots.pem")
	s.must(os.WriteFile(roots, append(s.broker.CertificatePEM(), s.relay.CertificatePEM()...), 0o600))
	s.env = map[string]string{
		"SERVICEBUS_NAMESPACE": s.broker.Addr(), "SERVICEBUS_SESSIONS": strconv.FormatBool(sessions), "SERVICEBUS_ADMIN_URL": "https://" + s.broker.HTTPAddr(),
		"DATABASE_URL": address.String(), "DATABASE_ENTRA": "true", "RELAY_ALLOW_HOSTS": s.relay.Addr(), "SSL_CERT_FILE": roots,
		"CLINIC_TIME_ZONE": "UTC", "RETRY_DELAYS": "1s", "POSTPONE_DELAYS": "1s",
	}
	maps.Copy(s.env, s.identities.env())
	t.Cleanup(func() { leaktest.Database(t, s.database) })
	return s
}

// addRole makes the identity's role with no more than the README grants it, and
// has it make the tables, as `migrate` does.
func (s *entraScene) addRole(address *url.URL) {
	s.t.Helper()
	db, err := s.open()
	s.must(err)
	s.t.Cleanup(func() { s.check(db.Close()) })
	s.role = "identity " + strings.ToLower(rand.Text())
	schema := address.Query().Get("search_path")
	_, err = db.Exec(`CREATE ROLE "` + s.role + `" LOGIN; GRANT USAGE, CREATE ON SCHEMA "` + schema + `" TO "` + s.role + `"`)
	s.must(err)
	s.t.Cleanup(func() {
		_, err := db.Exec(`DROP OWNED BY "` + s.role + `"; DROP ROLE "` + s.role + `"`)
		s.check(err)
	})
	own := *address
	own.User = url.User(s.role)
	s.store = storetest.Open(s.t, own.String())
}

// letIn judges who comes to the database.
func (s *entraScene) letIn(role, password string) error {
	_, err := s.identities.verify(password, forDatabase)
	if role != s.role || !s.granted.Load() {
		err = errors.New("no such role")
	}
	return err
}

// dial is the test's own client of the queue.
func (s *entraScene) dial() *azservicebus.Client {
	s.t.Helper()
	client, err := azservicebus.NewClient("127.0.0.1", s.identities, &azservicebus.ClientOptions{
		CustomEndpoint: s.broker.Addr(), TLSConfig: &tls.Config{RootCAs: s.broker.CertPool()},
	})
	s.must(err)
	s.t.Cleanup(func() { s.check(client.Close(context.Background())) })
	return client
}

// says waits for a line of the program's log that holds all of these.
func (s *entraScene) says(p *program, parts ...string) {
	s.t.Helper()
	s.until("it says "+strings.Join(parts, " ... "), func() bool {
		for line := range strings.Lines(p.log.String()) {
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
				return true
			}
		}
		return false
	})
}

// command runs a command to its end, which must be with this exit code, and
// returns what it printed.
func (s *entraScene) command(code int, args string) string {
	s.t.Helper()
	o, err := service.CommandLine{Args: strings.Fields(args), Env: environ(s.env)}.Run()
	s.must(err)
	if o.Code != code {
		s.t.Errorf("%s: exit code %d, want %d\n%s%s", args, o.Code, code, o.Out, o.Errs)
	}
	leaktest.Check(s.t, "the output of "+args, o.Out+o.Errs)
	return o.Out + o.Errs
}
