package relay_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/relay"
)

// rawSite is a client and a server that speaks with it as serve says, for what happens below the gateway's own manners.
func rawSite(t *testing.T, serve func(*websocket.Conn)) *site {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		serve(ws)
	}))
	t.Cleanup(server.Close)
	client := newClient(t, &relay.Client{WatchTime: -1, IdleTimeout: time.Hour})
	client.Hurry(func(w *relay.Waits) { w.Close = time.Minute })
	return &site{client: client, hc: relay.HybridConnection{Namespace: server.Listener.Addr().String(), Path: path}}
}

// closedBeforeTheFrame lets the connection end between Connect and Exchange: the action is certainly not sent, and is sent on a new
// connection where the old one was not dialled for it.
func closedBeforeTheFrame(t *testing.T) {
	for _, code := range []int{1000, 1008} {
		closing, closed := make(chan struct{}), make(chan struct{})
		s := rawSite(t, func(ws *websocket.Conn) {
			go func() {
				<-closing
				_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Time{})
			}()
			for {
				if _, _, err := ws.ReadMessage(); err != nil {
					closed <- struct{}{} // the client answered the Close, so it can write nothing more
					return
				}
				_ = ws.WriteMessage(websocket.TextMessage, []byte(`{"status":"processed"}`))
			}
		})
		source := &sequence{tokens: []func(string) relay.Token{signed(key, time.Hour)}}
		s.tokens = source
		exchange := func(a relay.Action) (relay.Ack, relay.Timings, error) {
			conn, err := s.client.Connect(t.Context(), s.hc, s.tokens)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Release()
			closing <- struct{}{}
			<-closed
			ack, err := conn.Exchange(t.Context(), a)
			return ack, conn.Timings(), err
		}
		_, _, err := exchange(create(1))
		if diff := cmp.Diff(verdict{Phase: relay.PhaseSend, Sent: relay.SentNo, Code: code}, verdictOf(asError(t, err))); diff != "" {
			t.Error("fresh connection:", diff)
		}
		s.must(t, create(1))
		ack, timings, err := exchange(update(1, "IN PROGRESS"))
		if err != nil || ack.Kind != relay.AckDone || ack.Unanswered || timings.Reused {
			t.Errorf("reused connection: got %+v, reused %v, %v", ack, timings.Reused, err)
		}
		if want := map[int]int{1000: 1, 1008: 3}[code]; source.Calls() != want {
			t.Errorf("asked for %d tokens with close %d, want %d", source.Calls(), code, want)
		}
		go func() { <-closed }()
		close(closing)
		s.client.Close()
	}
}

// reply reads one frame and answers it; false at the end of the connection.
func reply(ws *websocket.Conn) bool {
	if _, _, err := ws.ReadMessage(); err != nil {
		return false
	}
	return ws.WriteMessage(websocket.TextMessage, []byte(`{"status":"processed"}`)) == nil
}

// brokenOff ends connections in the middle of things, at the first frame and at one over a connection that was open before.
func brokenOff(t *testing.T) {
	reset := func(ws *websocket.Conn) { _ = ws.NetConn().(*net.TCPConn).SetLinger(0) }
	half := func(ws *websocket.Conn) { _, _ = ws.NetConn().Write([]byte("\x81\x16{\"status\"")) }
	for _, test := range []struct {
		name   string
		ending func(*websocket.Conn)
		action relay.Action
		before int // exchanges over the same connection
		dials  int
	}{
		{"reset at a create", reset, create(1), 0, 1},
		{"reset at a create, reused", reset, create(1), 1, 2},
		{"reset at an update, reused", reset, update(1, "COMPLETED"), 1, 1},
		{"half an ack to a create", half, create(1), 0, 1},
		{"half an ack to a create, reused", half, create(1), 1, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var dials atomic.Int32
			s := rawSite(t, func(ws *websocket.Conn) {
				if dials.Add(1) == 1 && test.before == 1 && !reply(ws) {
					return
				}
				_, _, _ = ws.ReadMessage()
				test.ending(ws)
			})
			for range test.before {
				s.must(t, create(0))
			}
			e := s.fails(t, test.action)
			if diff := cmp.Diff(verdict{Phase: relay.PhaseAckLost, Sent: relay.SentMaybe, Code: 1006}, verdictOf(e)); diff != "" {
				t.Error(diff)
			}
			if int(dials.Load()) != test.dials {
				t.Errorf("dialled %d times, want %d", dials.Load(), test.dials)
			}
		})
	}
}

