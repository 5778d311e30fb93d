package relay_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// closedWithoutReply is what a gateway does with what it cannot read, and what one in trouble may do with anything.
func closedWithoutReply(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{})
	for _, a := range []relay.Action{relay.NewAction([]byte(`not JSON`), "", createItem, ""), relay.NewAction([]byte(`[]`), "", updateItem, "")} {
		e := s.fails(t, a)
		if diff := cmp.Diff(verdict{Phase: relay.PhaseAckClosed, Sent: relay.SentMaybe, Answered: true, Code: 1000}, verdictOf(e)); diff != "" {
			t.Error(diff)
		}
	}
	if exchanges := s.gateway.Snapshot().Exchanges; exchanges != 2 {
		t.Errorf("gateway got %d frames, want 2", exchanges)
	}
}

func tooBig(t *testing.T) {
	for _, mode := range []relaytest.Mode{relaytest.ModeOneShot, relaytest.ModePersistent} {
		s := newSite(t, relaytest.GatewayConfig{Mode: mode})
		s.must(t, create(1))
		// The larger one does not fit into the buffers on the way: the Close comes while it is being written.
		for _, size := range []int{1<<20 + 1, 16 << 20} {
			e := s.fails(t, relay.NewAction(bytes.Repeat([]byte(" "), size), "", createItem, ""))
			if diff := cmp.Diff(verdict{Phase: relay.PhaseAckClosed, Sent: relay.SentNo, Answered: true, Code: 1009}, verdictOf(e)); diff != "" {
				t.Error(diff)
			}
		}
	}
}

// lost cuts the connection in every way while a gateway keeps silent.
func lost(t *testing.T) {
	for _, test := range []struct {
		name string
		cut  func(*relaytest.Server)
		code int
	}{
		{"1001", func(r *relaytest.Server) { r.Delete(path) }, 1001},
		{"1008", func(r *relaytest.Server) { r.CloseSenders(path, 1008) }, 1008},
		{"1011", func(r *relaytest.Server) { r.CloseSenders(path, 1011) }, 1011},
		{"cut", func(r *relaytest.Server) { r.DropSenders(path) }, 1006},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModeSilent})
			result := make(chan error)
			go func() {
				_, _, err := s.send(context.WithoutCancel(t.Context()), create(1))
				result <- err
			}()
			suite.Until(t, "frame at the gateway", func() bool { return s.gateway.Snapshot().Exchanges == 1 })
			test.cut(s.relay)
			e := asError(t, <-result)
			if diff := cmp.Diff(verdict{Phase: relay.PhaseAckLost, Sent: relay.SentMaybe, Code: test.code}, verdictOf(e)); diff != "" {
				t.Error(diff)
			}
			if dials := s.relay.Stats(path).Dials; dials != 1 {
				t.Errorf("dialled %d times: a new connection that breaks is not tried again", dials)
			}
		})
	}
}

func policyViolation(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{})
	source := &sequence{tokens: []func(string) relay.Token{signed(key, time.Hour)}}
	s.tokens = source
	for _, code := range []int{1011, 1008, 1011} {
		s.gateway.Script(relaytest.Reply{Close: code})
		if e := s.fails(t, create(1)); e.Code != code || e.Phase != relay.PhaseAckLost {
			t.Errorf("got %v", e)
		}
	}
	if source.Calls() != 2 {
		t.Errorf("asked for %d tokens, want a second one after 1008 only", source.Calls())
	}
}

