package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/store"
)

func TestTraffic(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	each(t, func(t *testing.T, f fixture) {
		for provider, path := range map[string]string{"leeds": "HC-Leeds", "hull": "hc-hull", "york": "hc-hull"} {
			r := store.Relay{ProviderID: provider, Namespace: "NS.servicebus.windows.net", HybridConnection: path}
			if err := f.AddRelay(ctx, r, by); err != nil {
				t.Fatal(err)
			}
		}
		nth := func(n int) store.Delivery {
			d := withAccession(message(fmt.Sprintf("11111111-1111-4111-8111-%012d", n), int64(n)), fmt.Sprint("SYN", n))
			return d
		}
		f.run(nth(500), confirmed) // too long ago
		since := f.clock.advance(time.Hour)
		for n := 1; n <= 200; n++ {
			f.run(nth(n), func(ref store.Ref, sequence int64) store.Outcome {
				o := confirmed(ref, sequence)
				o.Timings.Ack = time.Duration(n) * time.Millisecond
				return o
			})
		}
		f.run(nth(201), timedOut)
		f.claim(nth(202), store.Claimed)
		other := nth(203)
		other.ProviderID = "york"
		f.claim(other, store.Claimed)

		traffic, err := f.Traffic(ctx, since)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "traffic", traffic, map[string]store.Traffic{
			gateway:                             {Relay: gateway, Waiting: 2, Tries: 201, Confirmed: 200, AckP50: 100 * time.Millisecond, AckP99: 198 * time.Millisecond},
			"ns.servicebus.windows.net/hc-hull": {Relay: "ns.servicebus.windows.net/hc-hull", Waiting: 1},
		})
	})
}
