package consumer_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// BenchmarkListDeadLetters lists the whole dead-letter queue. peak-heap-B is how
// much the heap grew at most beyond what the queue itself holds: it does not grow
// with the number of dead letters.
func BenchmarkListDeadLetters(b *testing.B) {
	for _, many := range []int{1_000, 10_000} {
		b.Run(fmt.Sprint(many), func(b *testing.B) {
			w := newWorld(b, storetest.URL(b, "sqlite"))
			w.buryMany(many, provider)
			grown := uint64(0)
			for b.Loop() {
				before, n := heap(), 0
				w.must(w.dead().Each(context.Background(), consumer.DeadLetterFilter{}, func(consumer.DeadLetter) error {
					if n++; n%200 == 0 {
						now := heap()
						grown = max(grown, now-min(before, now))
					}
					return nil
				}))
				if n != many {
					b.Fatalf("%d of %d were listed", n, many)
				}
			}
			b.ReportMetric(float64(grown), "peak-heap-B")
			w.clear()
		})
	}
}

// heap is how much of it is in use, what is garbage not counted.
func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
