package consumer

import (
	"fmt"
	"sync/atomic"
	"time"
)

// pulse is one loop's promise of when it will have turned again. The zero value
// has promised nothing. It is safe for concurrent use.
type pulse struct{ by atomic.Int64 } // Unix nanoseconds

func (p *pulse) promise(by time.Time) { p.by.Store(by.UnixNano()) }

// ended takes the promise back: the loop turns no more, and is not to.
func (p *pulse) ended() { p.by.Store(0) }

// check is an error once the promise is broken.
func (p *pulse) check(loop string, now time.Time) error {
	by := p.by.Load()
	if by == 0 || now.UnixNano() <= by {
		return nil
	}
	return fmt.Errorf("%s: should have gone on by %s, and did not", loop, time.Unix(0, by).UTC().Format(time.RFC3339))
}

// turned notes that receiving goes on: the loop that receives went round, or
// something that it may wait for did. Every wait of the loop ends by itself, so
// only a call that ignores its context, or a deadlock, breaks the promise.
func (c *Consumer) turned() { c.turning.promise(c.now().Add(c.stuckAfter())) }

// stuckAfter is far beyond the slowest delivery: two dials, two acks, record and
// settlement.
func (c *Consumer) stuckAfter() time.Duration {
	return orDefault(c.StuckAfter, max(10*time.Minute, 3*c.sentLease()))
}

// Alive reports whether the loops of Run still turn: nil, or an error naming one
// that is stuck, which only a new process mends. What broker, database or gateways
// do has no part in it. It is nil before Run and after. It is safe for concurrent use.
func (c *Consumer) Alive() error {
	now := c.now()
	if err := c.turning.check("receiving", now); err != nil {
		return err
	}
	return c.telling.check("telling outcomes", now)
}
