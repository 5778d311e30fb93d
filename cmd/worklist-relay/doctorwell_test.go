package main_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// Where nothing is wrong doctor finds nothing wrong: in words and as JSON, with
// and without calling the gateway, on both databases.
func TestDoctorFindsAllWell(t *testing.T) {
	storetest.Each(t, func(t *testing.T, address string) {
		dialect, _, _ := strings.Cut(address, ":")
		i := newInstallation(t, dialect, queueAsItShouldBe())
		i.env["HTTP_ADDR"] = refusing(t)
		said := i.examine("--echo", "--json")
		if said.code != 0 || said.Worst != "ok" || said.errs != "" {
			t.Errorf("exit code %d, worst %q, %s", said.code, said.Worst, said.errs)
		}
		checks := map[string]bool{}
		for _, f := range said.Findings {
			checks[f.Check] = true
			if f.State != "ok" && f.State != "note" && f.Check != "clock" || f.Found == "" {
				t.Errorf("finding %+v", f)
			}
		}
		for _, check := range []string{"configuration", "dns", "tcp", "tls", "token", "listen", "sessions", "send", "manage", "queue",
			"database", "schema", "write", "clock", "relays", "echo", "http", "time zone", "shutdown"} {
			if !checks[check] {
				t.Errorf("no finding of %s", check)
			}
		}
		words := i.examine()
		if words.code != 0 || words.errs != "" {
			t.Errorf("exit code %d, %s", words.code, words.errs)
		}
		lines := strings.Split(strings.TrimSpace(words.out), "\n")
		if last := lines[len(lines)-1]; !strings.HasPrefix(last, "worst: ok (0 failed, 0 warnings, ") {
			t.Errorf("the last line is %q", last)
		}
		for _, line := range lines {
			if len([]rune(line)) > 80 && strings.Contains(strings.TrimSpace(line), " ") {
				t.Errorf("more than 80 columns: %s", line)
			}
		}
		if !strings.Contains(words.out, "skipped  echo: ") || !strings.Contains(words.out, "ok       schema: ") {
			t.Errorf("said:\n%s", words.out)
		}
	})
}

// Doctor takes no message, locks none, writes no row, and calls no gateway
// unless it is told to.
func TestDoctorChangesNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, address string) {
		dialect, _, _ := strings.Cut(address, ":")
		i := newInstallation(t, dialect, queueAsItShouldBe())
		i.send("0f0f0f0f-0000-4000-8000-000000000001", "0f0f0f0f-0000-4000-8000-000000000002")
		i.deadLetterFirst()
		before := i.everything()
		if said := i.examine(); said.code != 0 {
			t.Errorf("exit code %d\n%s", said.code, said.out)
		}
		if diff := cmp.Diff(before, i.everything()); diff != "" {
			t.Errorf("something changed (-before +after):\n%s", diff)
		}
	})
}

// send puts creates into the queue.
func (i *installation) send(ids ...string) {
	i.t.Helper()
	client, err := azservicebus.NewClientFromConnectionString(i.broker.ConnectionString(), nil)
	i.must(err)
	defer client.Close(context.Background())
	sender, err := client.NewSender(queue, nil)
	i.must(err)
	for _, id := range ids {
		body, err := json.Marshal(leaktest.Create(id, "SYN"+id[30:], "20300506"))
		i.must(err)
		m, err := consumer.Encode("leeds", nil, body)
		i.must(err)
		i.must(sender.SendMessage(context.Background(), m, nil))
	}
}

func (i *installation) deadLetterFirst() {
	i.t.Helper()
	client, err := azservicebus.NewClientFromConnectionString(i.broker.ConnectionString(), nil)
	i.must(err)
	defer client.Close(context.Background())
	receiver, err := client.AcceptNextSessionForQueue(context.Background(), queue, nil)
	i.must(err)
	messages, err := receiver.ReceiveMessages(context.Background(), 1, nil)
	i.must(err)
	i.must(receiver.DeadLetterMessage(context.Background(), messages[0], nil))
	i.must(receiver.Close(context.Background()))
}

// everything is the state of the queue, the gateway and the database.
func (i *installation) everything() map[string]string {
	i.t.Helper()
	all := map[string]string{
		"queues":   fmt.Sprintf("%+v", i.broker.Queues()),
		"sessions": fmt.Sprintf("%+v", i.broker.Sessions(queue)),
		"messages": fmt.Sprintf("%+v", i.broker.Messages(queue)),
		"dead":     fmt.Sprintf("%+v", i.broker.Messages(queue+"/$DeadLetterQueue")),
		"gateway":  fmt.Sprintf("%+v", i.gateway.Snapshot()),
	}
	s := scene{t: i.t, database: i.database}
	db, err := s.open()
	i.must(err)
	defer db.Close()
	for _, table := range []string{"relays", "actions", "attempts", "audit", "pulse", "gateway_health", "goose_db_version"} {
		all[table] = i.dump(db, table)
	}
	return all
}

