package consumer

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

// gateways is what this process knows of the gateway at each hybrid connection:
// its breaker, and who probes it. What matters is kept in SQL as well, for
// operators and for other replicas. Start it before use.
type gateways struct {
	consumer *Consumer
	probing  context.Context // ends the probes
	running  sync.WaitGroup  // probers

	mu    sync.Mutex // guards known
	known map[string]*gateway
}

func (g *gateways) start(probing context.Context, c *Consumer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.consumer, g.probing, g.known = c, probing, make(map[string]*gateway)
}

// gateway is one of them.
type gateway struct {
	of     *gateways
	name   string     // of the hybrid connection
	saving sync.Mutex // held while SQL is told; taken before mu
	asking sync.Mutex // held while SQL is asked, so that nobody goes by what is not known yet; taken before mu

	mu       sync.Mutex // guards what follows
	route    route      // as last looked up: a probe takes the credential of today
	breaker  relay.Breaker
	closed   chan struct{} // closed when the breaker closes; nil while it is closed
	held     bool          // an operator holds its actions back
	read     time.Time     // when SQL was last asked
	saved    time.Time     // when SQL was last told
	unsaved  bool          // SQL is to be told when there is time
	wanted   time.Time     // when somebody last waited for a probe
	hasProbe bool          // a prober is running
}

// at returns the gateway that r leads to, as this process and, within healthAge,
// other replicas know it. A database that does not answer changes nothing: its
// absence is noticed where it matters.
func (g *gateways) at(ctx context.Context, r route) *gateway {
	g.mu.Lock()
	w := g.known[r.name()]
	if w == nil {
		w = &gateway{of: g, name: r.name()}
		g.known[r.name()] = w
	}
	g.mu.Unlock()
	w.mu.Lock()
	w.route = r
	w.mu.Unlock()
	w.refresh(ctx)
	return w
}

// open reports whether the breaker is open: nothing is sent to the gateway then.
func (w *gateway) open() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.breaker.Open()
}

// heldBack reports whether an operator holds the gateway's actions back: nothing
// is sent to it then, not even an echo, since it may be in pieces.
func (w *gateway) heldBack() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.held
}

// phase is where the gateway failed last.
func (w *gateway) phase() relay.Phase {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.breaker.LastPhase
}

// probeAfterNext is when a message that cannot be sent now should come again:
// by then one probe has told.
func (w *gateway) probeAfterNext() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := w.breaker.NextProbe
	wait := w.breaker.ProbeAfterNext(w.of.consumer.Breaker).Sub(next)
	if now := w.of.consumer.now(); next.Before(now) {
		next = now // nobody waited for it, so it was not sent
	}
	return next.Add(wait)
}

// learn takes in how an attempt or a probe ended. SQL is told later, by save.
func (w *gateway) learn(err error) {
	c := w.of.consumer
	w.mu.Lock()
	defer w.mu.Unlock()
	now := c.now()
	lively := w.breaker.LastLife
	failures := w.breaker.Failures
	changed := w.breaker.Result(err, now, c.Breaker)
	switch {
	case changed:
		w.unsaved = true
		w.tell()
	case w.breaker.Open():
		w.unsaved = true // when the next probe is due must be known to whoever takes it
	case w.breaker.Failures > failures:
		w.unsaved = w.unsaved || now.Sub(w.saved) >= c.waits().FailureSaved
	case w.breaker.LastLife.After(lively):
		w.unsaved = w.unsaved || failures > 0 || now.Sub(w.saved) >= c.waits().LifeSaved
	}
}

// tell logs that the breaker opened or closed, and wakes who waits for it. The
// caller holds w.mu.
func (w *gateway) tell() {
	log := w.of.consumer.log().With("gateway", w.name)
	if w.breaker.Open() {
		w.closed = make(chan struct{})
		log.Warn("gateway cannot be reached, its actions wait", "phase", w.breaker.LastPhase, "failures", w.breaker.Failures, "next_probe", w.breaker.NextProbe)
		return
	}
	if w.closed != nil {
		close(w.closed)
		w.closed = nil
	}
	log.Info("gateway is back")
}

