package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// served runs serve with the flags until the test ends, and returns the
// environment that it wrote.
func served(t *testing.T, flags ...string) (env map[string]string) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	file := filepath.Join(t.TempDir(), "e")
	ctx, stop := context.WithCancel(t.Context())
	var stdout, stderr strings.Builder
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"serve", "--env-file", file}, flags...), &stdout, &stderr)
	}()
	var text []byte
	t.Cleanup(func() {
		stop()
		if got := <-code; got != exitDone || stderr.String() != "" {
			t.Errorf("exit code %d, stderr: %s", got, &stderr)
		}
		if stdout.String() != string(text) {
			t.Errorf("printed and written lines differ:\n%s", cmp.Diff(string(text), stdout.String()))
		}
		database, _ := strings.CutPrefix(env["DATABASE_URL"], "sqlite:")
		if folder := filepath.Dir(database); strings.HasPrefix(filepath.Base(folder), "worklist-relay-local-") {
			if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("temporary folder %s is left: %v", folder, err)
			}
		}
		noLeak(t, before)
	})
	suite.Until(t, "the env file is there", func() bool {
		var err error
		text, err = os.ReadFile(file)
		return err == nil || len(code) > 0
	})
	if len(text) == 0 {
		t.Fatal("no env file")
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("env file: mode %v, error %v", info.Mode(), err)
	}
	env = parseEnv(string(text))
	return env
}

// production is what worklist-relay would make of the environment, and of
// nothing else.
type production struct {
	env    map[string]string
	client *azservicebus.Client
	relay  *relay.Client
	store  *store.Store
}

func fromEnv(t *testing.T, env map[string]string) production {
	t.Helper()
	client, err := azservicebus.NewClientFromConnectionString(env["SERVICEBUS_CONNECTION_STRING"], nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(context.WithoutCancel(t.Context())) })
	db, err := store.Open(t.Context(), env["DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	sender := &relay.Client{AllowHosts: strings.Split(env["RELAY_ALLOW_HOSTS"], ",")}
	if hosts := env["RELAY_PLAIN_HOSTS"]; hosts != "" {
		sender.PlainHosts = strings.Split(hosts, ",")
	}
	if file := env["RELAY_CA_FILE"]; file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sender.RootCAs = x509.NewCertPool()
		if !sender.RootCAs.AppendCertsFromPEM(pem) {
			t.Fatal("no certificate in RELAY_CA_FILE")
		}
	}
	t.Cleanup(func() { sender.Close() })
	return production{env, client, sender, db}
}

// echo asks a provider's gateway for a sign of life, the way its relay row says.
func (p production) echo(t *testing.T, provider string) error {
	t.Helper()
	row, err := p.store.Relay(t.Context(), provider, nil)
	if err != nil {
		t.Fatal(err)
	}
	tokens := relay.SharedAccessKey(*row.KeyName, p.env[*row.KeyVariable])
	_, err = p.relay.Echo(t.Context(), relay.HybridConnection{Namespace: row.Namespace, Path: row.HybridConnection}, tokens)
	return err
}

