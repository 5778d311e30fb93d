package main_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// plantedFault is one thing that is wrong, and how doctor has to tell it.
type plantedFault struct {
	name   string
	queue  func(*servicebustest.Queue) // before the start; nil: as it should be
	plant  func(*testing.T, *installation)
	args   []string
	want   finding // Found and Mend are parts of what is said
	code   int
	others bool // faults that follow from it are failures too
}

func set(name, value string) func(*testing.T, *installation) {
	return func(_ *testing.T, i *installation) { i.env[name] = value }
}

var plantedFaults = []plantedFault{
	{name: "wrong variable", plant: set("CONCURRENCY", "many"), code: 3,
		want: finding{"configuration", "", "failed", "CONCURRENCY is not a whole number", "run --help"}},
	{name: "missing variable", plant: set("DATABASE_URL", ""), code: 3,
		want: finding{"configuration", "", "failed", "DATABASE_URL is not set", ""}},
	{name: "database URL that does not parse", plant: set("DATABASE_URL", "postgres://relay:a%zz@127.0.0.1:1/worklist"), code: 3,
		want: finding{"configuration", "", "failed", "DATABASE_URL: the URL does not parse; write special characters", "run --help"}},
	{name: "database URL that the driver refuses", plant: set("DATABASE_URL", "postgres://relay@127.0.0.1:1/worklist?sslmode=loose"), code: 3,
		want: finding{"configuration", "", "failed", "DATABASE_URL: the URL has a parameter", "run --help"}},
	{name: "wrong variable of telemetry", plant: set("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier pigeon"), code: 3,
		want: finding{"configuration", "", "failed", "OTEL_EXPORTER_OTLP_PROTOCOL is not", "run --help"}},
	{name: "unknown host", plant: set("SERVICEBUS_CONNECTION_STRING", direct("nowhere.invalid")), code: 1,
		want: finding{"dns", "nowhere.invalid", "failed", "", ""}},
	{name: "refused", plant: func(t *testing.T, i *installation) { i.env["SERVICEBUS_CONNECTION_STRING"] = direct(freeAddr(t)) }, code: 1,
		want: finding{"tcp", "127.0.0.1:", "failed", "refused", "nothing listens at port"}},
	{name: "swallowed", plant: func(t *testing.T, i *installation) { i.env["SERVICEBUS_CONNECTION_STRING"] = direct(swallowing(t)) }, code: 1, args: []string{"--timeout", "10s"},
		want: finding{"tcp", "127.0.0.1:", "failed", "swallowed: no answer within 10s", "private endpoint may be Approved"}},
	{name: "says nothing", plant: func(t *testing.T, i *installation) { i.env["SERVICEBUS_CONNECTION_STRING"] = direct(mute(t)) }, code: 1, args: []string{"--timeout", "10s"},
		want: finding{"tls", "127.0.0.1:", "failed", "swallowed: connected, but no answer within 10s", "a firewall that opens TLS"}},
	{name: "no TLS", plant: func(_ *testing.T, i *installation) {
		i.env["SERVICEBUS_CONNECTION_STRING"] = direct(i.broker.HTTPAddr())
	}, code: 1,
		want: finding{"tls", "127.0.0.1:", "failed", "does not speak TLS", "another program listens"}},
	{name: "broker says nothing", plant: func(t *testing.T, i *installation) {
		i.env["SERVICEBUS_CONNECTION_STRING"] = strings.Replace(i.broker.ConnectionString(), i.broker.Addr(), mute(t), 1)
	}, code: 1, args: []string{"--timeout", "10s"}, others: true,
		want: finding{"send", queue, "failed", "no answer within 10s", "Azure's status page"}},
	{name: "database says nothing", plant: func(t *testing.T, i *installation) {
		i.env["DATABASE_URL"] = "postgres://postgres@" + mute(t) + "/test?sslmode=disable"
	}, code: 1, args: []string{"--timeout", "10s"},
		want: finding{"database", "", "failed", "no answer within 10s", "takes connections and does not answer"}},
	{name: "management address says nothing", plant: func(t *testing.T, i *installation) {
		i.env["SERVICEBUS_ADMIN_URL"] = "http://" + mute(t)
	}, code: 0, args: []string{"--timeout", "10s"}, others: true,
		want: finding{"manage", queue, "note", "did not answer within 10s", "run does without"}},
	{name: "wrong key", plant: func(_ *testing.T, i *installation) {
		i.env["SERVICEBUS_CONNECTION_STRING"] = strings.Replace(i.broker.ConnectionString(), "SharedAccessKey=", "SharedAccessKey=d3Jvbmc", 1)
	}, code: 1, others: true,
		want: finding{"listen", queue, "failed", "not allowed", "Compare name, key and rights"}},
	{name: "token refused", plant: func(_ *testing.T, i *installation) { i.broker.RefuseTokens(time.Hour) }, code: 1, others: true,
		want: finding{"send", queue, "failed", "not allowed", "Compare name, key and rights"}},
	{name: "no such queue", plant: set("SERVICEBUS_QUEUE", "worklist-comands"), code: 1, others: true,
		want: finding{"listen", "worklist-comands", "failed", "no such queue", "Compare SERVICEBUS_QUEUE"}},
	{name: "no such outcome queue", plant: set("OUTCOME_QUEUE", "none"), code: 1,
		want: finding{"send", "none", "failed", "no such queue", "OUTCOME_QUEUE"}},
	{name: "queue disabled", plant: func(_ *testing.T, i *installation) { i.broker.Disable(queue, true) }, code: 1, others: true,
		want: finding{"queue", queue, "failed", "status is Disabled", "Enable the queue"}},
	{name: "queue with sessions, program without", plant: set("SERVICEBUS_SESSIONS", "false"), code: 1, others: true,
		want: finding{"sessions", queue, "failed", "requiresSession is true, needed: false", "Set SERVICEBUS_SESSIONS=true"}},
	{name: "queue without sessions", queue: func(q *servicebustest.Queue) { q.RequiresSession = false }, code: 1, others: true,
		want: finding{"queue", queue, "failed", "requiresSession is false, needed: true", "Set SERVICEBUS_SESSIONS=false"}},
	{name: "queue without sessions, and no right to manage", queue: func(q *servicebustest.Queue) { q.RequiresSession = false },
		plant: func(t *testing.T, i *installation) { i.env["SERVICEBUS_ADMIN_URL"] = "http://" + freeAddr(t) }, code: 1,
		want: finding{"sessions", queue, "failed", "requiresSession is false, needed: true", "Set SERVICEBUS_SESSIONS=false"}},
	{name: "lock too short", queue: func(q *servicebustest.Queue) { q.LockDuration = 10 * time.Second }, code: 1,
		want: finding{"queue", queue, "failed", "lockDuration is 10s, needed: 30s to 5m", "Set it to 1 minute"}},
	{name: "lock too long", plant: func(_ *testing.T, i *installation) { i.manageThrough(0, "PT1M", "PT10M") }, code: 1,
		want: finding{"queue", queue, "failed", "lockDuration is 10m, needed: 30s to 5m", "Set it to 1 minute"}},
	{name: "too few deliveries", queue: func(q *servicebustest.Queue) { q.MaxDeliveryCount = 3 }, code: 1,
		want: finding{"queue", queue, "failed", "maxDeliveryCount is 3, needed: at least 10", "Set it to 10"}},
	{name: "duplicate detection", queue: func(q *servicebustest.Queue) { q.RequiresDuplicateDetection = true }, code: 1,
		want: finding{"queue", queue, "failed", "requiresDuplicateDetection is true, needed: false", "Make the queue anew"}},
	{name: "expires without a trace", queue: func(q *servicebustest.Queue) { q.DeadLetteringOnExpiration = false }, code: 1,
		want: finding{"queue", queue, "failed", "deadLetteringOnMessageExpiration is false", "Set it to true"}},
	{name: "short life", queue: func(q *servicebustest.Queue) { q.DefaultTTL = time.Hour }, code: 4,
		want: finding{"queue", queue, "warning", "defaultMessageTimeToLive is 1h", "Set it to 14 days"}},
	{name: "database away", plant: func(t *testing.T, i *installation) {
		i.env["DATABASE_URL"] = "postgres://postgres@" + freeAddr(t) + "/test?sslmode=verify-full"
	}, code: 1,
		want: finding{"tcp", "127.0.0.1:", "failed", "refused", "see whether the server runs"}},
	{name: "database without TLS", plant: func(t *testing.T, i *installation) {
		i.env["DATABASE_URL"] = "postgres://postgres@" + answering(t, 8, "N") + "/test?sslmode=verify-full"
	}, code: 1,
		want: finding{"tls", "127.0.0.1:", "failed", "the server takes no TLS", "Switch TLS on at the server"}},
	{name: "database file away", plant: func(t *testing.T, i *installation) {
		i.env["DATABASE_URL"] = "sqlite:" + filepath.Join(t.TempDir(), "none.db")
	}, code: 1,
		want: finding{"database", "", "failed", "not there", "worklist-relay migrate"}},
	{name: "not migrated", plant: func(t *testing.T, i *installation) {
		file := filepath.Join(t.TempDir(), "empty.db")
		i.must(os.WriteFile(file, nil, 0o600))
		i.env["DATABASE_URL"] = "sqlite:" + file
	}, code: 3,
		want: finding{"schema", "", "failed", "no tables, needed: version", "Run `worklist-relay migrate`"}},
	{name: "no database file", plant: func(t *testing.T, i *installation) {
		file := filepath.Join(t.TempDir(), "notes.txt")
		i.must(os.WriteFile(file, []byte("this is no database"), 0o600))
		i.env["DATABASE_URL"] = "sqlite:" + file
	}, code: 1,
		want: finding{"database", "", "failed", "not a database", "SQLite makes files beside it"}},
	{name: "clock behind", plant: func(_ *testing.T, i *installation) { i.manageThrough(5 * time.Minute) }, code: 1,
		want: finding{"clock", "Service Bus", "failed", "this machine's is behind by", "Synchronise the clock"}},
	{name: "clock a little ahead", plant: func(_ *testing.T, i *installation) { i.manageThrough(-20 * time.Second) }, code: 4,
		want: finding{"clock", "Service Bus", "warning", "this machine's is ahead by", "Synchronise the clock"}},
	{name: "no relays", plant: func(t *testing.T, i *installation) {
		i.env["DATABASE_URL"] = storetest.URL(t, "sqlite")
		storetest.Open(t, i.env["DATABASE_URL"])
	}, code: 4,
		want: finding{"relays", "", "warning", "there are none", "relays add"}},
	{name: "key variable not set", plant: set("LEEDS_KEY", ""), code: 1,
		want: finding{"relay", "/leeds", "failed", "variable LEEDS_KEY, which the relay names for its key, is not set", "Set the variable"}},
	{name: "host not allowed", plant: func(t *testing.T, i *installation) { i.addRelay("york", "relay.example", "york") }, code: 1,
		want: finding{"relay", "relay.example/york", "failed", "host not allowed", "RELAY_ALLOW_HOSTS"}},
	{name: "relay refused", plant: func(t *testing.T, i *installation) {
		addr := freeAddr(t)
		i.env["RELAY_PLAIN_HOSTS"] += "," + addr
		i.addRelay("york", addr, "york")
	}, code: 1,
		want: finding{"tcp", "127.0.0.1:", "failed", "refused", "nothing listens"}},
	{name: "unknown authority", plant: func(t *testing.T, i *installation) {
		i.env["RELAY_ALLOW_HOSTS"] = "127.0.0.1"
		i.addRelay("york", secureRelay(t, "127.0.0.1:0").Addr(), "york")
	}, code: 1,
		want: finding{"tls", "127.0.0.1:", "failed", "unknown authority: the certificate by", "RELAY_CA_FILE"}},
	{name: "wrong name", plant: func(t *testing.T, i *installation) {
		server := secureRelay(t, "127.0.0.2:0")
		i.trust(server)
		i.addRelay("york", server.Addr(), "york")
	}, code: 1,
		want: finding{"tls", "127.0.0.2:", "failed", "wrong name: the certificate by", "compare it with the portal"}},
	{name: "no listener", plant: func(t *testing.T, i *installation) {
		i.relay.Create(relaytest.HybridConnection{Path: "york", Keys: []relaytest.Key{sendKey, listenKey}})
		i.addRelay("york", i.relay.Addr(), "york")
	}, args: []string{"--echo"}, code: 1,
		want: finding{"echo", "/york", "failed", "no_listener: ", "The relay has no gateway connected."}},
	{name: "wrong relay key", plant: set("LEEDS_KEY", "wrong"), args: []string{"--echo"}, code: 1,
		want: finding{"echo", "/leeds", "failed", "auth: ", "Compare the key and its Send right"}},
	{name: "address taken", plant: func(t *testing.T, i *installation) {
		other := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(other.Close)
		i.env["HTTP_ADDR"] = other.Listener.Addr().String()
	}, code: 1,
		want: finding{"http", "127.0.0.1:", "failed", "is in use: /livez answered 404", "Another program has the port"}},
}

