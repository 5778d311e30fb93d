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

// TestSituations is named by the rows of the table of situations that concern the way to the gateway and back.
func TestSituations(t *testing.T) {
	t.Parallel()
	for _, situation := range []struct {
		name string
		test func(*testing.T)
	}{
		{"21_name_does_not_resolve", unresolved},
		{"22_black_hole", blackHole},
		{"23_certificate_not_trusted", certificates},
		{"24_upgrade_never_answered", stalled},
		{"25_nobody_listens", nobodyListens},
		{"25_status_line", refused(refusedNoListener...)},
		{"26_listener_comes_back", comesBack},
		{"27_no_such_endpoint", noEndpoint},
		{"27_status_line", refused(refusedNoEndpoint...)},
		{"28_listener_does_not_accept", notAccepted},
		{"28_status_line", refused(refusedRendezvous...)},
		{"29_another_phrase_or_none", refused(refusedOtherwise...)},
		{"30_cached_token_expired", tokenExpired},
		{"31_token_refused", tokenRefused},
		{"31_status_line", refused(refusedToken...)},
		{"32_listener_rejects_with_4xx", rejects(relay.PhaseRejected, 400, 409, 429)},
		{"32_status_line", refused(refusedByListener...)},
		{"33_listener_rejects_with_5xx", rejects(relay.PhaseHandshake, 500, 502)},
		{"33_status_line", refused(refusedInTrouble...)},
		{"35_echo_answered", echoAnswered},
		{"35_echo_that_old_gateways_close_on", echoed(relaytest.GatewayConfig{Release: relaytest.ReleaseDuplicate}, nil, "", life)},
		{"35_echo_closed_cleanly", echoed(relaytest.GatewayConfig{}, &relaytest.Reply{Close: 1000}, "", life)},
		{"35_echo_answered_with_nonsense", echoed(relaytest.GatewayConfig{}, &relaytest.Reply{Text: "?"}, "", life)},
		{"35_echo_refused", echoed(relaytest.GatewayConfig{Mode: relaytest.ModeReject}, nil, "", life)},
		{"35_echo_cut", echoed(relaytest.GatewayConfig{}, &relaytest.Reply{Drop: true}, relay.PhaseAckLost, nothing)},
		{"35_echo_not_answered", echoed(relaytest.GatewayConfig{Mode: relaytest.ModeSilent}, nil, relay.PhaseAckTimeout, failure)},
		{"35_echo_to_nobody", echoed(relaytest.GatewayConfig{Mode: relaytest.ModeOffline}, nil, relay.PhaseNoListener, failure)},
		{"36_cached_connection_found_closed", foundClosed},
		{"36_connection_closed_before_the_frame", closedBeforeTheFrame},
		{"37_gateway_serves_another_sender", busyGateway},
		{"38_created", acked(created...)},
		{"38_large_action", large},
		{"39_processed", acked(processed...)},
		{"40_updated", acked(updated...)},
		{"41_another_actions_id", notAcked(anothers...)},
		{"42_exists_in_every_spelling", acked(exists...)},
		{"42_exists_with_evidence", existsWithEvidence},
		{"43_exists_without_evidence", existsWithoutEvidence},
		{"44_error_of_a_permanent_kind", acked(permanent...)},
		{"45_error_of_a_transient_kind", acked(transient...)},
		{"46_error_of_unknown_text", acked(unknown...)},
		{"47_update_not_found", acked(notFound...)},
		{"48_update_not_found_with_evidence", notFoundWithEvidence},
		{"49_no_ack_in_time", noAck},
		{"50_late_ack_belongs_to_nobody", lateAck},
		{"51_close_without_reply", closedWithoutReply},
		{"52_frame_too_big", tooBig},
		{"53_connection_lost_after_the_frame", lost},
		{"53_broken_off", brokenOff},
		{"53_close_1008_drops_the_token", policyViolation},
		{"54_ack_then_break", ackThenBreak},
		{"55_answers_that_are_no_ack", notAcked(invalid...)},
		{"56_binary_ack", binaryAck},
		{"57_extra_frame", extraFrame},
		{"58_one_shot_gateway", oneShot},
		{"59_persistent_gateway", persistent},
		{"95_close_crosses_the_next_action", closeCrosses},
		{"95_reused_connection_ends_before_the_ack", reusedEnds},
	} {
		t.Run(situation.name, func(t *testing.T) {
			t.Parallel()
			situation.test(t)
		})
	}
}

func foundClosed(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModePersistent})
	s.must(t, create(1))
	if _, timings := s.must(t, create(2)); !timings.Reused {
		t.Error("connection was not reused")
	}
	s.relay.CloseSenders(path, 1000)
	suite.Until(t, "closed", func() bool { return s.relay.Stats(path).Open == 0 })
	ack, timings := s.must(t, create(3))
	if ack.Kind != relay.AckDone || timings.Reused {
		t.Errorf("got %+v, reused %v", ack, timings.Reused)
	}
	wantWrites(t, s, 1, 1, 1)
	if dials := s.relay.Stats(path).Dials; dials != 2 {
		t.Errorf("dialled %d times, want 2", dials)
	}
}

