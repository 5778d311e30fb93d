package relaytest_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// tracking is what the service appends to its own reason phrases.
var tracking = regexp.MustCompile(` TrackingId:[0-9a-f-]{36}_G\d+, SystemTracker:\S+, Timestamp:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$`)

func TestStatus(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{
		HybridConnections: []relaytest.HybridConnection{
			{Path: "hc-leeds", Keys: []relaytest.Key{sendKey, listenKey}},
			{Path: "hc-open"},
			{Path: "hc-full"},
		},
		RendezvousTimeout: 50 * time.Millisecond,
	})
	mustDial(t, s, "hc-open?sb-hc-action=listen", nil) // listens and never dials
	for range 25 {
		mustDial(t, s, "hc-full?sb-hc-action=listen", nil)
	}
	at := func(path string, key relaytest.Key, expires time.Duration) http.Header {
		return header(relaytest.SAS("http://"+s.Addr()+"/"+path, key, time.Now().Add(expires)))
	}
	wrongKey := relaytest.Key{Name: "send", Key: "d3Jvbmc="}
	unknownKey := relaytest.Key{Name: "other", Key: sendKey.Key}
	for _, test := range []struct {
		name, rest string
		header     http.Header
		want       string
	}{
		{"no token", "hc-leeds?sb-hc-action=connect", nil, "401 MissingToken: "},
		{"bad signature", "hc-leeds?sb-hc-action=connect", at("hc-leeds", wrongKey, time.Hour), "401 InvalidSignature: The token has an invalid signature."},
		{"unknown key name", "hc-leeds?sb-hc-action=connect", at("hc-leeds", unknownKey, time.Hour), "401 InvalidSignature: The token has an invalid signature."},
		{"expired", "hc-leeds?sb-hc-action=connect", at("hc-leeds", sendKey, -time.Second), "401 ExpiredToken: The token is expired."},
		{"another entity", "hc-leeds?sb-hc-action=connect", at("hc-york", sendKey, time.Hour), "401 InvalidAudience: "},
		{"malformed token", "hc-leeds?sb-hc-action=connect", header("SharedAccessSignature sr=x"), "401 MalformedToken: "},
		{"bearer token refused", "hc-leeds?sb-hc-action=connect", header("Bearer abc"), "401 InvalidToken: "},
		{"listen key cannot send", "hc-leeds?sb-hc-action=connect", at("hc-leeds", listenKey, time.Hour), "403 Unauthorized access. 'Send' claim(s) are required"},
		{"send key cannot listen", "hc-leeds?sb-hc-action=listen", at("hc-leeds", sendKey, time.Hour), "403 Unauthorized access. 'Listen' claim(s) are required"},
		{"listen without token", "hc-leeds?sb-hc-action=listen", nil, "401 MissingToken: "},
		{"unknown hybrid connection", "hc-york?sb-hc-action=connect", nil, "404 Endpoint does not exist."},
		{"listen on unknown", "hc-york?sb-hc-action=listen", nil, "404 Endpoint does not exist."},
		{"not below $hc", "../hc-leeds?sb-hc-action=connect", nil, "404 Endpoint does not exist."},
		{"prefix inside a segment", "hc-leeds2?sb-hc-action=connect", nil, "404 Endpoint does not exist."},
		{"no listener", "hc-leeds?sb-hc-action=connect", at("hc-leeds", sendKey, time.Hour), "404 There are no listeners connected for the endpoint."},
		{"nobody dials in time", "hc-open?sb-hc-action=connect", nil, "404 None of the connected listeners accepted the connection within the allowed timeout."},
		{"missing action means connect", "hc-open", nil, "404 None of the connected listeners accepted"},
		{"unknown rendezvous id", "hc-open?sb-hc-action=accept&sb-hc-id=none", nil, "403 "},
		{"unknown action", "hc-open?sb-hc-action=dance", nil, "400 "},
		{"26th listener", "hc-full?sb-hc-action=listen", nil, "403 QuotaExceeded"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, status, err := dial(s, test.rest, test.header)
			if err == nil || !strings.HasPrefix(status, test.want) {
				t.Errorf("got %q (%v), want %q", status, err, test.want)
			}
			if !tracking.MatchString(status) {
				t.Errorf("%q has no tracking suffix", status)
			}
		})
	}
}

func TestNoUpgrade(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	response, err := http.Get("http://" + s.Addr() + "/$hc/hc-leeds")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("plain GET: %s", response.Status)
	}
}

func TestReject(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", nil)
	for _, test := range []struct{ name, query, want string }{
		{"own code and text", "sb-hc-statusCode=409&sb-hc-statusDescription=Room%20closed", "409 Room closed"},
		{"server error", "sb-hc-statusCode=502&sb-hc-statusDescription=callback+threw", "502 callback threw"},
		{"no text", "sb-hc-statusCode=403", "403 "},
		{"not a code", "sb-hc-statusCode=ok&sb-hc-statusDescription=x", "400 x"},
		{"not a refusal", "sb-hc-statusCode=101&sb-hc-statusDescription=x", "400 x"},
		{"no second line", "sb-hc-statusCode=400&sb-hc-statusDescription=a%0d%0aX-Evil:%20b", "400 a  X-Evil: b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			sender := dialAsync(s, "hc-leeds", nil)
			address := readAccept(t, control).Address
			if _, status, _ := dial(s, address+"&"+test.query, nil); !strings.HasPrefix(status, "410 ") {
				t.Errorf("listener got %q", status)
			}
			if d := suite.Receive(t, "an answer", sender); d.err == nil || d.status != test.want {
				t.Errorf("sender got %q, want %q", d.status, test.want)
			}
			if _, status, _ := dial(s, address, nil); !strings.HasPrefix(status, "403 ") {
				t.Errorf("the id was good again: %q", status)
			}
		})
	}
}

