package consumer

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/worklist-relay/worklist-relay/store"
)

// standingReader reads from SQL what metrics tell of it, now and then, so that
// nobody who asks for metrics waits for a database.
type standingReader struct {
	consumer *Consumer
	last     atomic.Pointer[looked] // nil before the first look
}

// looked is one look at SQL.
type looked struct {
	at        time.Time
	standings []store.Standing
	owed      int
	err       error // the database did not answer, and nothing else is known
}

// age is that of the oldest action that waits; 0: none does.
func age(s store.Standing, now time.Time) time.Duration {
	if s.Oldest == nil {
		return 0
	}
	return max(0, now.Sub(*s.Oldest))
}

func (r *standingReader) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			if now := r.look(ctx); ctx.Err() == nil {
				r.last.Store(now)
			}
			pause(ctx, r.consumer.waits().StandingInterval)
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

func (r *standingReader) look(ctx context.Context) *looked {
	ctx, cancel := context.WithTimeout(ctx, r.consumer.waits().StandingLimit)
	defer cancel()
	standings, err := r.consumer.Store.Standings(ctx)
	if err != nil {
		return &looked{at: time.Now(), err: err}
	}
	owed, err := r.consumer.Store.CountOutcomesOwed(ctx)
	return &looked{time.Now(), standings, owed, err}
}
