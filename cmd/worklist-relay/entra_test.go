package main_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"flag"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

var entraClaims = flag.Bool("entra.claims", false, "wait for the SDK to renew a claim")

// TestEntra runs the program as it runs in production: with no key and no
// password, but the endpoint of a managed identity, whose tokens Service Bus,
// the relay and PostgreSQL each judge. What the program says, and SQL, may hold
// neither a token nor what it asked with.
func TestEntra(t *testing.T) {
	bin := buildBoth(t)
	t.Run("the identity and the role are not ready at first", func(t *testing.T) {
		t.Parallel()
		s := newEntraScene(t, bin, true, 24*time.Hour)
		s.env["PROBE_DELAYS"] = "1s"
		p := s.start()
		s.until("the database's token was refused twice", func() bool { return s.identities.refusals(forDatabase) > 1 })
		s.says(p, "database not available, trying again", forDatabase+": answered 400: AZURE_CLIENT_ID")
		id := s.enqueue("leeds")
		s.identities.grant(forDatabase, true)
		s.until("the role is not let in", func() bool { return p.log.has("password authentication failed") })
		s.granted.Store(true)
		s.until("Service Bus's token was refused twice", func() bool { return s.identities.refusals(forServiceBus) > 1 })
		s.says(p, "queue not available, trying again", forServiceBus+": answered 400: AZURE_CLIENT_ID")
		s.identities.grant(forServiceBus, true)
		s.until("the relay's token was refused", func() bool { return s.identities.refusals(forRelay) > 0 })
		s.frames(0)
		s.identities.grant(forRelay, true)
		s.confirmed(id, false)
		for _, resource := range []string{forDatabase, forServiceBus, forRelay} {
			// Those who ask at the same moment may each get one.
			if n := len(s.identities.used(resource)); n == 0 || n > 3 {
				t.Errorf("%d tokens were used for %s, want one for all", n, resource)
			}
		}
	})
	t.Run("tokens are renewed before they expire", func(t *testing.T) {
		t.Parallel()
		// A token is kept until five minutes before its end: here, for some seconds.
		s := newEntraScene(t, bin, false, 5*time.Minute+3*time.Second, forDatabase, forServiceBus, forRelay)
		s.env["IDLE_TIMEOUT"] = "1s"
		s.granted.Store(true)
		s.start()
		s.confirmed(s.enqueue("leeds"), false)
		fewest := func() int {
			return min(len(s.identities.used(forDatabase)), len(s.identities.used(forServiceBus)), len(s.identities.used(forRelay)))
		}
		for n := 0; fewest() < 3; n++ {
			if n > 30 {
				t.Fatal("no new tokens are asked for")
			}
			// What is connected stays so; it is each new connection that shows a token.
			s.gate.cut()
			s.broker.DropConnections()
			id := s.enqueue("leeds")
			s.until("it is confirmed", func() bool { return s.row(id).Status == store.Confirmed })
			s.until("the gateway is left", func() bool { return s.relay.Stats("leeds").Open == 0 })
		}
		for _, resource := range []string{forDatabase, forServiceBus, forRelay} {
			for _, pair := range pairs(s.identities.used(resource)) {
				if left := pair[0].expire.Sub(pair[1].asked); left < time.Minute {
					t.Errorf("a token for %s was asked for %s before the last one expired", resource, left)
				}
			}
		}
	})
	t.Run("a claim is renewed on a link that stands", func(t *testing.T) {
		t.Parallel()
		if !*entraClaims {
			t.Skip("takes two minutes, at which the SDK renews at the earliest: give -entra.claims")
		}
		s := newEntraScene(t, bin, false, 5*time.Minute+3*time.Second, forDatabase, forServiceBus, forRelay)
		s.granted.Store(true)
		p := s.start()
		began := time.Now()
		s.confirmed(s.enqueue("leeds"), false)
		for n := 0; len(s.identities.used(forServiceBus)) < 2; n++ {
			if time.Since(began) > 5*time.Minute {
				t.Fatal("no token is asked for before the first expires")
			}
			s.until("it is two seconds later", func() bool { return time.Since(began) > time.Duration(n)*2*time.Second })
		}
		t.Logf("renewed after %s", time.Since(began).Round(time.Second))
		id := s.enqueue("leeds")
		s.until("the link still works", func() bool { return s.row(id).Status == store.Confirmed })
		if p.log.has("queue not available") {
			t.Error("the link was lost")
		}
	})
	t.Run("no token can be had when the last expires", func(t *testing.T) {
		t.Parallel()
		s := newEntraScene(t, bin, true, 5*time.Minute+time.Second, forDatabase, forServiceBus, forRelay)
		s.granted.Store(true)
		p := s.start()
		id := s.enqueue("leeds")
		s.until("it is confirmed", func() bool { return s.row(id).Status == store.Confirmed })
		s.identities.grant(forServiceBus, false)
		s.until("the kept token is not used any more", func() bool {
			s.broker.ExpireTokens()
			return s.identities.refusals(forServiceBus) > 1
		})
		s.says(p, "queue not available, trying again", forServiceBus+": answered 400: AZURE_CLIENT_ID")
		s.client = s.dial() // the test's own link is gone too
		id = s.enqueue("leeds")
		s.identities.grant(forServiceBus, true)
		s.until("it is confirmed", func() bool { return s.row(id).Status == store.Confirmed })
	})
	t.Run("operators' commands", func(t *testing.T) {
		t.Parallel()
		s := newEntraScene(t, bin, false, time.Hour, forServiceBus, forRelay)
		const refused = "worklist-relay: open database postgres://"
		for _, command := range []string{"migrate", "relays list"} {
			if out := s.command(1, command); !strings.HasPrefix(out, refused) || !strings.Contains(out, forDatabase+": answered 400: ") || strings.Count(out, "\n") != 1 {
				t.Errorf("%s without a token says %q", command, out)
			}
		}
		s.holds(s.command(1, "doctor"), "FAILED   token PostgreSQL: refused with 400", "skipped  database: there is no token for it", "ok       token Service Bus: ")
		s.identities.grant(forDatabase, true)
		s.holds(s.command(1, "doctor"), "ok       token PostgreSQL: ", "FAILED   database: ")
		if out := s.command(1, "migrate"); !strings.Contains(out, "password authentication failed") {
			t.Errorf("migrate without a role says %q", out)
		}
		s.granted.Store(true)
		for _, command := range []string{"migrate", "relays list", "relays ping --all", "dlq count", "dlq reconcile"} {
			s.command(0, command)
		}
		s.holds(s.command(1, "doctor --echo"), "ok       token PostgreSQL: ", "ok       listen ", "ok       rights", "ok       echo ",
			"lockDuration is 5s", "worst: FAILED (1 failed, 0 warnings") // the test's own choice
		if out := s.command(0, "dlq reconcile"); strings.Contains(out, "not known") {
			t.Errorf("dlq reconcile could not count the queue: %s", out)
		}
	})
}

