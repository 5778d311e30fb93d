package relay_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

func TestContextEnds(t *testing.T) {
	t.Parallel()
	s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModePersistent})
	s.client.HandshakeTimeout = time.Hour
	t.Run("while dialling", func(t *testing.T) {
		s.relay.Stall(path, 1)
		before := s.relay.Stats(path).Dials
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error)
		go func() {
			_, err := s.client.Connect(ctx, s.hc, s.tokens)
			result <- err
		}()
		suite.Until(t, "dialling", func() bool { return s.relay.Stats(path).Dials > before })
		cancel()
		e := asError(t, <-result)
		if e.Phase != relay.PhaseHandshake || e.Sent != relay.SentNo || !errors.Is(e, context.Canceled) {
			t.Errorf("got %+v: %v", verdictOf(e), e)
		}
	})
	t.Run("while watching", func(t *testing.T) {
		s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModePersistent})
		s.client.WatchTime = time.Hour
		s.must(t, create(1))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := s.client.Connect(ctx, s.hc, s.tokens)
		e := asError(t, err)
		if e.Phase != "" || e.Sent != relay.SentNo || !errors.Is(e, context.DeadlineExceeded) {
			t.Errorf("got %+v: %v", verdictOf(e), e)
		}
	})
	t.Run("before the frame", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		conn, err := s.client.Connect(ctx, s.hc, s.tokens)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Release()
		cancel()
		_, err = conn.Exchange(ctx, create(1))
		e := asError(t, err)
		if e.Phase != relay.PhaseSend || e.Sent != relay.SentNo || !errors.Is(e, context.Canceled) {
			t.Errorf("got %+v: %v", verdictOf(e), e)
		}
		if exchanges := s.gateway.Snapshot().Exchanges; exchanges != 0 {
			t.Errorf("gateway got %d frames", exchanges)
		}
	})
	t.Run("while waiting for the ack", func(t *testing.T) {
		s.gateway.Script(relaytest.Reply{KeepOpen: true})
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error)
		go func() {
			_, _, err := s.send(ctx, create(1))
			result <- err
		}()
		suite.Until(t, "frame at the gateway", func() bool { return s.gateway.Snapshot().Exchanges == 1 })
		cancel()
		e := asError(t, <-result)
		if e.Phase != relay.PhaseAckLost || e.Sent != relay.SentMaybe || e.Answered || !errors.Is(e, context.Canceled) {
			t.Errorf("got %+v: %v", verdictOf(e), e)
		}
	})
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModeSilent})
	results := make(chan error, 2)
	go func() {
		_, _, err := s.send(context.WithoutCancel(t.Context()), create(1))
		results <- err
	}()
	suite.Until(t, "frame at the gateway", func() bool { return s.gateway.Snapshot().Exchanges == 1 })
	go func() {
		_, _, err := s.send(context.WithoutCancel(t.Context()), create(2))
		results <- err
	}()
	if err := s.client.Close(); err != nil {
		t.Error(err)
	}
	sent := map[relay.Sent]int{}
	for range 2 {
		err := <-results
		if !errors.Is(err, relay.ErrClosed) {
			t.Errorf("got %v", err)
		}
		sent[asError(t, err).Sent]++
	}
	if diff := cmp.Diff(map[relay.Sent]int{relay.SentMaybe: 1, relay.SentNo: 1}, sent); diff != "" {
		t.Error(diff)
	}
	if _, err := s.client.Connect(t.Context(), s.hc, s.tokens); !errors.Is(err, relay.ErrClosed) {
		t.Errorf("connect after close: %v", err)
	}
}