// TestRejectByPlainGet: a reject asks for no websocket.
func TestRejectByPlainGet(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", nil)
	sender := dialAsync(s, "hc-leeds", nil)
	address := strings.Replace(readAccept(t, control).Address, "ws://", "http://", 1)
	response, err := http.Get(address + "&sb-hc-statusCode=409&sb-hc-statusDescription=No")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if d := suite.Receive(t, "an answer", sender); response.StatusCode != http.StatusGone || d.status != "409 No" {
		t.Errorf("listener got %q, sender %q", response.Status, d.status)
	}
}

func TestRendezvousIDIsGoodOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", nil)
	sender := dialAsync(s, "hc-leeds", nil)
	address := readAccept(t, control).Address
	mustDial(t, s, address, nil)
	defer suite.Receive(t, "an answer", sender).ws.Close()
	if _, status, _ := dial(s, address, nil); !strings.HasPrefix(status, "403 ") {
		t.Errorf("second accept: %q", status)
	}
}

func TestRendezvousIDEndsWithItsSender(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", nil)
	conn := rawUpgrade(t, s, "/$hc/hc-leeds")
	address := readAccept(t, control).Address
	conn.Close()
	suite.Until(t, "403 after the sender left", func() bool {
		ws, status, _ := dial(s, address, nil)
		if ws != nil { // the relay had not noticed: a new sender for the next try
			ws.Close()
			conn = rawUpgrade(t, s, "/$hc/hc-leeds")
			address = readAccept(t, control).Address
			conn.Close()
		}
		return strings.HasPrefix(status, "403 ")
	})
}

func TestFaults(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	newGateway(t, relaytest.GatewayConfig{Relay: s})
	status := func(path string) string {
		ws, status, _ := dial(s, path, nil)
		if ws != nil {
			ws.Close()
		}
		return status
	}
	t.Run("refused as told", func(t *testing.T) {
		s.Refuse("hc-leeds", 2, 503, "Busy for now")
		for i, want := range []string{"503 Busy for now", "503 Busy for now", "101 Switching Protocols"} {
			if got := status("hc-leeds"); got != want {
				t.Errorf("dial %d: %q, want %q", i, got, want)
			}
		}
	})
	t.Run("without a phrase", func(t *testing.T) {
		s.Refuse("HC-Leeds", -1, 404, "")
		for range 3 {
			if got := status("hc-leeds"); got != "404 " {
				t.Errorf("got %q", got)
			}
		}
		s.Refuse("hc-leeds", 0, 0, "")
		if got := status("hc-leeds"); got != "101 Switching Protocols" {
			t.Errorf("afterwards: %q", got)
		}
	})
	t.Run("path that does not exist", func(t *testing.T) {
		s.Refuse("hc-nowhere", 1, 500, "Trouble")
		if got := status("hc-nowhere"); got != "500 Trouble" {
			t.Errorf("got %q", got)
		}
		if got := status("hc-nowhere"); !strings.HasPrefix(got, "404 Endpoint does not exist") {
			t.Errorf("got %q", got)
		}
		if dials := s.Stats("hc-nowhere").Dials; dials != 2 {
			t.Errorf("%d dials", dials)
		}
	})
	t.Run("stalled", func(t *testing.T) {
		s.Stall("hc-leeds", 1)
		dials := s.Stats("hc-leeds").Dials
		conn := rawUpgrade(t, s, "/$hc/hc-leeds")
		suite.Until(t, "the dial counted", func() bool { return s.Stats("hc-leeds").Dials > dials })
		if got := status("hc-leeds"); got != "101 Switching Protocols" {
			t.Errorf("the next dial: %q", got)
		}
		if n := readable(conn); n {
			t.Error("the stalled dial was answered")
		}
	})
}

// rawUpgrade sends a sender's upgrade request and reads nothing.
func rawUpgrade(t testing.TB, s *relaytest.Server, target string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_, err = io.WriteString(conn, "GET "+target+" HTTP/1.1\r\nHost: "+s.Addr()+"\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// readable reports whether a byte comes within a moment.
func readable(conn net.Conn) bool {
	conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	defer conn.SetReadDeadline(time.Time{})
	n, err := conn.Read(make([]byte, 1))
	return n > 0 || err == io.EOF
}

// TestHeld101 proves by the order of events that the sender's 101 waits for the
// listener: while it waits, another sender comes and goes.
func TestHeld101(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", nil)
	held := rawUpgrade(t, s, "/$hc/hc-leeds?sb-hc-action=connect")
	first := readAccept(t, control)
	second, _ := join(t, s, control, "hc-leeds", nil, nil)
	second.Close()
	if readable(held) {
		t.Fatal("an answer before a listener dialled")
	}
	if stats := s.Stats("hc-leeds"); stats.Rendezvous != 1 || stats.Dials != 2 {
		t.Errorf("%+v", stats)
	}
	listener := mustDial(t, s, first.Address, nil)
	held.SetReadDeadline(time.Now().Add(patience))
	response, err := http.ReadResponse(bufio.NewReader(held), nil)
	if err != nil {
		t.Fatal(err)
	}
	// The key and its answer are the example of RFC 6455 section 1.3.
	if got := response.Header.Get("Sec-WebSocket-Accept"); response.StatusCode != 101 || got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("%s, accept %q", response.Status, got)
	}
	listener.WriteMessage(websocket.TextMessage, []byte("hello"))
	frame := make([]byte, 7)
	if _, err := io.ReadFull(held, frame); err != nil || string(frame) != "\x81\x05hello" {
		t.Errorf("frame %q: %v", frame, err)
	}
}