// reusedEnds lets a connection that was open before end at the next frame.
func reusedEnds(t *testing.T) {
	drop, hangUp := relaytest.Reply{Drop: true}, relaytest.Reply{Close: 1000}
	storedThenDrop := relaytest.Reply{Apply: true, Drop: true}
	lostBy := func(code int, answered bool) *verdict {
		return &verdict{Phase: relay.PhaseAckLost, Sent: relay.SentMaybe, Answered: answered, Code: code}
	}
	for _, test := range []struct {
		name   string
		script []relaytest.Reply
		action relay.Action
		want   relay.Ack
		err    *verdict
		dials  int
	}{
		{"create, not stored", []relaytest.Reply{drop}, create(2),
			relay.Ack{Kind: relay.AckDone, Status: "created", ActionID: create(2).ID(), Unanswered: true}, nil, 2},
		{"create, stored", []relaytest.Reply{storedThenDrop}, create(2),
			relay.Ack{Kind: relay.AckExists, Status: "exists", ActionID: create(2).ID(), Unanswered: true}, nil, 2},
		{"create, clean close", []relaytest.Reply{hangUp}, create(2),
			relay.Ack{Kind: relay.AckDone, Status: "created", ActionID: create(2).ID()}, nil, 2},
		{"create, twice", []relaytest.Reply{drop, drop}, create(2), relay.Ack{}, lostBy(1006, false), 2},
		{"create, then a clean close", []relaytest.Reply{drop, hangUp}, create(2), relay.Ack{},
			&verdict{Phase: relay.PhaseAckClosed, Sent: relay.SentMaybe, Code: 1000}, 2},
		{"create, clean close twice", []relaytest.Reply{hangUp, hangUp}, create(2), relay.Ack{},
			&verdict{Phase: relay.PhaseAckClosed, Sent: relay.SentMaybe, Answered: true, Code: 1000}, 2},
		{"create, too big", []relaytest.Reply{{Close: 1009}}, create(2), relay.Ack{},
			&verdict{Phase: relay.PhaseAckClosed, Sent: relay.SentNo, Answered: true, Code: 1009}, 1},
		{"update", []relaytest.Reply{drop}, update(1, "IN PROGRESS"), relay.Ack{}, lostBy(1006, false), 1},
		{"update, clean close", []relaytest.Reply{hangUp}, update(1, "IN PROGRESS"), relay.Ack{}, lostBy(1000, true), 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModePersistent})
			s.must(t, create(1))
			s.gateway.Script(test.script...)
			ack, _, err := s.send(t.Context(), test.action)
			if diff := cmp.Diff(test.want, ack); diff != "" {
				t.Error(diff)
			}
			var got *verdict
			if err != nil {
				v := verdictOf(asError(t, err))
				got = &v
			}
			if diff := cmp.Diff(test.err, got); diff != "" {
				t.Error(diff)
			}
			if dials := s.relay.Stats(path).Dials; dials != test.dials {
				t.Errorf("dialled %d times, want %d", dials, test.dials)
			}
		})
	}
	t.Run("create, and nobody listens any more", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModePersistent})
		s.must(t, create(1))
		s.gateway.Script(drop)
		s.relay.Refuse(path, 1, 404, "")
		e := s.fails(t, create(2))
		if diff := cmp.Diff(*lostBy(1006, false), verdictOf(e)); diff != "" {
			t.Error(diff)
		}
		if want := "exchange " + s.hc.String() + ": connection broke before an ack; then connect " + s.hc.String() + ": 404 no listener"; e.Error() != want {
			t.Errorf("got %q, want %q", e, want)
		}
	})
}

// large is an action near the largest that a gateway takes.
func large(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{})
	frame := bytes.Replace(frameOf(1), []byte("Imaginary"), bytes.Repeat([]byte("Imaginary "), 100_000), 1)
	if ack, _ := s.must(t, relay.NewAction(frame, create(1).ID(), createItem, create(1).AccessionNumber())); ack.Status != "created" {
		t.Errorf("got %+v", ack)
	}
	if frames := s.gateway.Frames(); len(frames) != 1 || !bytes.Equal(frames[0], frame) {
		t.Error("the gateway got another frame")
	}
}

// existsWithEvidence breaks a connection that was open before, when the gateway has stored the item.
func existsWithEvidence(t *testing.T) {
	for release, status := range map[relaytest.Release]string{
		relaytest.ReleaseCurrent: "exists", relaytest.ReleaseDuplicate: "duplicate", relaytest.ReleaseFirst: "error",
	} {
		s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModePersistent, Release: release})
		s.must(t, create(1))
		s.gateway.Script(relaytest.Reply{Apply: true, Drop: true})
		if ack, _ := s.must(t, create(2)); ack.Kind != relay.AckExists || ack.Status != status || !ack.Unanswered {
			t.Errorf("release %d: got %+v", release, ack)
		}
		wantWrites(t, s, 1, 1)
	}
}

// existsWithoutEvidence has another action under the same accession number, first sent once, then twice with an answer to each.
func existsWithoutEvidence(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModePersistent})
	s.must(t, create(1))
	frame := bytes.Replace(frameOf(1), []byte(actionID(1)), []byte(actionID(2)), 1)
	other := relay.NewAction(frame, actionID(2), createItem, accession(1))
	for range 2 {
		if ack, _ := s.must(t, other); ack.Kind != relay.AckExists || ack.ActionID != actionID(2) || ack.Unanswered {
			t.Errorf("got %+v", ack)
		}
		s.gateway.Script(relaytest.Reply{Close: 1000})
	}
	if dials := s.relay.Stats(path).Dials; dials != 2 {
		t.Errorf("dialled %d times, want 2", dials)
	}
	wantWrites(t, s, 1)
}

// notFoundWithEvidence loses the ack to an update that was applied: the update is not sent again by itself, and the error says what the next
// attempt needs to know.
func notFoundWithEvidence(t *testing.T) {
	s := newSite(t, relaytest.GatewayConfig{Mode: relaytest.ModePersistent})
	s.must(t, create(1))
	s.gateway.Script(relaytest.Reply{Apply: true, Drop: true})
	e := s.fails(t, update(1, "IN PROGRESS"))
	if diff := cmp.Diff(verdict{Phase: relay.PhaseAckLost, Sent: relay.SentMaybe, Code: 1006}, verdictOf(e)); diff != "" {
		t.Error(diff)
	}
	ack, _ := s.must(t, update(1, "IN PROGRESS"))
	if diff := cmp.Diff(relay.Ack{Kind: relay.AckNotFound, Status: "error", Text: "not found"}, ack); diff != "" {
		t.Error(diff)
	}
	wantWrites(t, s, 2)
}
