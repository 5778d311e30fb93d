package relay_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/worklist-relay/worklist-relay/relay"
)

var epoch = time.Date(2026, 1, 15, 9, 30, 0, 0, time.UTC)

func after(seconds float64) time.Time {
	return epoch.Add(time.Duration(seconds * float64(time.Second)))
}

func inPhase(phase relay.Phase) error { return &relay.Error{Phase: phase, Sent: relay.SentNo} }

// what results say of the gateway.
var (
	deaths = []error{
		inPhase(relay.PhaseDNS), inPhase(relay.PhaseConnect), inPhase(relay.PhaseTLS), inPhase(relay.PhaseHandshake), inPhase(relay.PhaseNoListener),
		inPhase(relay.PhaseRendezvous), &relay.Error{Phase: relay.PhaseAckTimeout, Sent: relay.SentMaybe},
		// A network timeout of the client's own is errors.Is context.DeadlineExceeded too.
		&relay.Error{Phase: relay.PhaseConnect, Sent: relay.SentNo, Err: fmt.Errorf("dial: %w", context.DeadlineExceeded)},
	}
	hopeless = []error{inPhase(relay.PhaseEndpoint), inPhase(relay.PhaseAuth), fmt.Errorf("in passing: %w", inPhase(relay.PhaseAuth))}
	lives    = []error{
		nil, inPhase(relay.PhaseRejected),
		&relay.Error{Phase: relay.PhaseAckClosed, Sent: relay.SentMaybe, Answered: true, Code: 1000},
		&relay.Error{Phase: relay.PhaseAckClosed, Sent: relay.SentMaybe, Code: 1000},
		&relay.Error{Phase: relay.PhaseAckClosed, Sent: relay.SentNo, Answered: true, Code: 1009},
		&relay.Error{Phase: relay.PhaseAckInvalid, Sent: relay.SentMaybe},
		&relay.Error{Phase: relay.PhaseAckLost, Sent: relay.SentMaybe, Answered: true, Code: 1000},
	}
	silences = []error{
		&relay.Error{Phase: relay.PhaseHandshake, Sent: relay.SentNo, Err: context.Canceled},
		&relay.Error{Phase: relay.PhaseConnect, Sent: relay.SentNo, Err: context.DeadlineExceeded},
		&relay.Error{Phase: relay.PhaseAuth, Sent: relay.SentNo, Err: relay.ErrClosed},
		&relay.Error{Sent: relay.SentNo, Err: context.Canceled},
		&relay.Error{Sent: relay.SentNo},
		inPhase(relay.PhaseSend),
		&relay.Error{Phase: relay.PhaseAckLost, Sent: relay.SentMaybe, Code: 1006},
		errors.New("not an error of this package"),
	}
)

func TestBreakerOpens(t *testing.T) {
	t.Parallel()
	listener, timeout := inPhase(relay.PhaseNoListener), &relay.Error{Phase: relay.PhaseAckTimeout, Sent: relay.SentMaybe}
	lost := &relay.Error{Phase: relay.PhaseAckLost, Sent: relay.SentMaybe}
	type result struct {
		at  float64 // seconds
		err error
	}
	for _, test := range []struct {
		name    string
		results []result
		opens   bool // at the last of them
	}{
		{"35 three in five seconds", []result{{0, listener}, {1, timeout}, {5, listener}}, true},
		{"35 three in less", []result{{0, listener}, {1, listener}, {4.9, listener}}, false},
		{"35 many in less", []result{{0, listener}, {1, listener}, {2, listener}, {3, listener}, {4, listener}}, false},
		{"35 two in a minute", []result{{0, listener}, {60, listener}}, false},
		{"35 a life between", []result{{0, listener}, {5, listener}, {6, nil}, {7, listener}, {12, listener}}, false},
		{"35 since the life", []result{{0, nil}, {10, listener}, {11, listener}, {14.9, listener}}, false},
		{"35 a neutral one between", []result{{0, listener}, {3, lost}, {4, listener}, {5, listener}}, true},
		{"35 a neutral one is not the third", []result{{0, listener}, {3, listener}, {6, lost}}, false},
		{"27 endpoint at once", []result{{0, inPhase(relay.PhaseEndpoint)}}, true},
		{"31 auth at once", []result{{0, inPhase(relay.PhaseAuth)}}, true},
		{"32 a listener that refuses", []result{{0, inPhase(relay.PhaseRejected)}, {5, inPhase(relay.PhaseRejected)}, {10, inPhase(relay.PhaseRejected)}}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b relay.Breaker
			for i, r := range test.results {
				if changed := b.Result(r.err, after(r.at), relay.BreakerPolicy{}); changed != b.Open() {
					t.Errorf("result %d: changed %v, open %v", i, changed, b.Open())
				}
				if want := test.opens && i == len(test.results)-1; b.Open() != want {
					t.Errorf("after result %d: open %v", i, b.Open())
				}
			}
		})
	}
}

