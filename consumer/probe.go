package consumer

import (
	"context"
	"time"
)

// awaitProbe asks for probes of an open breaker, and returns what is closed
// when it closes. The probes go on for probeWanted after the last such call. A
// gateway that is held back is not probed: then it returns nil, which never is
// ready.
func (w *gateway) awaitProbe() (closed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.held:
		return nil
	case !w.breaker.Open():
		return passed
	}
	w.wanted = w.of.consumer.now()
	if !w.hasProbe && w.of.probing.Err() == nil {
		w.hasProbe = true
		w.of.running.Go(func() { w.probe(w.of.probing) })
	}
	return w.closed
}

// probe sends an echo whenever one is due, until the gateway answers, is held
// back, or nobody waits for it any more. An echo carries no participant's details, so it may
// find out what an action must not.
func (w *gateway) probe(ctx context.Context) {
	for {
		due, going := w.nextProbe(ctx)
		if !going {
			return
		}
		pause(ctx, due.Sub(w.of.consumer.now()))
		if ctx.Err() == nil && w.takeProbe(ctx) {
			w.echo(ctx)
		}
	}
}

// nextProbe is when the next echo is due; false ends the prober.
func (w *gateway) nextProbe(ctx context.Context) (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.of.consumer.now()
	if ctx.Err() != nil || w.held || !w.breaker.Open() || now.Sub(w.wanted) > w.of.consumer.waits().ProbeWanted {
		w.hasProbe = false
		return time.Time{}, false
	}
	// In steps, since another replica may learn more meanwhile.
	return earlier(w.breaker.NextProbe, now.Add(w.of.consumer.waits().HealthAge)), true
}

// takeProbe reports whether the due echo is this replica's to send: a hospital
// is asked once, however many replicas wait for it.
func (w *gateway) takeProbe(ctx context.Context) bool {
	w.refresh(ctx)
	w.save(ctx) // what SQL does not know it cannot give out
	c := w.of.consumer
	next := later(w.probeAfterNext(), c.now().Add(c.sentLease())) // no echo takes longer
	w.mu.Lock()
	due, ready := w.breaker.NextProbe, w.breaker.Probe(c.now()) && !w.held
	w.mu.Unlock()
	if !ready {
		return false
	}
	// Not cut short by the end of the service: what was taken must be given back.
	taking, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.waits().StoreLimit)
	defer cancel()
	mine, err := c.Store.TakeProbe(taking, w.name, due, next)
	if err == nil && mine {
		return true
	}
	// Another replica has it, or the database is away: look again soon.
	w.mu.Lock()
	w.read = time.Time{}
	w.mu.Unlock()
	pause(ctx, c.waits().StoreProbe/2)
	return false
}

// echo sends one, and judges the gateway by what comes of it.
func (w *gateway) echo(ctx context.Context) {
	c := w.of.consumer
	w.mu.Lock()
	r := w.route
	w.mu.Unlock()
	timings, err := c.Relay.Echo(ctx, r.hybridConnection, r.tokens)
	if ctx.Err() != nil {
		w.giveProbeBack()
		w.save(ctx)
		return
	}
	// Whoever sends next may be another replica, and must find the gateway free.
	c.Relay.CloseIdle(r.hybridConnection)
	if err != nil {
		c.log().Info("gateway was probed", "gateway", w.name, "error", err, "handshake_ms", timings.Handshake.Milliseconds())
	}
	w.learn(err)
	w.afterEcho()
	w.save(ctx)
}

// giveProbeBack lets whoever comes next probe at once: this one was cut short by
// the end of the service, and in SQL the next is as far off as an echo may take.
func (w *gateway) giveProbeBack() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.breaker.Open() {
		w.breaker.NextProbe, w.unsaved = w.of.consumer.now(), true
	}
}

// afterEcho sets the next probe where the echo did not: one that was cut off says
// nothing of the gateway, and in SQL the next is as far off as an echo may take.
func (w *gateway) afterEcho() {
	c := w.of.consumer
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.breaker.Open() {
		return
	}
	now, next := c.now(), w.breaker.NextProbe
	wait := w.breaker.ProbeAfterNext(c.Breaker).Sub(next)
	if !next.After(now) || next.After(now.Add(wait)) {
		w.breaker.NextProbe = now.Add(wait)
	}
	w.unsaved = true
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
