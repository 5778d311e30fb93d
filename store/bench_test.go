package store_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// BenchmarkAction is the whole of a good action: claim, mark, record.
func BenchmarkAction(b *testing.B) {
	for _, dialect := range storetest.Dialects {
		for _, deliveries := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/%d", dialect, deliveries), func(b *testing.B) {
				f := open(b, storetest.URL(b, dialect))
				var n atomic.Int64
				b.SetParallelism(deliveries)
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						i := n.Add(1)
						d := message(fmt.Sprintf("00000000-0000-4000-8000-%012d", i), i)
						d.AccessionNumber = fmt.Sprint("ACC", i)
						o := confirmed(f.claim(d, store.Claimed).Ref(), i)
						f.mark(o.Ref)
						f.record(o)
					}
				})
			})
		}
	}
}