// pairs are each token and the next.
func pairs(grants []grant) (list [][2]grant) {
	slices.SortFunc(grants, func(a, b grant) int { return a.asked.Compare(b.asked) })
	for i := 1; i < len(grants); i++ {
		list = append(list, [2]grant{grants[i-1], grants[i]})
	}
	return list
}

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
func newEntraScene(t *testing.T, bin string, sessions bool, life time.Duration, ready ...string) *entraScene {
	t.Helper()
	s := &entraScene{scene: &scene{t: t, bin: bin, database: storetest.URL(t, "postgres")}, identities: newIdentities(t, life, ready...)}
	address, err := url.Parse(s.database)
	s.must(err)
	s.addRole(address)
	s.broker, err = servicebustest.NewServer(servicebustest.Config{
		TLS: true, HTTPAddr: "127.0.0.1:0", Queues: []servicebustest.Queue{{Name: queue, LockDuration: 5 * time.Second, RequiresSession: sessions, DeadLetteringOnExpiration: true}},
		VerifyJWT: func(token, _ string) (time.Time, error) { return s.identities.verify(token, forServiceBus) },
	})
	s.must(err)
	t.Cleanup(func() { s.check(s.broker.Close()) })
	s.relay, err = relaytest.NewServer(relaytest.Config{
		TLS: true, RendezvousTimeout: 2 * time.Second, HybridConnections: []relaytest.HybridConnection{{Path: "leeds", Keys: []relaytest.Key{listenKey}}},
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

// holds says what of these the output does not hold.
func (s *entraScene) holds(out string, parts ...string) {
	s.t.Helper()
	for _, part := range parts {
		if !strings.Contains(out, part) {
			s.t.Errorf("not said: %q\n%s", part, out)
		}
	}
}

// command runs a command to its end, which must be with this exit code, and
// returns what it printed.
func (s *entraScene) command(code int, args string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "worklist-relay"), strings.Fields(args)...)
	for name, value := range s.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
		s.t.Errorf("%s: %v, want exit code %d\n%s", args, err, code, out)
	}
	leaktest.Check(s.t, "the output of "+args, string(out))
	return string(out)
}
