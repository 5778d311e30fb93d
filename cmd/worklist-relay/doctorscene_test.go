package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	service "github.com/worklist-relay/worklist-relay/cmd/worklist-relay"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// installation is all that run depends on, as it should be, for a test to plant
// a fault in.
type installation struct {
	t        *testing.T
	database string // URL
	store    *store.Store
	broker   *servicebustest.Server
	relay    *relaytest.Server
	gateway  *relaytest.Gateway // of provider leeds
	env      map[string]string  // of doctor
}

// queueAsItShouldBe is one that doctor finds no fault with.
func queueAsItShouldBe() servicebustest.Queue {
	return servicebustest.Queue{Name: queue, RequiresSession: true, DeadLetteringOnExpiration: true}
}

func newInstallation(t *testing.T, dialect string, commands servicebustest.Queue) *installation {
	t.Helper()
	i := &installation{t: t, database: storetest.URL(t, dialect)}
	i.store = storetest.Open(t, i.database)
	var err error
	i.broker, err = servicebustest.NewServer(servicebustest.Config{
		HTTPAddr: "127.0.0.1:0", Queues: []servicebustest.Queue{commands, {Name: "outcomes"}}, KeyName: "test", Key: leaktest.BrokerKey,
	})
	i.must(err)
	t.Cleanup(func() { i.must(i.broker.Close()) })
	i.relay, err = relaytest.NewServer(relaytest.Config{})
	i.must(err)
	t.Cleanup(func() { i.must(i.relay.Close()) })
	i.relay.Create(relaytest.HybridConnection{Path: "leeds", Keys: []relaytest.Key{sendKey, listenKey}})
	i.gateway, err = relaytest.NewGateway(relaytest.GatewayConfig{Name: "leeds", Relay: i.relay, Key: listenKey, ReconnectDelay: 50 * time.Millisecond})
	i.must(err)
	t.Cleanup(func() { i.must(i.gateway.Close()) })
	i.addRelay("leeds", i.relay.Addr(), "leeds")
	i.env = map[string]string{
		"SERVICEBUS_CONNECTION_STRING": i.broker.ConnectionString(), "SERVICEBUS_ADMIN_URL": "http://" + i.broker.HTTPAddr(),
		"SERVICEBUS_SESSIONS": "true", "OUTCOME_QUEUE": "outcomes", "DATABASE_URL": i.database,
		"RELAY_PLAIN_HOSTS": i.relay.Addr(), "LEEDS_KEY": sendKey.Key,
	}
	return i
}

func (i *installation) addRelay(provider, namespace, path string) {
	i.t.Helper()
	variable := "LEEDS_KEY"
	i.must(i.store.AddRelay(context.Background(), store.Relay{
		ProviderID: provider, Namespace: namespace, HybridConnection: path, KeyName: &sendKey.Name, KeyVariable: &variable,
	}, store.By{Who: "test"}))
}

func (i *installation) must(err error) {
	i.t.Helper()
	if err != nil {
		i.t.Fatal(err)
	}
}

// examined is what a run of doctor said.
type examined struct {
	code      int
	out, errs string
	Worst     string // with --json, as what follows
	Findings  []finding
}

type finding struct{ Check, Target, State, Found, Mend string }

// examine runs doctor. Nothing it prints may hold a key.
func (i *installation) examine(args ...string) examined {
	i.t.Helper()
	said, err := service.CommandLine{Args: append([]string{"doctor"}, args...), Env: i.environment()}.Run()
	i.must(err)
	e := examined{code: said.Code, out: said.Out, errs: said.Errs}
	leaktest.Check(i.t, "doctor's output", e.out+e.errs)
	if slices.Contains(args, "--json") {
		if err := json.Unmarshal([]byte(e.out), &e); err != nil {
			i.t.Fatalf("%v in %s%s", err, e.out, e.errs)
		}
	}
	return e
}

func (i *installation) environment() []string {
	return append(environ(i.env), "HOME="+i.t.TempDir(), "TZ=UTC")
}

// swallowing is an address that answers no call: its backlog is full, and the
// system drops what else comes.
func swallowing(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*syscall.SockaddrInet4).Port))
	for range 16 {
		conn, err := net.DialTimeout("tcp", addr, 500*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Skip("this system's backlog is never full")
	return ""
}

// mute is an address that takes calls, and says nothing.
func mute(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String() // the backlog takes them
}

// answering is an address that answers the first n bytes of each call with
// these, and hangs up.
func answering(t *testing.T, n int, answer string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if _, err := io.ReadFull(conn, make([]byte, n)); err == nil {
				_, _ = io.WriteString(conn, answer)
			}
			_ = conn.Close()
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	return listener.Addr().String()
}

// manageThrough puts a proxy before the management address, which changes what
// it says: date moves its clock, replace its words.
func (i *installation) manageThrough(date time.Duration, replace ...string) {
	i.t.Helper()
	target := &url.URL{Scheme: "http", Host: i.broker.HTTPAddr()}
	between := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(answer *http.Response) error {
			answer.Header.Set("Date", time.Now().Add(date).UTC().Format(http.TimeFormat))
			var body bytes.Buffer
			if _, err := body.ReadFrom(answer.Body); err != nil {
				return err
			}
			_ = answer.Body.Close()
			text := strings.NewReplacer(replace...).Replace(body.String())
			answer.Header.Set("Content-Length", strconv.Itoa(len(text)))
			answer.ContentLength, answer.Body = int64(len(text)), io.NopCloser(strings.NewReader(text))
			return nil
		},
	})
	i.t.Cleanup(between.Close)
	i.env["SERVICEBUS_ADMIN_URL"] = between.URL
}

// direct is a connection string without an emulator: with TLS.
func direct(host string) string {
	return "Endpoint=sb://" + host + ";SharedAccessKeyName=test;SharedAccessKey=" + leaktest.BrokerKey
}