// secureRelay is a relay with TLS, and a certificate of its own making for 127.0.0.1.
func secureRelay(t *testing.T, addr string) *relaytest.Server {
	t.Helper()
	server, err := relaytest.NewServer(relaytest.Config{Addr: addr, TLS: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return server
}

// Doctor names each fault where it is and says what mends it, and only what
// follows from it is told beside it.
func TestDoctorFindsPlantedFaults(t *testing.T) {
	t.Parallel()
	for _, fault := range plantedFaults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			commands := queueAsItShouldBe()
			if fault.queue != nil {
				fault.queue(&commands)
			}
			i := newInstallation(t, "sqlite", commands)
			if fault.plant != nil {
				fault.plant(t, i)
			}
			i.finds(fault)
		})
	}
}

// finds checks that doctor tells of the fault, and exits accordingly.
func (i *installation) finds(fault plantedFault) {
	i.t.Helper()
	said := i.examine(append(fault.args, "--json")...)
	if said.code != fault.code {
		i.t.Errorf("exit code %d, want %d", said.code, fault.code)
	}
	found := false
	for _, f := range said.Findings {
		switch {
		case f.matches(fault.want):
			found = true
		case f.State == fault.want.State && !fault.others:
			i.t.Errorf("also: %+v", f)
		}
		if (f.State == "failed" || f.State == "warning") && f.Mend == "" {
			i.t.Errorf("nothing said of how to mend %+v", f)
		}
	}
	if !found {
		i.t.Errorf("not found: %+v\n%s", fault.want, said.out)
	}
	worst := fault.want.State
	if worst == "note" {
		worst = "ok"
	}
	if said.Worst != worst {
		i.t.Errorf("worst %q, want %q", said.Worst, worst)
	}
}

func (f finding) matches(want finding) bool {
	return f.Check == want.Check && f.State == want.State && strings.Contains(f.Target, want.Target) &&
		strings.Contains(f.Found, want.Found) && strings.Contains(f.Mend, want.Mend)
}