func (i *installation) dump(db *sql.DB, table string) string {
	i.t.Helper()
	rows, err := db.Query("SELECT * FROM " + table)
	i.must(err)
	defer rows.Close()
	columns, err := rows.Columns()
	i.must(err)
	var text strings.Builder
	for rows.Next() {
		values := make([]any, len(columns))
		for n := range values {
			values[n] = new(any)
		}
		i.must(rows.Scan(values...))
		for _, v := range values {
			fmt.Fprintf(&text, "%v ", *v.(*any))
		}
		text.WriteString("\n")
	}
	i.must(rows.Err())
	return text.String()
}

// With everything down doctor still ends, with every failure named.
func TestDoctorWorksWhenAllIsDown(t *testing.T) {
	t.Parallel()
	i := newInstallation(t, "sqlite", queueAsItShouldBe())
	i.env = map[string]string{
		"SERVICEBUS_CONNECTION_STRING": direct(swallowing(t)), "SERVICEBUS_SESSIONS": "maybe",
		"DATABASE_URL": "postgres://postgres:" + leaktest.BrokerKey + "@" + mute(t) + "/test?sslmode=verify-full",
	}
	said := i.examine("--timeout", "1s", "--echo", "--json")
	for _, want := range []finding{
		{Check: "configuration", State: "failed", Found: "SERVICEBUS_SESSIONS is not a true or false"},
		{Check: "tcp", State: "failed", Found: "swallowed"},
		{Check: "tls", State: "failed", Found: "swallowed: connected"},
		{Check: "queue", State: "skipped", Found: "Service Bus cannot be reached"},
		{Check: "database", State: "skipped", Found: "the database cannot be reached"},
		{Check: "relays", State: "skipped"},
	} {
		said.has(t, want)
	}
	if said.code != 3 || said.Worst != "failed" {
		t.Errorf("exit code %d, worst %s", said.code, said.Worst)
	}
	i.env = map[string]string{}
	if said := i.examine("--json"); said.code != 3 || said.count("configuration", "failed") != 2 {
		t.Errorf("without any configuration: exit code %d, %s", said.code, said.out)
	}
}

func (e examined) has(t *testing.T, want finding) {
	t.Helper()
	for _, f := range e.Findings {
		if f.matches(want) {
			return
		}
	}
	t.Errorf("not found: %+v\n%s", want, e.out)
}

func (e examined) count(check, state string) (n int) {
	for _, f := range e.Findings {
		if f.Check == check && f.State == state {
			n++
		}
	}
	return n
}

// A signal ends doctor at once, with what is known by then; what was cut short
// is no failure.
func TestDoctorStopsAtOnce(t *testing.T) {
	t.Parallel()
	i := newInstallation(t, "sqlite", queueAsItShouldBe())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	i.must(err)
	defer listener.Close()
	i.env["SERVICEBUS_CONNECTION_STRING"] = direct(listener.Addr().String())
	cmd := i.command("--timeout", "5m")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	i.must(cmd.Start())
	late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	called, err := listener.Accept()
	i.must(err)
	defer called.Close()
	_, err = called.Read(make([]byte, 1)) // it has begun with TLS, and waits
	i.must(err)
	i.must(cmd.Process.Signal(syscall.SIGINT))
	_ = cmd.Wait() // the code tells
	if code := cmd.ProcessState.ExitCode(); code != 5 {
		t.Errorf("ended with %v, want exit code 5", cmd.ProcessState)
	}
	for _, want := range []string{"ok       configuration: ", "skipped  tls 127.0.0.1:", "skipped  container: stopped by a signal", "worst: ok (0 failed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("not said: %q\n%s%s", want, out.String(), errs.String())
		}
	}
}

// tokenService is where a container asks for the tokens of its identity.
func tokenService(t *testing.T, answer http.HandlerFunc) map[string]string {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return map[string]string{
		"IDENTITY_ENDPOINT": server.URL, "IDENTITY_HEADER": "synthetic", "AZURE_CLIENT_ID": "0f0f0f0f-0000-4000-8000-00000000000a",
		"SERVICEBUS_NAMESPACE": "nowhere.invalid", "SERVICEBUS_CONNECTION_STRING": "", "SERVICEBUS_ADMIN_URL": "",
	}
}

