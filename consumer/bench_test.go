package consumer_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// BenchmarkOneSilentGateway measures what a gateway that takes actions and never
// answers costs the other 49: each iteration serves them once beside it and once
// beside one that is well, in turn. ratio is the time of the first over that of
// the second, 1 being no cost at all.
func BenchmarkOneSilentGateway(b *testing.B) {
	for _, dialect := range storetest.Dialects {
		b.Run(dialect, func(b *testing.B) {
			var well, silent time.Duration
			for b.Loop() {
				well += serveOthers(b, dialect, relaytest.ModePersistent)
				silent += serveOthers(b, dialect, relaytest.ModeSilent)
			}
			b.ReportMetric(float64(silent)/float64(well), "ratio")
			b.ReportMetric(well.Seconds()/float64(b.N), "s/well")
			b.ReportMetric(silent.Seconds()/float64(b.N), "s/silent")
		})
	}
}

// serveOthers is how long 49 gateways take for 40 actions each, on a session
// queue, beside one in mode that has as many.
func serveOthers(b *testing.B, dialect string, mode relaytest.Mode) time.Duration {
	const gateways, actions, pause = 50, 40, 50 * time.Millisecond
	w := newWorld(b, storetest.URL(b, dialect), inSessions, func(_ *world, g *relaytest.GatewayConfig) { g.Mode, g.RTT = mode, pause })
	w.gateways.AckTimeout = time.Minute
	w.consumer.Concurrency = gateways
	var others []action
	var messages []*azservicebus.Message
	for i := range gateways - 1 {
		name := fmt.Sprintf("gw-%02d", i)
		w.addSlowGateway(name, relaytest.ModePersistent, pause)
		for range actions {
			a := newCreate()
			others, messages = append(others, a), append(messages, a.messageTo(name))
		}
	}
	for range actions {
		messages = append(messages, newCreate().message())
	}
	w.send(messages...)
	began := time.Now()
	stop := w.run()
	w.until("the others are served", func() bool { return w.confirmedAtLeast(len(others)) })
	took := time.Since(began)
	if mode == relaytest.ModeSilent {
		w.gateway.SetMode(relaytest.ModeOffline) // so that nobody waits for it
	}
	stop()
	return took
}

func (w *world) confirmedAtLeast(n int) bool {
	w.t.Helper()
	counts, err := w.store.Counts(w.t.Context())
	w.must(err)
	return counts[store.Confirmed] >= n
}
