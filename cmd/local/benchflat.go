package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storefill"
)

const (
	fewRows   = 1_000
	mostRows  = 1_000_000
	flatTurns = 2_000 // good actions among each
)

// benchFlat is what of measure 10 is time: that of a good action's SQL must not
// grow with the past.
func (b *bench) benchFlat(ctx context.Context) error {
	for _, database := range b.databases() {
		rows, n := b.scaled(mostRows), b.scaled(flatTurns)
		few, many, err := amongRows(ctx, database.url, [2]int{fewRows, rows}, n)
		if err != nil {
			return err
		}
		b.add(reported(fmt.Sprintf("10 SQL of an action among %d, %s", rows, database.name), micros(many, 1), "us",
			fmt.Sprintf("claim, mark and record of %d good actions, one at a time, in turn among so many rows and among %d: the median", n, fewRows)).
			against(micros(few, 1)).atMost(1.1))
	}
	return nil
}

// amongRows is the median time of the SQL of n good actions in a database with as
// many ended ones as the first of rows says, and as the second. They take turns, so that what else the
// machine does is the same to both.
func amongRows(ctx context.Context, url string, rows [2]int, n int) (few, many time.Duration, err error) {
	var stores []*store.Store
	for _, rows := range rows {
		scene, failed := newBenchScene(ctx, url, false, false, nil)
		if failed != nil {
			return 0, 0, failed
		}
		defer closing(scene, &err)
		if err := storefill.Fill(ctx, scene.databaseURL, rows); err != nil {
			return 0, 0, err
		}
		stores = append(stores, scene.store)
	}
	took := make([][]time.Duration, len(stores))
	for turn := range n {
		for i := range stores {
			i = (i + turn) % len(stores)
			began := time.Now()
			if err := write(ctx, stores[i], int64(turn)); err != nil {
				return 0, 0, err
			}
			took[i] = append(took[i], time.Since(began))
		}
	}
	return median(took[0]), median(took[1]), nil
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