// wantWrites compares how often each item was written at the gateway.
func wantWrites(t *testing.T, s *site, want ...int) {
	t.Helper()
	var writes []int
	for _, item := range s.gateway.Snapshot().Items {
		writes = append(writes, item.Writes)
	}
	if diff := cmp.Diff(want, writes); diff != "" {
		t.Error("writes at the gateway:", diff)
	}
}

// busyGateway has its only slot taken by another sender, whose turn ends while we wait for our 101.
func busyGateway(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{})
	other := newClient(t, &relay.Client{})
	holding, err := other.Connect(t.Context(), s.hc, s.tokens)
	if err != nil {
		t.Fatal(err)
	}
	defer holding.Release()
	result := make(chan error)
	go func() {
		_, timings, err := s.send(context.WithoutCancel(t.Context()), create(1))
		if timings.Handshake < 80*time.Millisecond {
			t.Errorf("handshake of %v does not hold the gateway's delay", timings.Handshake)
		}
		result <- err
	}()
	suite.Until(t, "waiting at the relay", func() bool { return s.relay.Stats(path).Dials == 2 })
	if stats := s.relay.Stats(path); stats.Rendezvous != 1 {
		t.Errorf("%d rendezvous at a gateway that serves one at a time", stats.Rendezvous)
	}
	s.gateway.AcceptDelay(80 * time.Millisecond)
	holding.Release()
	if err := <-result; err != nil {
		t.Error(err)
	}
	wantWrites(t, s, 1)
}

func noAck(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModePersistent})
	s.must(t, create(0))
	s.gateway.Script(relaytest.Reply{KeepOpen: true})
	s.client.AckTimeout = unanswered // while nothing is under way
	e := s.fails(t, create(1))
	s.client.AckTimeout = 0
	if diff := cmp.Diff(verdict{Phase: relay.PhaseAckTimeout, Sent: relay.SentMaybe}, verdictOf(e)); diff != "" {
		t.Error(diff)
	}
	if s.relay.Stats(path).Dials != 1 {
		t.Error("the connection was not reused, or dialled again without need")
	}
	if errors.Is(e, context.DeadlineExceeded) {
		t.Error("the ack timeout looks like the caller's deadline")
	}
	if _, timings := s.must(t, create(1)); timings.Reused {
		t.Error("a connection that owes an ack was used again")
	}
}

func lateAck(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModePersistent})
	late := make(chan struct{})
	s.client.AckTimeout = unanswered
	s.gateway.Script(relaytest.Reply{Honest: true, Until: late})
	if e := s.fails(t, create(1)); e.Phase != relay.PhaseAckTimeout {
		t.Fatalf("got %v", e)
	}
	close(late)
	s.client.AckTimeout = 0 // while nothing is under way; the others have the time that they need
	for n := 2; n < 5; n++ {
		ack, _ := s.must(t, create(n))
		if ack.ActionID != create(n).ID() {
			t.Errorf("action %d got the ack of %s", n, ack.ActionID)
		}
	}
	wantWrites(t, s, 1, 1, 1, 1)
	if open := s.relay.Stats(path).MaxOpen; open != 1 {
		t.Errorf("%d connections at once", open)
	}
}

func oneShot(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{})
	s.client.WatchTime = time.Hour // a gateway that closes is not waited for any longer
	for n := range 100 {
		if _, timings := s.must(t, create(n)); timings.Reused {
			t.Error("a connection was used twice")
		}
	}
	snapshot := s.gateway.Snapshot()
	if snapshot.Dials != 100 || snapshot.Exchanges != 100 || len(snapshot.Items) != 100 || snapshot.MaxOpen != 1 {
		t.Errorf("gateway saw %d dials, %d exchanges, %d items, %d at once", snapshot.Dials, snapshot.Exchanges, len(snapshot.Items), snapshot.MaxOpen)
	}
}

func persistent(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModePersistent, Slots: 4})
	for n := range 100 {
		if _, timings := s.must(t, create(n)); timings.Reused != (n > 0) {
			t.Errorf("action %d: reused %v", n, timings.Reused)
		}
	}
	snapshot := s.gateway.Snapshot()
	if snapshot.Dials != 1 || snapshot.Exchanges != 100 || len(snapshot.Items) != 100 {
		t.Errorf("gateway saw %d dials, %d exchanges, %d items", snapshot.Dials, snapshot.Exchanges, len(snapshot.Items))
	}
}

func closeCrosses(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{CloseDelay: 50 * time.Millisecond})
	s.client.WatchTime = time.Hour
	for n := range 4 {
		s.must(t, create(n))
	}
	s.must(t, update(1, "IN PROGRESS"))
	snapshot := s.gateway.Snapshot()
	if snapshot.Dials != 5 || snapshot.Exchanges != 5 {
		t.Errorf("gateway saw %d dials and %d exchanges", snapshot.Dials, snapshot.Exchanges)
	}
	wantWrites(t, s, 1, 2, 1, 1)
}
