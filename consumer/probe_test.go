package consumer_test

import (
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// A service that stops in the middle of an echo, as at every deployment, gives the
// probe back: whoever comes next need not wait for as long as an echo may take.
func TestStopWhileProbing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"), func(w *world, g *relaytest.GatewayConfig) {
		g.Mode = relaytest.ModeOffline
		w.consumer.Breaker = relay.BreakerPolicy{Span: 50 * time.Millisecond, Probes: []time.Duration{200 * time.Millisecond}}
	})
	stop := w.run()
	a := newCreate()
	w.enqueue(a)
	w.until("its breaker is open", func() bool { return w.health().OpenedAt != nil })
	w.relay.Stall(provider, -1)
	w.until("an echo is under way", func() bool {
		h := w.health()
		return h.NextProbeAt != nil && h.NextProbeAt.After(w.now().Add(30*time.Second))
	})
	stop()
	if next := w.health().NextProbeAt; next.After(w.now()) {
		t.Errorf("next probe in %s", next.Sub(w.now()))
	}
	w.relay.Stall(provider, 0)
	w.gateway.SetMode(relaytest.ModeOneShot)
	w.runAnother(w.replica())
	w.until("it is confirmed", func() bool { return w.allConfirmed([]action{a}) })
}