// Doctor says whose tokens it gets, and never the token.
func TestDoctorTellsOfTokens(t *testing.T) {
	t.Parallel()
	encode := base64.RawURLEncoding.EncodeToString
	claims := encode([]byte(`{"appid":"the-app","oid":"the-object","tid":"the-tenant","aud":"https://relay.azure.net","upn":"person@example.org"}`))
	token := encode([]byte(`{"alg":"none"}`)) + "." + claims + "." + encode([]byte("signature"))
	i := newInstallation(t, "sqlite", queueAsItShouldBe())
	for name, value := range tokenService(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.RawQuery, "servicebus") {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"error":"invalid_request","error_description":"AADSTS700016: not found, nor %s"}`, token)
			return
		}
		fmt.Fprintf(w, `{"access_token":%q,"expires_on":"%d","resource":"r","token_type":"Bearer"}`, token, time.Now().Add(time.Hour).Unix())
	}) {
		i.env[name] = value
	}
	said := i.examine("--json")
	said.has(t, finding{Check: "token", Target: "Azure Relay", State: "ok", Found: "app id the-app, object id the-object, tenant the-tenant, audience https://relay.azure.net, until "})
	said.has(t, finding{Check: "token", Target: "Service Bus", State: "failed", Found: "refused with 400, AADSTS700016", Mend: "AZURE_CLIENT_ID must be its client id"})
	for _, secret := range []string{claims, "c2lnbmF0dXJl", "person@"} {
		if strings.Contains(said.out+said.errs, secret) {
			t.Errorf("it says %q", secret)
		}
	}
}

// What only a PostgreSQL server can be wrong in.
func TestDoctorFindsFaultsOfPostgres(t *testing.T) {
	query := func(i *installation, name, value string) {
		u, err := url.Parse(i.env["DATABASE_URL"])
		i.must(err)
		q := u.Query()
		q.Set(name, value)
		u.RawQuery = q.Encode()
		i.env["DATABASE_URL"] = u.String()
	}
	exec := func(i *installation, statements string) {
		s := scene{t: i.t, database: i.database}
		db, err := s.open()
		i.must(err)
		defer db.Close()
		_, err = db.Exec(statements)
		i.must(err)
	}
	for _, fault := range []plantedFault{
		{name: "clock ahead", plant: func(t *testing.T, i *installation) {
			// The function of our schema stands before the server's own.
			exec(i, "CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT pg_catalog.clock_timestamp() - interval '1 minute' $$")
			u, err := url.Parse(i.database)
			i.must(err)
			query(i, "search_path", u.Query().Get("search_path")+",pg_catalog")
		}, code: 1, want: finding{"clock", "database", "failed", "this machine's is ahead by", "Synchronise the clock"}},
		{name: "read-only", plant: func(t *testing.T, i *installation) { query(i, "default_transaction_read_only", "on") }, code: 1, others: true,
			want: finding{"database", "PostgreSQL", "failed", "read-only", "Name the primary server"}},
		{name: "no such database", plant: func(t *testing.T, i *installation) {
			u, err := url.Parse(i.database)
			i.must(err)
			u.Path = "/none_" + filepath.Base(t.TempDir())
			i.env["DATABASE_URL"] = u.String()
		}, code: 1, want: finding{"database", "", "failed", "does not exist", "or make the database"}},
		{name: "older schema", plant: func(t *testing.T, i *installation) { exec(i, "DELETE FROM goose_db_version WHERE version_id > 2") }, code: 3,
			want: finding{"schema", "", "failed", "version 2, needed: ", "Run `worklist-relay migrate`"}},
		{name: "newer schema", plant: func(t *testing.T, i *installation) {
			exec(i, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, TRUE)")
		}, code: 3, want: finding{"schema", "", "failed", "version 9999 is newer", "Run the newer worklist-relay"}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			i := newInstallation(t, "postgres", queueAsItShouldBe())
			fault.plant(t, i)
			i.finds(fault)
		})
	}
}

// A certificate of an authority that RELAY_CA_FILE names is as good as any.
func TestDoctorTrustsAnAuthorityThatIsNamed(t *testing.T) {
	t.Parallel()
	i := newInstallation(t, "sqlite", queueAsItShouldBe())
	server := secureRelay(t, "127.0.0.1:0")
	i.trust(server)
	i.addRelay("york", server.Addr(), "york")
	said := i.examine("--json")
	said.has(t, finding{Check: "tls", Target: server.Addr(), State: "ok", Found: "TLS 1.3, certificate by "})
	if said.code != 0 {
		t.Errorf("exit code %d\n%s", said.code, said.out)
	}
}

// trust lets doctor dial a relay, and trust its certificate.
func (i *installation) trust(server *relaytest.Server) {
	i.t.Helper()
	file := filepath.Join(i.t.TempDir(), "ca.pem")
	i.must(os.WriteFile(file, server.CertificatePEM(), 0o600))
	host, _, err := net.SplitHostPort(server.Addr())
	i.must(err)
	i.env["RELAY_CA_FILE"], i.env["RELAY_ALLOW_HOSTS"] = file, host
}

// Gateways that get no actions for a while are no fault, and noted.
func TestDoctorNotesHeldGateways(t *testing.T) {
	t.Parallel()
	i := newInstallation(t, "sqlite", queueAsItShouldBe())
	name := i.relay.Addr() + "/leeds"
	now, phase := time.Now(), "no_listener"
	i.must(i.store.SaveHealth(context.Background(), store.Health{Relay: name, Failures: 3, OpenedAt: &now, NextProbeAt: &now, LastPhase: &phase}))
	i.must(i.store.HoldGateway(context.Background(), name, store.By{Who: "ada", Why: "new firmware"}))
	said := i.examine("--json")
	said.has(t, finding{Check: "gateway", Target: "/leeds", State: "note", Found: "by ada: new firmware", Mend: "relays release"})
	said.has(t, finding{Check: "gateway", Target: "/leeds", State: "note", Found: "its breaker is open since", Mend: "listener running"})
	if said.code != 0 {
		t.Errorf("exit code %d", said.code)
	}
}
