package relay_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// gate is a source that gives no token: it notes who asked, and refuses once it is open.
type gate struct {
	name string
	log  *[]string // guarded by the turn that all who ask have in common
	open <-chan struct{}
}

func (g gate) Token(context.Context, string) (relay.Token, error) {
	*g.log = append(*g.log, g.name)
	<-g.open
	return relay.Token{}, errors.New("no token today")
}

func TestTurnsAreTakenInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newClient(t, &relay.Client{})
		var order, want []string
		open := make(chan struct{})
		leaving, leave := context.WithCancel(t.Context())
		var asking sync.WaitGroup
		for n := range 9 {
			name := fmt.Sprint(n)
			ctx := t.Context()
			if n == 4 {
				ctx = leaving
			} else {
				want = append(want, name)
			}
			asking.Go(func() {
				// Every spelling is the same hybrid connection.
				hc := relay.HybridConnection{Namespace: "127.0.0.1:1", Path: []string{"hc", "/HC/", "Hc/"}[n%3]}
				_, err := client.Connect(ctx, hc, gate{name, &order, open})
				e := asError(t, err)
				switch {
				case n == 4 && (e.Phase != "" || e.Sent != relay.SentNo || !errors.Is(err, context.Canceled)):
					t.Errorf("left the queue with %+v: %v", verdictOf(e), err)
				case n != 4 && (e.Phase != relay.PhaseAuth || !strings.Contains(err.Error(), "no token today")):
					t.Errorf("got %v", err)
				}
			})
			synctest.Wait()
		}
		leave()
		synctest.Wait()
		close(open)
		asking.Wait()
		if diff := cmp.Diff(want, order); diff != "" {
			t.Error(diff)
		}
	})
}

func TestOneConnectionForAll(t *testing.T) {
	t.Parallel()
	s := newSite(t, relaytest.GatewayConfig{Slots: 4, CloseDelay: time.Millisecond})
	var sending sync.WaitGroup
	for worker := range 8 {
		sending.Go(func() {
			for n := range 10 {
				a := create(100*worker + n)
				if ack, _, err := s.send(t.Context(), a); err != nil || ack.ActionID != a.ID() {
					t.Errorf("got %+v, %v", ack, err)
				}
			}
		})
	}
	sending.Wait()
	if stats := s.relay.Stats(path); stats.MaxOpen != 1 || len(s.gateway.Snapshot().Items) != 80 {
		t.Errorf("%d connections at once, %d items", stats.MaxOpen, len(s.gateway.Snapshot().Items))
	}
}

func TestConnectionIsNotSharedBetweenSources(t *testing.T) {
	t.Parallel()
	s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModePersistent, Slots: 4})
	s.must(t, create(1))
	mine := s.tokens
	s.tokens = &sequence{tokens: []func(string) relay.Token{signed(key, time.Hour)}}
	if _, timings := s.must(t, create(2)); timings.Reused {
		t.Error("a connection was given to a caller with other tokens")
	}
	s.tokens = mine
	s.must(t, create(3))
	if stats := s.relay.Stats(path); stats.MaxOpen != 1 || stats.Dials != 3 {
		t.Errorf("got %+v", stats)
	}
}

func TestTokenIsRefreshedBeforeItExpires(t *testing.T) {
	t.Parallel()
	s := newSite(t, relaytest.GatewayConfig{})
	for life, want := range map[time.Duration]int{6 * time.Minute: 1, 4 * time.Minute: 3} {
		source := &sequence{tokens: []func(string) relay.Token{signed(key, life)}}
		s.tokens = source
		for n := range 3 {
			s.must(t, create(n))
		}
		if source.Calls() != want {
			t.Errorf("with %v left: asked %d times in 3 dials, want %d", life, source.Calls(), want)
		}
	}
}

func TestIdleConnectionIsClosed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		idle time.Duration
		end  func(*site)
	}{
		{"by its timer", 50 * time.Millisecond, func(*site) {}},
		{"never kept", -1, func(*site) {}},
		{"by CloseIdle", time.Hour, func(s *site) { s.client.CloseIdle(s.hc) }},
		{"by Close", time.Hour, func(s *site) { s.client.Close() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			// A gateway that gets no Close frame would keep its next caller waiting for an hour.
			s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModePersistent, IdleTimeout: time.Hour})
			s.client.IdleTimeout = test.idle
			s.must(t, create(1))
			test.end(s)
			suite.Until(t, "closed", func() bool { return s.relay.Stats(path).Open == 0 })
			s.client = newClient(t, &relay.Client{})
			s.must(t, create(2))
		})
	}
}

func TestCloseIdleLeavesExchangesAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModePersistent})
	conn, err := s.client.Connect(t.Context(), s.hc, s.tokens)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	s.client.CloseIdle(s.hc)
	s.client.CloseIdle(relay.HybridConnection{Namespace: "unknown", Path: "unknown"})
	if _, err := conn.Exchange(t.Context(), create(1)); err != nil {
		t.Error(err)
	}
}

func TestUnusedConnectionIsNotKept(t *testing.T) {
	t.Parallel()
	s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModePersistent})
	s.client.IdleTimeout = time.Hour
	conn, err := s.client.Connect(t.Context(), s.hc, s.tokens)
	if err != nil {
		t.Fatal(err)
	}
	conn.Release()
	conn.Release()
	if _, err := conn.Exchange(t.Context(), create(1)); asError(t, err).Sent != relay.SentNo {
		t.Errorf("got %v", err)
	}
	suite.Until(t, "closed", func() bool { return s.relay.Stats(path).Open == 0 })
	conn, err = s.client.Connect(t.Context(), s.hc, s.tokens)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exchange(t.Context(), create(1)); err != nil {
		t.Error(err)
	}
	if _, err := conn.Exchange(t.Context(), create(2)); asError(t, err).Sent != relay.SentNo {
		t.Errorf("second exchange over one Conn: %v", err)
	}
}
