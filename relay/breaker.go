package relay

import (
	"context"
	"errors"
	"time"
)

// A Breaker keeps account of whether the gateway at one hybrid connection lives, so that a sick one costs nobody's time. It is closed
// while actions may be sent. It opens on failures, and closes on any proof of life, never because time has passed.
//
// The zero value is closed. It is not safe for concurrent use: its owner guards it. It has no clock of its own, and its fields are
// exported so that the owner can keep it in SQL.
type Breaker struct {
	Failures     int       // in a row
	FailingSince time.Time // when the first of them failed
	OpenedAt     time.Time // zero: closed
	Probes       int       // probes and attempts that failed since it opened
	NextProbe    time.Time // when the next probe is due, while open
	LastLife     time.Time // last proof of life: an ack, an echo, or another answer of the gateway
	LastPhase    Phase     // of the last failure, kept after recovery
	LastFailure  time.Time
}

// A BreakerPolicy says when a [Breaker] opens, and when it is probed then.
type BreakerPolicy struct {
	// Span is how long at least three failures in a row must last; 0 means 5 s.
	Span time.Duration
	// Probes are the waits before the probes, the last one repeating; nil means 5, 10, 20, 40 and 60 s.
	Probes []time.Duration
}

// fewestFailures in a row open a breaker. One dial in forty is slow or refused at a relay in good health.
const fewestFailures = 3

// defaultProbes are the waits before probes. A gateway listens again 5 s after it lost its connection.
var defaultProbes = []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second, time.Minute}

// Open reports whether nothing but a probe may be sent.
func (b *Breaker) Open() bool { return !b.OpenedAt.IsZero() }

// Result takes in what an attempt or a probe came to at now: nil, or the error of [Client.Connect], [Conn.Exchange] or [Client.Echo]. It
// reports whether the breaker opened or closed just now.
//
// An answer of whatever content is life, and so is a refusal by the gateway's own listener. Failures before the frame and ack timeouts
// count against it; those of phases endpoint and auth, which no retry mends, open it at once. All else says nothing about the gateway
// and changes nothing: an attempt that was called off, a frame that was not written, a connection that broke after it.
func (b *Breaker) Result(err error, now time.Time, p BreakerPolicy) (changed bool) {
	switch sign, phase := signOf(err); sign {
	case life:
		return b.revive(now)
	case failure:
		return b.fail(phase, now, p)
	}
	return false
}

func (b *Breaker) revive(now time.Time) (closed bool) {
	closed = b.Open()
	*b = Breaker{LastLife: now, LastPhase: b.LastPhase, LastFailure: b.LastFailure}
	return closed
}

func (b *Breaker) fail(phase Phase, now time.Time, p BreakerPolicy) (opened bool) {
	if b.Failures == 0 {
		b.FailingSince = now
	}
	b.Failures++
	b.LastPhase, b.LastFailure = phase, now
	switch {
	case b.Open():
		b.Probes++
	case phase == PhaseEndpoint || phase == PhaseAuth,
		b.Failures >= fewestFailures && now.Sub(b.FailingSince) >= or(p.Span, 5*time.Second):
		b.OpenedAt, opened = now, true
	default:
		return false
	}
	b.NextProbe = now.Add(p.wait(b.Probes))
	return opened
}

// Probe reports whether the breaker is open and a probe, which [Client.Echo] makes, is due. It changes nothing: that only one is under
// way at a time is up to the owner.
func (b *Breaker) Probe(now time.Time) bool { return b.Open() && !now.Before(b.NextProbe) }

// ProbeAfterNext is when the probe after the next one is due, if that one is made in time and fails; zero while closed. What waits for
// this gateway until then comes when the next probe has told.
func (b *Breaker) ProbeAfterNext(p BreakerPolicy) time.Time {
	if !b.Open() {
		return time.Time{}
	}
	return b.NextProbe.Add(p.wait(b.Probes + 1))
}

// wait is the time before the next probe after failed ones.
func (p BreakerPolicy) wait(failed int) time.Duration {
	waits := p.Probes
	if len(waits) == 0 {
		waits = defaultProbes
	}
	return waits[min(failed, len(waits)-1)]
}

// sign is what a result says about the gateway.
type sign int

const (
	nothing sign = iota
	life
	failure
)

// signOf is the sign of a result, and the phase of a failure.
func signOf(err error) (sign, Phase) {
	var e *Error
	switch {
	case err == nil:
		return life, ""
	case !errors.As(err, &e):
		return nothing, ""
	case e.Answered:
		return life, ""
	// Compared as they are: a network timeout of our own is context.DeadlineExceeded too, to errors.Is.
	case e.Err == context.Canceled, e.Err == context.DeadlineExceeded, errors.Is(e.Err, ErrClosed):
		return nothing, ""
	}
	switch e.Phase {
	case PhaseRejected, PhaseAckClosed, PhaseAckInvalid, PhaseAckError:
		return life, ""
	case PhaseDNS, PhaseConnect, PhaseTLS, PhaseHandshake, PhaseAuth, PhaseEndpoint, PhaseNoListener, PhaseRendezvous, PhaseAckTimeout:
		return failure, e.Phase
	}
	return nothing, ""
}
