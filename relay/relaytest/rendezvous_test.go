package relaytest_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// TestCloseCodes closes from each end and by the relay.
func TestCloseCodes(t *testing.T) {
	t.Parallel()
	closeWith := func(ws *websocket.Conn, code int) {
		ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, "done"), time.Now().Add(patience))
	}
	for _, test := range []struct {
		name                     string
		end                      func(s *relaytest.Server, sender, listener *websocket.Conn)
		wantSender, wantListener int
	}{
		{"listener closes 1000", func(_ *relaytest.Server, _, l *websocket.Conn) { closeWith(l, 1000) }, 1000, 1000},
		{"listener closes 1009", func(_ *relaytest.Server, _, l *websocket.Conn) { closeWith(l, 1009) }, 1009, 1009},
		{"listener closes 4321", func(_ *relaytest.Server, _, l *websocket.Conn) { closeWith(l, 4321) }, 4321, 4321},
		{"sender closes 1000", func(_ *relaytest.Server, s, _ *websocket.Conn) { closeWith(s, 1000) }, 1000, 1000},
		{"sender closes without a code", func(_ *relaytest.Server, s, _ *websocket.Conn) { closeWith(s, 1005) }, 1005, 1005},
		{"listener dies", func(_ *relaytest.Server, _, l *websocket.Conn) { l.Close() }, 1006, 1006},
		{"sender dies", func(_ *relaytest.Server, s, _ *websocket.Conn) { s.Close() }, 1006, 1006},
		{"cut", func(s *relaytest.Server, _, _ *websocket.Conn) { s.DropSenders("hc-leeds") }, 1006, 1006},
		{"1008 by the relay", func(s *relaytest.Server, _, _ *websocket.Conn) { s.CloseSenders("hc-leeds", 1008) }, 1008, 1008},
		{"1011 by the relay", func(s *relaytest.Server, _, _ *websocket.Conn) { s.CloseSenders("hc-leeds", 1011) }, 1011, 1011},
		{"server closed", func(s *relaytest.Server, _, _ *websocket.Conn) { s.Close() }, 1006, 1006},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t, relaytest.Config{})
			control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", nil)
			sender, listener := join(t, s, control, "hc-leeds", nil, nil)
			test.end(s, sender, listener)
			codes := make(chan int, 1)
			go func() { codes <- closeCode(t, listener) }()
			got := []int{closeCode(t, sender), suite.Receive(t, "an answer", codes)}
			if diff := cmp.Diff([]int{test.wantSender, test.wantListener}, got); diff != "" {
				t.Error(diff)
			}
			for name, ws := range map[string]*websocket.Conn{"sender": sender, "listener": listener} {
				_, err := ws.NetConn().Read(make([]byte, 1))
				if timeout, ok := errors.AsType[net.Error](err); err == nil || ok && timeout.Timeout() {
					t.Errorf("the relay left the %s's connection open: %v", name, err)
				}
			}
			suite.Until(t, "nothing is open", func() bool { return s.Stats("hc-leeds").Open == 0 })
		})
	}
}

// TestNothingAfterClose: no pong, and nothing else, follows a Close frame.
func TestNothingAfterClose(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", nil)
	conn := rawUpgrade(t, s, "/$hc/hc-leeds")
	listener := mustDial(t, s, readAccept(t, control).Address, nil)
	skipResponse(t, conn)
	listener.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Now().Add(patience))
	closing := make([]byte, 4)
	if _, err := io.ReadFull(conn, closing); err != nil || string(closing) != "\x88\x02\x03\xe8" {
		t.Fatalf("% x: %v", closing, err)
	}
	conn.Write(clientFrame(0x89, "ping"))
	conn.Write(clientFrame(0x88, "\x03\xe8"))
	if rest, err := io.ReadAll(conn); err != nil || len(rest) != 0 {
		t.Errorf("afterwards % x: %v", rest, err)
	}
	if code := closeCode(t, listener); code != 1000 {
		t.Errorf("listener's close code %d", code)
	}
}

// TestReplyBeforeTheEnd: what was sent before the end still arrives.
func TestReplyBeforeTheEnd(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", nil)
	sender, listener := join(t, s, control, "hc-leeds", nil, nil)
	listener.WriteMessage(websocket.TextMessage, []byte("last words"))
	listener.Close()
	texts, code := readAll(t, sender)
	if diff := cmp.Diff([]string{"last words"}, texts); diff != "" || code != 1006 {
		t.Errorf("code %d %s", code, diff)
	}
}

// TestPeerIgnoresClose: the relay's own Close does not wait for ever.
func TestPeerIgnoresClose(t *testing.T) {
	t.Parallel()
	const linger = 100 * time.Millisecond
	s := newServer(t, relaytest.Config{})
	s.SetLinger(linger)
	control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", nil)
	sender, listener := join(t, s, control, "hc-leeds", nil, nil)
	sender.SetCloseHandler(func(int, string) error { return nil })
	began := time.Now()
	s.CloseSenders("hc-leeds", 1011)
	if code := closeCode(t, listener); code != 1011 {
		t.Errorf("listener's close code %d", code)
	}
	if code := closeCode(t, sender); code != 1011 {
		t.Errorf("sender's close code %d", code)
	}
	if _, err := sender.NetConn().Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("connection: %v", err)
	}
	if waited := time.Since(began); waited < linger {
		t.Errorf("cut after %v", waited)
	}
}

// TestPing: the relay answers, so that a pong says nothing of the other end.
func TestPing(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", nil)
	sender, _ := join(t, s, control, "hc-leeds", nil, nil) // the listener does not read
	pong := make(chan string, 1)
	sender.SetPongHandler(func(text string) error { pong <- text; return nil })
	go sender.ReadMessage()
	sender.WriteControl(websocket.PingMessage, []byte("there"), time.Now().Add(patience))
	if got := suite.Receive(t, "an answer", pong); got != "there" {
		t.Errorf("pong %q", got)
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", nil)
	one, _ := join(t, s, control, "hc-leeds", nil, nil)
	join(t, s, control, "hc-leeds", nil, nil)
	one.Close()
	suite.Until(t, "one is left", func() bool { return s.Stats("hc-leeds").Open == 1 })
	control.Close()
	suite.Until(t, "the listener is gone", func() bool { return s.Stats("hc-leeds").Listeners == 0 })
	dial(s, "hc-leeds", nil)
	want := relaytest.Stats{Dials: 3, Rendezvous: 2, Open: 1, MaxOpen: 2}
	if diff := cmp.Diff(want, s.Stats("HC-leeds")); diff != "" {
		t.Error(diff)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{TLS: true})
	newGateway(t, relaytest.GatewayConfig{Relay: s})
	block, rest := pem.Decode(s.CertificatePEM())
	if block == nil || len(rest) != 0 {
		t.Fatal("not one PEM block")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"127.0.0.1", "::1", "localhost"} {
		if err := cert.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	mustDial(t, s, "hc-leeds", nil)
	for name, config := range map[string]*tls.Config{
		"unknown authority": {},
		"wrong name":        {RootCAs: s.CertPool(), ServerName: "hc.example"},
	} {
		dialer := websocket.Dialer{TLSClientConfig: config}
		if _, _, err := dialer.Dial("wss://"+s.Addr()+"/$hc/hc-leeds", nil); err == nil {
			t.Errorf("%s: dialled", name)
		}
	}
	plain := newServer(t, relaytest.Config{})
	if plain.TLS() || plain.CertificatePEM() != nil || plain.CertPool() != nil {
		t.Error("a plain server has a certificate")
	}
}
