package consumer_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// BenchmarkActions measures an action's whole way, from the queue to its settlement,
// at 16 gateways that answer at once over the connections they keep. What is
// reported is of the whole process, the servers for tests included.
func BenchmarkActions(b *testing.B) {
	for _, dialect := range storetest.Dialects {
		for _, kind := range []string{"plain", "sessions"} {
			b.Run(dialect+"/"+kind, func(b *testing.B) {
				w := newFleet(b, dialect, fleet{gateways: 16, sessions: kind == "sessions", mode: relaytest.ModePersistent})
				w.enqueueActions(b.N)
				b.ReportAllocs()
				b.ResetTimer()
				used := cpu(b)
				stop := w.run()
				w.drained()
				b.StopTimer()
				b.ReportMetric(float64((cpu(b)-used).Microseconds())/float64(b.N), "cpu-µs/op")
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "actions/s")
				stop()
			})
		}
	}
}

// BenchmarkMakespan measures what the service adds to the time that 50 gateways
// need for 50 actions each when each pauses 100 ms before an ack: ratio is its time
// over that of a bare loop for each gateway, 1 being no cost at all.
func BenchmarkMakespan(b *testing.B) {
	const gateways, actions, pause = 50, 50, 100 * time.Millisecond
	for _, dialect := range storetest.Dialects {
		for _, mode := range []relaytest.Mode{relaytest.ModePersistent, ""} {
			b.Run(dialect+"/"+string(mode), func(b *testing.B) {
				var bare, ours time.Duration
				for b.Loop() {
					w := newFleet(b, dialect, fleet{gateways: gateways, sessions: true, mode: mode, pause: pause})
					bare += w.bareExchanges(actions)
					w.enqueueActions(gateways * actions)
					began := time.Now()
					stop := w.run()
					w.until("all are confirmed", func() bool { return w.confirmedAtLeast(gateways * actions) })
					ours += time.Since(began)
					stop()
				}
				b.ReportMetric(float64(ours)/float64(bare), "ratio")
				b.ReportMetric(bare.Seconds()/float64(b.N), "s/bare")
				b.ReportMetric(ours.Seconds()/float64(b.N), "s/ours")
			})
		}
	}
}

// fleet is what a benchmark's gateways are like.
type fleet struct {
	gateways int
	sessions bool
	mode     relaytest.Mode
	pause    time.Duration
}

// fleetWorld is a world with many gateways and no trace of what passed, run as
// production runs without an exporter of spans.
type fleetWorld struct {
	*world
	names []string
}

func newFleet(b *testing.B, dialect string, f fleet) *fleetWorld {
	w := &fleetWorld{world: newWorld(b, storetest.URL(b, dialect), func(w *world, _ *relaytest.GatewayConfig) {
		w.sessions, w.lock = f.sessions, time.Minute
		w.consumer.Concurrency = max(16, f.gateways)
		w.consumer.Log = slog.New(slog.NewJSONHandler(io.Discard, nil))
		w.consumer.Metrics = sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
		w.consumer.Traces = nil
		w.gateways.AckTimeout = time.Minute
	})}
	for i := range f.gateways {
		name := fmt.Sprintf("gw-%02d", i)
		w.addGatewayLike(relaytest.GatewayConfig{Name: name, Mode: f.mode, RTT: f.pause, DiscardFrames: true})
		w.names = append(w.names, name)
	}
	return w
}

// enqueueActions sends n creates, to one gateway after the other.
func (w *fleetWorld) enqueueActions(n int) {
	messages := make([]*azservicebus.Message, n)
	for i := range messages {
		messages[i] = newCreate().messageTo(w.names[i%len(w.names)])
	}
	w.send(messages...)
}

// bareExchanges is how long the gateways take for n creates each when nothing
// but the relay's client is between, without a watch.
func (w *fleetWorld) bareExchanges(n int) time.Duration {
	client := &relay.Client{PlainHosts: []string{w.relay.Addr()}, WatchTime: -1}
	defer client.Close()
	tokens := relay.SharedAccessKey(sendKey.Name, sendKey.Key)
	began := time.Now()
	var running sync.WaitGroup
	for _, name := range w.names {
		running.Go(func() {
			for range n {
				a := newCreate()
				conn, err := client.Connect(context.Background(), relay.HybridConnection{Namespace: w.relay.Addr(), Path: name}, tokens)
				if err != nil {
					w.t.Error(err)
					return
				}
				_, err = conn.Exchange(context.Background(), relay.NewAction(a.body(), a.id(), "worklist.create_item", a.accession()))
				conn.Release()
				w.check(err)
			}
		})
	}
	running.Wait()
	return time.Since(began)
}

// cpu is the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