// enqueue sends a new create for a provider and returns it.
func (p production) enqueue(t *testing.T, provider string) action {
	t.Helper()
	now, err := clinicNow()
	if err != nil {
		t.Fatal(err)
	}
	a := newSampler(1, now.Add(midnightMargin)).create()
	message, err := consumer.Encode(provider, nil, marshal(a))
	if err != nil {
		t.Fatal(err)
	}
	sender, err := p.client.NewSender(p.env["SERVICEBUS_QUEUE"], nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := sender.SendMessage(t.Context(), message, nil); err != nil {
		t.Fatal(err)
	}
	return a
}

// ends waits until SQL says that an action is over, and how.
func (p production) ends(t *testing.T, a action) store.Action {
	t.Helper()
	var row store.Action
	suite.Until(t, "the action is over", func() bool {
		found, err := p.store.Actions(t.Context(), store.ActionFilter{ActionID: a.ActionID})
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 1 {
			row = found[0]
		}
		return row.Status == store.Confirmed || row.Status == store.Failed
	}, func() string { return fmt.Sprintf("it is %q", row.Status) })
	return row
}

func TestServeCarriesAnActionThrough(t *testing.T) {
	for name, flags := range map[string][]string{"plain": nil, "tls": {"--tls"}} {
		t.Run(name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, url string) {
				env := served(t, append(flags, "--database-url", url, "--gateways", "leeds=one-shot:rtt=30ms,york=reject")...)
				p := fromEnv(t, env)
				if err := p.echo(t, "leeds"); err != nil {
					t.Error(err)
				}
				a := p.enqueue(t, "leeds")
				if row := p.ends(t, a); row.Status != store.Confirmed {
					t.Errorf("action is %s: %v", row.Status, deref(row.LastError))
				}
				_, attempts, _, err := p.store.Action(t.Context(), "leeds", a.ActionID)
				if err != nil || len(attempts) != 1 || attempts[0].AckUs < 30_000 {
					t.Errorf("not one attempt that waited for the rtt: %+v, error %v", attempts, err)
				}
				accession := a.Parameters.WorklistItem.AccessionNumber
				want := []gatewayState{
					{
						relaytest.Snapshot{Name: "leeds", Mode: relaytest.ModeOneShot, Dials: 2, Exchanges: 2, MaxOpen: 1, Items: []relaytest.Item{
							{AccessionNumber: accession, ActionID: a.ActionID, Status: "SCHEDULED", Writes: 1},
						}},
						[]relaytest.Write{{ActionID: a.ActionID, AccessionNumber: accession, Status: "SCHEDULED"}},
					},
					{relaytest.Snapshot{Name: "york", Mode: relaytest.ModeReject, Items: []relaytest.Item{}}, []relaytest.Write{}},
				}
				if diff := cmp.Diff(want, p.states(t)); diff != "" {
					t.Errorf("gateways (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestServeRejects(t *testing.T) {
	p := fromEnv(t, served(t, "--gateways", "york=reject"))
	row := p.ends(t, p.enqueue(t, "york"))
	if row.Status != store.Failed || deref(row.Reason) != string(consumer.ReasonGatewayRejected) || row.Attempts != 1 {
		t.Errorf("action is %s %s after %d tries", row.Status, deref(row.Reason), row.Attempts)
	}
}

func TestServeLeavesTheQueueAloneWithoutConsumer(t *testing.T) {
	env := served(t, "--consumer=false", "--gateways", "leeds=one-shot")
	fromEnv(t, env).enqueue(t, "leeds")
	_, text, err := ask(env["LOCAL_HTTP_ADDR"], "GET", "/broker", "")
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"queue":"worklist-commands","active":1,"scheduled":0,"dead_lettered":0,"locked":0}]` + "\n"
	if diff := cmp.Diff(want, text); diff != "" {
		t.Error(diff)
	}
}

func TestServeModesOnTheLine(t *testing.T) {
	env := served(t, "--consumer=false", "--gateways", "off=offline,out=external,on=persistent,hang=hangup")
	p := fromEnv(t, env)
	// A clean close is a sign of life.
	for provider, want := range map[string]relay.Phase{"off": relay.PhaseNoListener, "out": relay.PhaseNoListener, "on": "", "hang": ""} {
		err := p.echo(t, provider)
		var failure *relay.Error
		if errors.As(err, &failure) != (want != "") || failure != nil && failure.Phase != want {
			t.Errorf("%s: %v, not phase %q", provider, err, want)
		}
	}
	for mode, want := range map[string]relay.Phase{"persistent": "", "offline": relay.PhaseNoListener, "one-shot": ""} {
		if status, text, err := ask(env["LOCAL_HTTP_ADDR"], "POST", "/gateways/off", `{"mode":"`+mode+`"}`); err != nil || status != 200 {
			t.Fatal(status, text, err)
		}
		err := p.echo(t, "off")
		var failure *relay.Error
		if errors.As(err, &failure) != (want != "") || failure != nil && failure.Phase != want {
			t.Errorf("%s: %v, not phase %q", mode, err, want)
		}
	}
}

// An env file of an earlier run is gone before anything is waited for, here a
// database that takes the connection and says nothing.
func TestServeRemovesStaleEnvFile(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if err := silent.(*net.TCPListener).SetDeadline(time.Now().Add(testLimit)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "e")
	if err := os.WriteFile(file, []byte(firstVariable+"=Endpoint=sb://127.0.0.1:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var stdout, stderr strings.Builder
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"serve", "--env-file", file, "--database-url", "postgres://u@" + silent.Addr().String() + "/x?sslmode=disable"}, &stdout, &stderr)
	}()
	asked, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
	stop()
	asked.Close()
	if got := <-code; got != exitFailed || stderr.String() != "local: serve: interrupted before everything was up\n" {
		t.Errorf("exit code %d, stderr: %s", got, &stderr)
	}
}

// What somebody else wrote is not touched.
func TestServeRefusesAForeignEnvFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "mine.env")
	if err := os.WriteFile(file, []byte("PRECIOUS=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, t.TempDir()} {
		var stdout, stderr strings.Builder
		if code := run(t.Context(), []string{"serve", "--env-file", path}, &stdout, &stderr); code != exitConfiguration || !strings.Contains(stderr.String(), "--env-file") {
			t.Errorf("%s: exit code %d, stderr: %s", path, code, &stderr)
		}
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

func TestParseLasting(t *testing.T) {
	t.Parallel()
	tests := []struct {
		fault, text string
		want        time.Duration
	}{
		{"away", "7s", 7 * time.Second},
		{"throttle", "10ms", 10 * time.Millisecond},
		{"away", "", 0},
		{"drop-connections", "", 0},
	}
	for _, test := range tests {
		if got, err := parseLasting(test.fault, test.text); got != test.want || err != nil {
			t.Errorf("parseLasting(%q, %q) = %v, %v, not %v", test.fault, test.text, got, err, test.want)
		}
	}
}
