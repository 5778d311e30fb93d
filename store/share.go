package store

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/jmoiron/sqlx"
)

// sharing lets writes that wait at the same time share one transaction, and with
// it one commit to disk, which is most of what a write costs. It serves SQLite,
// where all wait for one connection. (For PostgreSQL there is [gathering].)
//
// The first to come leads: it waits for the connection, and then takes all that
// wait by then into its transaction, in order of arrival. The first to come after
// leads next. One that comes alone waits for nobody, and nothing runs in between.
//
// Each caller goes on only when the transaction with its own write is committed,
// as if it had been alone: a frame is sent because its mark is on the disk and
// a message settled because its outcome is, and neither may hang on a write
// of somebody else that is still to be committed, or may yet be taken back.
//
// Nobody is harmed by another's write. Where one fails or panics, or the commit
// fails, all are taken back and each is done again by its own caller, in a
// transaction of its own, whose error is that caller's alone. What a write
// merely finds out, that an attempt is stale or an accession number held, is no failure.
//
// A caller whose context ends before its write began is gone, and nothing of
// it was written. A write that has begun waits for nothing but the disk, and its
// caller with it: no context cuts it short, as the leader's would cut short
// all. Zero is ready.
type sharing struct {
	mu      sync.Mutex // guards what follows, and leads of each sharer
	waiting []*sharer  // in order of arrival; the first leads, unless a transaction is under way
	led     bool       // somebody leads
}

// mostShared bounds how long the writes of one transaction wait for each other.
const mostShared = 64

// work is what a write does in a transaction, given the context of its statements.
// It may be done twice, and begins from nothing both times. An error takes back all.
type work func(ctx context.Context, tx *sqlx.Tx) error

// sharer is a write that waits.
type sharer struct {
	ctx   context.Context
	do    work
	leads bool
	told  chan fate // has room for one

	args []any  // of a statement that is gathered, in place of do
	key  string // no two of a batch have the same; "": they may
}

// fate is what a write that waited is told.
type fate int

const (
	leads     fate = iota + 1 // it is the first now
	committed                 // it is done
	alone                     // nothing was written: do it alone
)

// share does a write of a delivery, together with others where the database gains by it.
func (s *Store) share(ctx context.Context, do work) error {
	if !s.dialect.shares {
		return s.alone(ctx, do)
	}
	w := &sharer{ctx: ctx, do: do}
	if s.sharing.join(w) {
		return s.lead(w)
	}
	switch told, err := s.sharing.await(w); {
	case err != nil:
		return err
	case told == leads:
		return s.lead(w)
	case told == alone:
		return s.alone(ctx, do)
	}
	return nil
}

// alone does a write in a transaction of its own.
func (s *Store) alone(ctx context.Context, do work) error {
	return s.write(ctx, func(tx *sqlx.Tx) error { return do(ctx, tx) })
}

// lead begins a transaction and does w and all that wait by then.
func (s *Store) lead(w *sharer) error {
	defer s.sharing.leave(w) // unless it has begun
	begun, cancel := context.WithCancel(context.WithoutCancel(w.ctx))
	defer cancel()
	lasts := context.AfterFunc(w.ctx, cancel)
	tx, err := s.db.BeginTxx(begun, nil)
	if !lasts() { // it ended, or nearly: from here on it must not
		err = errors.Join(w.ctx.Err(), rollback(tx))
	}
	if err != nil {
		return err
	}
	batch := s.sharing.take()
	if err := s.together(tx, batch); err == nil || len(batch) == 1 {
		return err
	}
	return s.alone(w.ctx, w.do)
}

var errPanicked = errors.New("a write panicked")

// together does the writes of a batch in tx and commits them, all or none.
func (s *Store) together(tx *sqlx.Tx, batch []*sharer) (err error) {
	others := alone
	defer func() {
		if len(batch) > 1 && recover() != nil {
			err = errPanicked // in its own caller, when that does it alone
		}
		_ = rollback(tx) // unless committed; err says more
		s.sharing.end(batch[1:], others)
	}()
	for _, w := range batch {
		if err := w.do(context.WithoutCancel(w.ctx), tx); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	others = committed
	return nil
}

// join reports whether w leads at once.
func (q *sharing) join(w *sharer) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, w)
	if q.led {
		w.told = make(chan fate, 1)
		return false
	}
	q.led, w.leads = true, true
	return true
}

// await waits until w is told something, or its context ends before it began.
func (q *sharing) await(w *sharer) (fate, error) {
	select {
	case told := <-w.told:
		return told, nil
	case <-w.ctx.Done():
		if q.leave(w) {
			return 0, w.ctx.Err()
		}
		return <-w.told, nil
	}
}

// leave takes out a write that has not begun, and reports whether it had not.
func (q *sharing) leave(w *sharer) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.waiting {
		if q.waiting[i] == w {
			q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
			if w.leads {
				q.pass()
			}
			return true
		}
	}
	return false
}

// take begins the leader's write and those that wait behind it.
func (q *sharing) take() (batch []*sharer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var left []*sharer
	for i, w := range q.waiting {
		if i == 0 || len(batch) < mostShared && w.ctx.Err() == nil && !w.among(batch) {
			batch = append(batch, w)
		} else {
			left = append(left, w)
		}
	}
	q.waiting = left
	return batch
}

// among reports whether one of the batch has w's key.
func (w *sharer) among(batch []*sharer) bool {
	return w.key != "" && slices.ContainsFunc(batch, func(other *sharer) bool { return other.key == w.key })
}

// end lets the next one lead, and tells those that did not what became of theirs.
func (q *sharing) end(others []*sharer, told fate) {
	q.mu.Lock()
	q.pass()
	q.mu.Unlock()
	for _, w := range others {
		w.told <- told
	}
}

// pass makes the first that waits the leader. mu is held.
func (q *sharing) pass() {
	q.led = len(q.waiting) > 0
	if q.led {
		next := q.waiting[0]
		next.leads = true
		next.told <- leads
	}
}
