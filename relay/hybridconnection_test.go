package relay_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/relay"
)

func TestHybridConnection(t *testing.T) {
	t.Parallel()
	hc := relay.HybridConnection{Namespace: "NS.servicebus.windows.net", Path: "/North/hc-Leeds/"}
	if got, want := hc.String(), "ns.servicebus.windows.net/north/hc-leeds"; got != want {
		t.Errorf("String: got %s, want %s", got, want)
	}
	if got, want := hc.SenderURL("1").String(), "wss://NS.servicebus.windows.net/$hc/North/hc-Leeds?sb-hc-action=connect&sb-hc-id=1"; got != want {
		t.Errorf("SenderURL: got %s, want %s", got, want)
	}
	if got, want := hc.Audience(), "http://NS.servicebus.windows.net/North/hc-Leeds"; got != want {
		t.Errorf("Audience: got %s, want %s", got, want)
	}
}

func TestAllowed(t *testing.T) {
	t.Parallel()
	client := &relay.Client{
		AllowHosts: []string{"Relay.example.org", "*.example.net", "[::1]:9", "*", "*example.com"},
		PlainHosts: []string{"127.0.0.1:8080", "LOCALHOST", "evil.example.net", "[::1]:7"},
	}
	defer client.Close()
	for _, namespace := range []string{
		"ns.servicebus.windows.net", "NS.ServiceBus.Windows.Net:443", "relay.example.org", "relay.example.org:8443",
		"a.example.net", "a.b.example.net:1", "127.0.0.1:8080", "localhost", "localhost:9", "[::1]:9", "[::1]:7", "[::1]",
	} {
		if err := client.Allowed(namespace); err != nil {
			t.Errorf("%s: %v", namespace, err)
		}
	}
	for _, namespace := range []string{
		"", ".", "servicebus.windows.net", ".servicebus.windows.net", "ns.servicebus.windows.net.", "nsservicebus.windows.net",
		"ns.servicebus.windows.net.example.com", "ns.servicebus.windows.net@example.com", "example.com/ns.servicebus.windows.net",
		"example.com#.servicebus.windows.net", "example.com?.servicebus.windows.net", `example.com\.servicebus.windows.net`,
		"ns.servicebus.windows.net:443@example.com", "ns.servicebus.windows.net:443/x", "ns.servicebus.windows.net:", "ns.servicebus.windows.net:99999",
		"a b.servicebus.windows.net", "example.net", "sub.relay.example.org", "example.com", "a.example.com", "127.0.0.1", "127.0.0.1:8081",
		"evil.example.net", "evil.example.net:80", strings.Repeat("a", 64) + ".example.net",
	} {
		if err := client.Allowed(namespace); !errors.Is(err, relay.ErrHostNotAllowed) {
			t.Errorf("%q: got %v, want it refused", namespace, err)
		}
		_, err := client.Connect(t.Context(), relay.HybridConnection{Namespace: namespace, Path: "hc"}, nil)
		if e := asError(t, err); e.Phase != relay.PhaseEndpoint || e.Sent != relay.SentNo || !errors.Is(err, relay.ErrHostNotAllowed) {
			t.Errorf("%q: got %v", namespace, err)
		}
	}
}

func TestPathsThatAreNone(t *testing.T) {
	t.Parallel()
	client := newClient(t, &relay.Client{})
	for _, path := range []string{"", "/", "a//b", "..", "a/../b", "a/.", "a?b", "a#b", "a b", "a%2fb", `a\b`, "a\nb"} {
		_, err := client.Connect(t.Context(), relay.HybridConnection{Namespace: "127.0.0.1:1", Path: path}, nil)
		if e := asError(t, err); e.Phase != relay.PhaseEndpoint || e.Sent != relay.SentNo {
			t.Errorf("%q: got %v", path, err)
		}
	}
}

// FuzzAllowed looks for a namespace that passes as one of Azure's and is dialled as something else.
func FuzzAllowed(f *testing.F) {
	for _, seed := range []string{"ns.servicebus.windows.net", "x:1@y.servicebus.windows.net", "[::1]:80", "a.servicebus.windows.net:443/x"} {
		f.Add(seed)
	}
	client := &relay.Client{}
	f.Fuzz(func(t *testing.T, namespace string) {
		if client.Allowed(namespace) != nil {
			return
		}
		u := relay.HybridConnection{Namespace: namespace, Path: "hc"}.SenderURL("1")
		again, err := u.Parse(u.String())
		if err != nil || again.User != nil || !strings.HasSuffix(strings.ToLower(again.Hostname()), ".servicebus.windows.net") {
			t.Errorf("%q is dialled as %s: %v", namespace, u, err)
		}
	})
}

// TestRequestOnTheWire reads what is dialled with, byte by byte: the token is in its header and nowhere else.
func TestRequestOnTheWire(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	request := make(chan string, 1)
	go func() {
		defer close(request)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buffer := make([]byte, 4096)
		n, _ := conn.Read(buffer)
		request <- string(buffer[:n])
		_, _ = io.WriteString(conn, "HTTP/1.1 200 secret-of-the-test\r\nContent-Length: 0\r\n\r\n")
	}()
	client := newClient(t, &relay.Client{})
	tokens := &sequence{tokens: []func(string) relay.Token{
		func(string) relay.Token {
			return relay.NewToken("Bearer secret-of-the-test", time.Now().Add(time.Hour))
		},
	}}
	_, err = client.Connect(t.Context(), relay.HybridConnection{Namespace: listener.Addr().String(), Path: "area/hc leeds"}, tokens)
	e := asError(t, err)
	if e.Phase != relay.PhaseEndpoint {
		t.Errorf("path with a space: got %v", err)
	}
	_, err = client.Connect(t.Context(), relay.HybridConnection{Namespace: listener.Addr().String(), Path: "area/hc-lééds"}, tokens)
	e = asError(t, err)
	if e.Phase != relay.PhaseHandshake || e.Code != 200 || strings.Contains(e.Error(), "secret-of") {
		t.Errorf("got %v", err)
	}
	got := <-request
	line, header, _ := strings.Cut(got, "\r\n")
	if !strings.HasPrefix(line, "GET /$hc/area/hc-l%C3%A9%C3%A9ds?sb-hc-action=connect&sb-hc-id=") || strings.Contains(line, "token") {
		t.Errorf("request line %q", line)
	}
	if strings.Count(header, "secret-of-the-test") != 1 || !strings.Contains(strings.ToLower(header), "servicebusauthorization: bearer secret-of-the-test\r\n") {
		t.Errorf("header %q", header)
	}
}