func TestBreakerIsProbed(t *testing.T) {
	t.Parallel()
	var b relay.Breaker
	now := epoch
	b.Result(inPhase(relay.PhaseEndpoint), now, relay.BreakerPolicy{})
	waits := []float64{5, 10, 20, 40, 60, 60, 60}
	for i, wait := range waits[:6] {
		due := now.Add(time.Duration(wait) * time.Second)
		if b.Probe(due.Add(-time.Nanosecond)) || !b.Probe(due) {
			t.Errorf("probe %d is not due after %v s", i, wait)
		}
		if want := due.Add(time.Duration(waits[i+1]) * time.Second); !b.ProbeAfterNext(relay.BreakerPolicy{}).Equal(want) {
			t.Errorf("probe %d is at %v, want %v", i+1, b.ProbeAfterNext(relay.BreakerPolicy{}), want)
		}
		if now = due; b.Result(inPhase(relay.PhaseNoListener), now, relay.BreakerPolicy{}) {
			t.Error("a failed probe changed it")
		}
	}
	want := relay.Breaker{
		Failures: 7, FailingSince: epoch, OpenedAt: epoch, Probes: 6, NextProbe: now.Add(time.Minute),
		LastPhase: relay.PhaseNoListener, LastFailure: now,
	}
	if diff := cmp.Diff(want, b); diff != "" {
		t.Error(diff)
	}
	if !b.Result(nil, now.Add(time.Second), relay.BreakerPolicy{}) {
		t.Error("an echo that came back did not close it")
	}
	want = relay.Breaker{LastLife: now.Add(time.Second), LastPhase: relay.PhaseNoListener, LastFailure: now}
	if diff := cmp.Diff(want, b); diff != "" {
		t.Error(diff)
	}
	if b.Probe(now.Add(time.Hour)) || !b.ProbeAfterNext(relay.BreakerPolicy{}).IsZero() {
		t.Error("a closed one wants a probe")
	}
}

// TestBreakerHolds draws histories of results and holds the breaker to what it promises at each of them.
func TestBreakerHolds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		policy := relay.BreakerPolicy{Span: 7 * time.Second, Probes: []time.Duration{time.Second, 3 * time.Second, 9 * time.Second}}
		var b relay.Breaker
		var failed []time.Time // since the last life
		var wait time.Duration // before the last probe, since it opened
		now := epoch
		for range rapid.IntRange(1, 40).Draw(t, "results") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(4*time.Second)).Draw(t, "pause")))
			before := b
			kind := rapid.IntRange(0, 9).Draw(t, "kind") // mostly failures
			from := [][]error{silences, hopeless, lives, deaths, deaths, deaths, deaths, deaths, deaths, deaths}[kind]
			err := rapid.SampledFrom(from).Draw(t, "err")
			if changed := b.Result(err, now, policy); changed != (before.Open() != b.Open()) {
				t.Fatalf("changed %v: from open %v to %v", changed, before.Open(), b.Open())
			}
			switch {
			case kind == 0 && b != before:
				t.Fatalf("%v changed %+v to %+v", err, before, b)
			case kind == 2:
				if b.Open() || b.Failures != 0 || !b.LastLife.Equal(now) {
					t.Fatalf("life left %+v", b)
				}
				failed, wait = nil, 0
			case kind != 0:
				failed = append(failed, now)
				due := len(failed) >= 3 && now.Sub(failed[0]) >= policy.Span
				if want := before.Open() || kind == 1 || due; b.Open() != want {
					t.Fatalf("open %v after %d failures in %v, phase %v", b.Open(), len(failed), now.Sub(failed[0]), b.LastPhase)
				}
				if b.Failures != len(failed) || !b.FailingSince.Equal(failed[0]) || !b.LastFailure.Equal(now) {
					t.Fatalf("%d failures since %v, but %+v", len(failed), failed[0], b)
				}
				if b.Open() {
					next := b.NextProbe.Sub(now)
					if next < wait || next < policy.Probes[0] || next > policy.Probes[2] || wait > 0 && next == wait && wait < policy.Probes[2] {
						t.Fatalf("waits %v for a probe, and waited %v before", next, wait)
					}
					wait = next
				}
			}
			if b.Probe(now) != (b.Open() && !now.Before(b.NextProbe)) || b.Open() && !b.ProbeAfterNext(policy).After(b.NextProbe) {
				t.Fatalf("probe %v, the next but one %v: %+v", b.Probe(now), b.ProbeAfterNext(policy), b)
			}
		}
	})
}
