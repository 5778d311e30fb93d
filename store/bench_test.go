package store_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storefill"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// BenchmarkAction is the whole of a good action: claim, mark, record. The number
// in a name is how many callers there are at once.
func BenchmarkAction(b *testing.B) {
	for _, dialect := range storetest.Dialects {
		for _, callers := range []int{1, 16, 50} {
			b.Run(fmt.Sprintf("%s/%d", dialect, callers), func(b *testing.B) {
				f := open(b, storetest.URL(b, dialect))
				var next atomic.Int64
				var wait sync.WaitGroup
				b.ReportAllocs()
				b.ResetTimer()
				for range callers {
					wait.Go(func() {
						for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
							f.goodAction(fmt.Sprintf("00000000-0000-4000-8000-%012d", i), i)
						}
					})
				}
				wait.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "actions/s")
			})
		}
	}
}

func (f fixture) goodAction(id string, sequence int64) {
	d := message(id, sequence)
	d.AccessionNumber = fmt.Sprint("ACC", sequence)
	o := confirmed(f.claim(d, store.Claimed).Ref(), sequence)
	f.mark(o.Ref)
	f.record(o)
}

// BenchmarkActionAmongRows is a good action among a thousand rows and among a
// million, in turn, so that what else the machine does is the same to both. Its
// iteration is one of each. ratio is how much the second costs for each 1 that
// the first does: in the middle of all, and in sum, which counts the rare dear
// ones too. To fill a million rows takes a minute.
//
//	go test ./store -run '^$' -bench ActionAmongRows -benchtime 3000x
func BenchmarkActionAmongRows(b *testing.B) {
	for _, dialect := range storetest.Dialects {
		b.Run(dialect, func(b *testing.B) {
			among := []fixture{filled(b, dialect, 1000), filled(b, dialect, 1_000_000)}
			took := make([][]time.Duration, len(among))
			for n := int64(0); b.Loop(); n++ {
				for i := range among {
					i = (i + int(n)) % len(among)
					id := uuid()
					begin := time.Now()
					among[i].goodAction(id, n)
					took[i] = append(took[i], time.Since(begin))
				}
			}
			few, many := median(took[0]), median(took[1])
			b.ReportMetric(float64(few.Microseconds()), "µs/action@1k")
			b.ReportMetric(float64(many.Microseconds()), "µs/action@1M")
			b.ReportMetric(float64(many)/float64(few), "ratio")
			b.ReportMetric(float64(sum(took[1]))/float64(sum(took[0])), "ratio-of-sums")
		})
	}
}

// filled is a store with so many actions that have ended.
func filled(b *testing.B, dialect string, rows int) fixture {
	b.Helper()
	f := open(b, storetest.URL(b, dialect))
	f.clock.advance(time.Since(start))
	if err := storefill.Fill(context.Background(), f.url, rows); err != nil {
		b.Fatal(err)
	}
	return f
}

// uuid is random, as the ids of actions are: each lands elsewhere in an index.
func uuid() string {
	var r [16]byte
	_, _ = rand.Read(r[:]) // never fails
	r[6], r[8] = r[6]&0x0f|0x40, r[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", r[:4], r[4:6], r[6:8], r[8:10], r[10:])
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

func sum(all []time.Duration) (s time.Duration) {
	for _, d := range all {
		s += d
	}
	return s
}