// save writes down what was learned, if it is worth it. Without a database it
// is written another time.
func (w *gateway) save(ctx context.Context) {
	w.saving.Lock() // one after the other, so that what was learned last is written last
	defer w.saving.Unlock()
	w.mu.Lock()
	if !w.unsaved {
		w.mu.Unlock()
		return
	}
	row := w.row()
	w.unsaved = false // what is learned from here on is due again
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.of.consumer.waits().StoreLimit)
	defer cancel()
	err := w.of.consumer.Store.SaveHealth(ctx, row)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.unsaved = true
		w.of.consumer.log().Warn("state of a gateway not written down", "gateway", row.Relay, "error", err)
		return
	}
	w.saved = w.of.consumer.now()
}

// refresh takes over what another replica wrote down since.
func (w *gateway) refresh(ctx context.Context) {
	w.asking.Lock()
	defer w.asking.Unlock()
	c := w.of.consumer
	now := c.now()
	w.mu.Lock()
	fresh := now.Sub(w.read) < c.waits().HealthAge
	if !fresh {
		w.read = now
	}
	w.mu.Unlock()
	if fresh {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, c.waits().StoreLimit)
	defer cancel()
	row, err := c.Store.Health(ctx, w.name)
	if err != nil && !errors.Is(err, store.ErrNoHealth) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.merge(row)
}

// merge lets the newer knowledge win; whether the gateway is held back SQL alone
// knows. The caller holds w.mu.
func (w *gateway) merge(row store.Health) {
	w.hold(row)
	b, theirs := &w.breaker, breakerOf(row)
	switch {
	case b.Open() && !theirs.Open() && theirs.LastLife.After(b.OpenedAt),
		!b.Open() && theirs.Open() && theirs.OpenedAt.After(b.LastLife):
		*b = theirs
		w.tell()
	case b.Open() && theirs.Open():
		// With nothing to tell SQL it knows better, also that a probe was given back.
		if !w.unsaved || theirs.NextProbe.After(b.NextProbe) || theirs.LastFailure.After(b.LastFailure) {
			b.NextProbe, b.Probes, b.LastFailure = theirs.NextProbe, theirs.Probes, later(theirs.LastFailure, b.LastFailure)
		}
	case b.Open():
		w.unsaved = true // SQL does not know it yet
	case theirs.LastLife.After(b.LastLife):
		b.LastLife = theirs.LastLife
	}
}

// hold takes over whether the gateway is held back. The caller holds w.mu.
func (w *gateway) hold(row store.Health) {
	held := row.HeldAt != nil
	if held == w.held {
		return
	}
	w.held = held
	log := w.of.consumer.log().With("gateway", w.name)
	if held {
		log.Warn("gateway is held back by an operator, its actions wait", "by", value(row.HeldBy), "since", value(row.HeldAt))
		return
	}
	log.Info("gateway is held back no longer")
}

func breakerOf(row store.Health) relay.Breaker {
	return relay.Breaker{
		Failures: row.Failures, FailingSince: value(row.FailingSince), OpenedAt: value(row.OpenedAt),
		Probes: row.Probes, NextProbe: value(row.NextProbeAt), LastLife: value(row.LastLifeAt),
		LastPhase: relay.Phase(value(row.LastPhase)), LastFailure: value(row.LastFailureAt),
	}
}

// row is the gateway as SQL has it. The caller holds w.mu.
func (w *gateway) row() store.Health {
	b := w.breaker
	phase := string(b.LastPhase)
	return store.Health{
		Relay: w.name, Failures: b.Failures, FailingSince: moment(b.FailingSince), OpenedAt: moment(b.OpenedAt),
		Probes: b.Probes, NextProbeAt: moment(b.NextProbe), LastLifeAt: moment(b.LastLife),
		LastPhase: &phase, LastFailureAt: moment(b.LastFailure),
	}
}

// moment is t, or nil for the zero time.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
