package relaytest_test

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(suite.Tests(m)) }

// patience bounds every wait of these tests; none of them is expected to use it.
const patience = 4 * time.Minute

var (
	sendKey   = relaytest.Key{Name: "send", Key: "c2VuZA==", Send: true}
	listenKey = relaytest.Key{Name: "listen", Key: "bGlzdGVu", Listen: true}
)

func newServer(t testing.TB, config relaytest.Config) *relaytest.Server {
	t.Helper()
	if config.HybridConnections == nil {
		config.HybridConnections = []relaytest.HybridConnection{{Path: "hc-leeds"}}
	}
	s, err := relaytest.NewServer(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func newGateway(t testing.TB, config relaytest.GatewayConfig) *relaytest.Gateway {
	t.Helper()
	if config.Name == "" {
		config.Name = "hc-leeds"
	}
	g, err := relaytest.NewGateway(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

// dial is one upgrade. The string is the status line, which a refusal says more
// in than in its code; empty if there was no answer.
func dial(s *relaytest.Server, rest string, header http.Header) (*websocket.Conn, string, error) {
	address := rest
	scheme := "ws"
	if s.TLS() {
		scheme = "wss"
	}
	if !strings.Contains(rest, "://") {
		address = scheme + "://" + s.Addr() + "/$hc/" + rest
	}
	dialer := websocket.Dialer{
		HandshakeTimeout: patience,
		TLSClientConfig:  &tls.Config{RootCAs: s.CertPool()},
	}
	ws, response, err := dialer.Dial(address, header)
	status := ""
	if response != nil {
		status = response.Status
	}
	if ws != nil {
		ws.SetReadDeadline(time.Now().Add(patience))
	}
	return ws, status, err
}

// mustDial is a dial that succeeds, and is closed with the test.
func mustDial(t testing.TB, s *relaytest.Server, rest string, header http.Header) *websocket.Conn {
	t.Helper()
	ws, status, err := dial(s, rest, header)
	if err != nil {
		t.Fatalf("dial %s: %v: %s", rest, err, status)
	}
	t.Cleanup(func() { ws.Close() })
	return ws
}

// header carries a token where it does not end up in a URL.
func header(token string) http.Header {
	return http.Header{"ServiceBusAuthorization": {token}}
}

// sas is a good token for hc-leeds for the next hour.
func sas(s *relaytest.Server, key relaytest.Key) string { return lasting(s, key, time.Hour) }

// lasting is a token for hc-leeds that is good for so long.
func lasting(s *relaytest.Server, key relaytest.Key, life time.Duration) string {
	return relaytest.SAS("http://"+s.Addr()+"/hc-leeds", key, time.Now().Add(life))
}

// accept is the control channel's message, decoded by the test's own eyes.
type accept struct {
	Address        string            `json:"address"`
	ID             string            `json:"id"`
	ConnectHeaders map[string]string `json:"connectHeaders"`
	RemoteEndpoint struct {
		Address string `json:"address"`
		Port    int    `json:"port"`
	} `json:"remoteEndpoint"`
}

func readAccept(t testing.TB, control *websocket.Conn) accept {
	t.Helper()
	kind, text, err := control.ReadMessage()
	if err != nil || kind != websocket.TextMessage {
		t.Fatalf("control channel: kind %d: %v", kind, err)
	}
	var message struct {
		Accept accept `json:"accept"`
	}
	if err := json.Unmarshal(text, &message); err != nil {
		t.Fatal(err)
	}
	return message.Accept
}

// dialled is what a dial in the background came to.
type dialled struct {
	ws     *websocket.Conn
	status string
	err    error
}

func dialAsync(s *relaytest.Server, rest string, header http.Header) <-chan dialled {
	result := make(chan dialled, 1)
	go func() {
		ws, status, err := dial(s, rest, header)
		result <- dialled{ws, status, err}
	}()
	return result
}

// join makes one rendezvous by hand.
func join(t testing.TB, s *relaytest.Server, control *websocket.Conn, rest string, senderHeader, listenerHeader http.Header) (sender, listener *websocket.Conn) {
	t.Helper()
	result := dialAsync(s, rest, senderHeader)
	listener = mustDial(t, s, readAccept(t, control).Address, listenerHeader)
	d := suite.Receive(t, "an answer", result)
	if d.err != nil {
		t.Fatalf("sender: %v: %s", d.err, d.status)
	}
	t.Cleanup(func() { d.ws.Close() })
	return d.ws, listener
}

// closeCode reads to the end and returns its code; 1006 if there was no Close.
func closeCode(t testing.TB, ws *websocket.Conn) int {
	t.Helper()
	_, code := readAll(t, ws)
	return code
}

func readAll(t testing.TB, ws *websocket.Conn) (texts []string, code int) {
	t.Helper()
	for {
		_, text, err := ws.ReadMessage()
		var closed *websocket.CloseError
		switch {
		case err == nil:
			texts = append(texts, string(text))
		case errors.As(err, &closed):
			return texts, closed.Code
		case strings.Contains(err.Error(), "timeout"):
			t.Fatal("the connection did not end")
		default:
			return texts, websocket.CloseAbnormalClosure
		}
	}
}