// TestBlockedFrame sends more than fits on the way to a server that does not read: certainly not sent, so a connection that was reused for
// it is replaced at once.
func TestBlockedFrame(t *testing.T) {
	t.Parallel()
	huge := relay.NewAction(bytes.Repeat([]byte(" "), 6<<20), "", updateItem, "")
	for _, before := range []int{0, 1} {
		t.Run(fmt.Sprint(before, " before"), func(t *testing.T) {
			t.Parallel()
			done := make(chan struct{})
			defer close(done)
			var dials atomic.Int32
			s := rawSite(t, func(ws *websocket.Conn) {
				first := dials.Add(1) == 1
				if first {
					// What fits on the way then is what the client's side takes, 4 MiB at most: the limit is for the other side's reading, too.
					_ = ws.NetConn().(*net.TCPConn).SetReadBuffer(4 << 10)
				}
				if !first || before == 1 {
					reply(ws)
				}
				<-done
			})
			s.client.Hurry(func(w *relay.Waits) { w.Write, w.Close = 2*time.Second, 10*time.Millisecond })
			for n := range before {
				s.must(t, create(n))
			}
			switch _, timings, err := s.send(t.Context(), huge); before {
			case 0:
				if diff := cmp.Diff(verdict{Phase: relay.PhaseSend, Sent: relay.SentNo}, verdictOf(asError(t, err))); diff != "" {
					t.Error(diff)
				}
				if _, timings := s.must(t, create(1)); timings.Reused {
					t.Error("a connection with half an action on it was used again")
				}
			case 1:
				if err != nil || timings.Reused || dials.Load() != 2 {
					t.Errorf("got %v over a reused connection, %d dials", err, dials.Load())
				}
			}
		})
	}
}

// TestCloseFrames looks at the end of a connection from the other side, where it must come with a Close frame, and be waited for.
func TestCloseFrames(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		idle time.Duration
		end  func(*site)
		code int
	}{
		{"idle for long", 30 * time.Millisecond, func(*site) {}, 1000},
		{"never kept", -1, func(*site) {}, 1000},
		{"CloseIdle", time.Hour, func(s *site) { s.client.CloseIdle(s.hc) }, 1000},
		{"Close", time.Hour, func(s *site) { s.client.Close() }, 1001},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ended := make(chan error, 1)
			s := rawSite(t, func(ws *websocket.Conn) {
				ws.SetCloseHandler(func(code int, _ string) error {
					ended <- &websocket.CloseError{Code: code}
					return nil
				})
				for reply(ws) {
				}
			})
			s.client.IdleTimeout = test.idle
			s.must(t, create(1))
			test.end(s)
			if test.idle == time.Hour && len(ended) == 0 {
				t.Error("returned before the other side knew")
			}
			if err := suite.Receive(t, "a Close frame", ended); !websocket.IsCloseError(err, test.code) {
				t.Errorf("the other side saw %v, want close %d", err, test.code)
			}
		})
	}
}

// TestOldConnectionIsGoneBeforeTheNext has a peer that does not answer Close frames: it is waited for, and cut after a while.
func TestOldConnectionIsGoneBeforeTheNext(t *testing.T) {
	t.Parallel()
	for _, wait := range []time.Duration{time.Hour, 20 * time.Millisecond} {
		t.Run(wait.String(), func(t *testing.T) {
			t.Parallel()
			var dials atomic.Int32
			asked, left := make(chan struct{}), make(chan struct{})
			s := rawSite(t, func(ws *websocket.Conn) {
				if dials.Add(1) == 1 {
					ws.SetCloseHandler(func(int, string) error { close(asked); return nil })
					for reply(ws) {
					}
					<-left
					return
				}
				reply(ws)
			})
			s.client.Hurry(func(w *relay.Waits) { w.Close = wait })
			s.must(t, create(0))
			s.tokens = &sequence{tokens: []func(string) relay.Token{signed(key, time.Hour)}}
			second := make(chan error, 1)
			go func() {
				_, _, err := s.send(t.Context(), create(1))
				second <- err
			}()
			suite.Receive(t, "a Close frame", asked)
			if wait == time.Hour {
				<-time.After(100 * time.Millisecond)
				if dials.Load() != 1 {
					t.Error("dialled while the one before was still open")
				}
				close(left)
			} else {
				defer close(left)
			}
			if err := suite.Receive(t, "the next exchange", second); err != nil || dials.Load() != 2 {
				t.Errorf("%v, %d dials", err, dials.Load())
			}
		})
	}
}
