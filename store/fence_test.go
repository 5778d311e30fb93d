package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// world is one action and whoever ever claimed it, each of whom may write at
// any later moment: replicas that lost their lock do.
type world struct {
	fixture
	id       string
	claims   []store.Claim
	messages []store.Delivery // on the queue, delivered in any order and any number of times
	marked   map[int]bool     // attempts that MarkSent allowed
	mended   map[int]bool     // attempts recorded as certainly without effect, or answered
	final    bool             // seen confirmed
}

// TestFenceHolds plays random interleavings of deliveries of one action.
func TestFenceHolds(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		f, run := open(t, url), 0
		rapid.Check(t, func(r *rapid.T) {
			run++
			w := &world{
				fixture: fixture{f.Store, r, f.clock, url}, id: fmt.Sprintf("00000000-0000-4000-8000-%012d", run),
				marked: map[int]bool{}, mended: map[int]bool{},
			}
			d := message(w.id, 1)
			d.AccessionNumber = w.id
			w.messages = []store.Delivery{d}
			r.Repeat(map[string]func(*rapid.T){
				"deliver": w.deliver, "mark": w.mark, "record": w.record, "release": w.release, "abandon": w.abandon, "wait": w.wait, "": w.check,
			})
		})
	})
}

func (w *world) now() time.Time { return w.clock.now() }

func (w *world) deliver(r *rapid.T) {
	d := rapid.SampledFrom(w.messages).Draw(r, "message")
	before, known := w.row()
	c, err := w.Claim(context.Background(), d)
	if err != nil {
		r.Fatal(err)
	}
	if c.Verdict != store.Claimed {
		return
	}
	if known && before.ClaimedUntil != nil && before.ClaimedUntil.After(w.now()) {
		r.Fatalf("attempt %d was claimed while %d lived", c.Attempt, before.Attempt)
	}
	if known && c.Attempt <= before.Attempt {
		r.Fatalf("attempt %d after %d", c.Attempt, before.Attempt)
	}
	w.claims = append(w.claims, c)
}

// holder draws any claim ever given; nil before the first.
func (w *world) holder(r *rapid.T) *store.Claim {
	if len(w.claims) == 0 {
		return nil
	}
	return &w.claims[rapid.IntRange(0, len(w.claims)-1).Draw(r, "claim")]
}

func (w *world) mark(r *rapid.T) {
	c := w.holder(r)
	if c == nil {
		return
	}
	before, _ := w.row()
	switch err := w.MarkSent(context.Background(), c.Ref(), gateway, lease); {
	case err == nil:
		w.marked[c.Attempt] = true
		if before.Attempt != c.Attempt || before.ClaimedUntil == nil {
			r.Fatalf("attempt %d was marked in a row of attempt %d", c.Attempt, before.Attempt)
		}
	case !errors.Is(err, store.ErrStale):
		r.Fatal(err)
	}
}

func (w *world) record(r *rapid.T) {
	c := w.holder(r)
	if c == nil {
		return
	}
	d := rapid.SampledFrom(w.messages).Draw(r, "message")
	kinds := []func(store.Ref, int64) store.Outcome{confirmed, timedOut, postponed, expired, noListener}
	if w.marked[c.Attempt] {
		kinds = kinds[:2] // an honest sender does not say "no" after the frame
	}
	o := rapid.SampledFrom(kinds).Draw(r, "outcome")(c.Ref(), d.SequenceNumber)
	if o.Settlement == store.Retry || o.Settlement == store.Postpone {
		o.NextRetryAt = w.now().Add(5 * time.Second)
	}
	before, _ := w.row()
	err := w.Record(context.Background(), o)
	own := before.Attempt == c.Attempt && before.ClaimedUntil != nil
	switch {
	case err == nil && o.Status == store.Confirmed:
		w.mended[c.Attempt] = true
	case err == nil && own:
		w.messages = append(w.messages, copyOf(d, int64(len(w.messages)+1)))
	case err == nil && before.Status != o.Status:
		r.Fatalf("stale attempt %d turned %s to %s", c.Attempt, before.Status, o.Status)
	case err != nil && (own || !errors.Is(err, store.ErrStale)):
		r.Fatal(err)
	}
}

func (w *world) release(r *rapid.T) {
	c := w.holder(r)
	if c == nil {
		return
	}
	if err := w.Release(context.Background(), c.Ref()); err != nil && !errors.Is(err, store.ErrStale) {
		r.Fatal(err)
	} else if err == nil && w.marked[c.Attempt] {
		r.Fatalf("attempt %d was released after its mark", c.Attempt)
	}
}

func (w *world) abandon(r *rapid.T) {
	c := w.holder(r)
	if c == nil {
		return
	}
	before, _ := w.row()
	err := w.Abandon(context.Background(), c.Ref())
	if own := before.Attempt == c.Attempt && before.ClaimedUntil != nil; (err == nil) != own || (err != nil && !errors.Is(err, store.ErrStale)) {
		r.Fatalf("attempt %d of %d: abandon: %v", c.Attempt, before.Attempt, err)
	}
}

func (w *world) wait(r *rapid.T) {
	w.clock.advance(rapid.SampledFrom([]time.Duration{time.Second, 5 * time.Second, lease, 11 * time.Minute}).Draw(r, "time"))
}

func (w *world) row() (store.Action, bool) {
	a, _, _, err := w.Action(context.Background(), provider, w.id)
	return a, err == nil
}

// check holds after every step.
func (w *world) check(r *rapid.T) {
	a, attempts, _, err := w.Action(context.Background(), provider, w.id)
	if errors.Is(err, store.ErrNoAction) {
		return
	}
	if err != nil {
		r.Fatal(err)
	}
	if w.final && a.Status != store.Confirmed {
		r.Fatalf("confirmed became %s", a.Status)
	}
	w.final = a.Status == store.Confirmed
	evidence := map[int]bool{}
	for _, attempt := range attempts {
		evidence[attempt.Attempt] = attempt.SentAt != nil && attempt.Sent == store.SentMaybe && !attempt.Answered
	}
	for n := range w.marked {
		open := a.Attempt == n && a.AttemptSentAt != nil
		if !w.mended[n] && !evidence[n] && !open {
			r.Fatalf("attempt %d was marked sent and left no evidence", n)
		}
		if a.SentAt == nil || !a.HoldsAccession {
			r.Fatalf("attempt %d was marked sent and the row forgot", n)
		}
	}
}
