package consumer

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

// mostPanics is how many deliveries of one message may panic.
const mostPanics = 3

// mark writes that the frame is about to be sent. It is not cut short by
// shutdown, and it is offered again where its answer was lost: a mark that was
// written and not noticed would be false evidence. Its limit is short, since an
// open rendezvous keeps everybody else from the gateway.
func (d *delivery) mark() error {
	c, done := d.consumer, d.step("mark")
	err := d.offer(c.waits().MarkLimit, func(ctx context.Context) error {
		return c.Store.MarkSent(ctx, d.ref, d.gateway, c.sentLease())
	})
	done(err)
	return err
}

// unmarked is the outcome of an attempt whose mark got no answer: nothing was
// sent, whatever the row may say by now.
func unmarked(t trial, c *Consumer) outcome {
	t.now = c.now()
	return outcome{
		phase: relay.PhaseRecord, sent: relay.SentNo, attempted: true, detail: "the database did not answer before the frame was sent",
	}.retried(t, c.Retry)
}

// record writes the outcome down. An ack was read or a failure seen, whatever
// the service is told meanwhile, so this does not end with it: it tries for as
// long as the lock can be held.
func (d *delivery) record(o outcome, timings relay.Timings) error {
	row, done := d.asOutcome(o, timings), d.step("record")
	err := d.offer(d.consumer.waits().RecordLimit, func(ctx context.Context) error { return d.consumer.Store.Record(ctx, row) })
	done(err)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

// offer writes to a database that may be away, again and again within limit.
// The write must be harmless when it is made twice.
func (d *delivery) offer(limit time.Duration, write func(context.Context) error) error {
	end := time.Now().Add(limit)
	for {
		err := func() error {
			once, cancel := context.WithTimeout(context.Background(), min(limit/2, d.consumer.waits().StoreLimit, time.Until(end)))
			defer cancel()
			return write(once)
		}()
		if !store.Unavailable(err) || !time.Now().Before(end) {
			return err
		}
		d.consumer.storeAway.Store(true)
		pause(context.Background(), min(d.consumer.waits().RecordRetry, time.Until(end)))
	}
}

func (d *delivery) asOutcome(o outcome, timings relay.Timings) store.Outcome {
	row := store.Outcome{
		Ref: d.ref, SequenceNumber: d.in.standsFor,
		Status: o.status, Settlement: o.settlement, Reason: string(o.reason), Description: o.detail,
		Phase: string(o.phase), Error: o.detail, Code: o.code, NextRetryAt: o.due,
		Sent: string(o.sent), Answered: o.answered, Duplicate: o.duplicate, Spent: o.attempted,
	}
	if o.attempted {
		row.Relay = d.gateway
		row.Timings = store.Timings(timings)
	}
	return row
}

// refuse dead-letters a message that can never be forwarded; the row, where the
// action can be named, is written first.
func (d *delivery) refuse(ctx context.Context) {
	description := d.invalid.Error()
	if d.in.actionID != "" {
		asking, cancel := context.WithTimeout(ctx, d.consumer.waits().StoreLimit)
		defer cancel()
		err := d.consumer.Store.RecordInvalid(asking, store.Invalid{
			ActionID: d.in.actionID, ActionType: d.in.actionType,
			ProviderID: d.in.providerID, SettingID: d.in.settingID, AccessionNumber: d.in.accession,
			Reason: string(d.invalid.Reason), Description: description,
			SequenceNumber: d.in.original, EnqueuedAt: d.in.enqueued,
		})
		if err != nil {
			d.leave(ctx, fmt.Errorf("record: %w", err))
			return
		}
	}
	d.settle(refused(d.invalid.Reason, description))
}

// leave does not settle: the lock runs out, and the next delivery is answered
// by what SQL says then. The claim is given up first, if SQL can be told, so
// that the next delivery need not wait for the lease.
func (d *delivery) leave(ctx context.Context, err error) {
	if store.Unavailable(err) && ctx.Err() == nil {
		d.consumer.storeAway.Store(true)
		d.log.Warn("left to its lock: the database is away", "error", err)
		d.left = true
		return
	}
	d.unclaim()
	if ctx.Err() != nil && !d.marked {
		d.handBack()
		return
	}
	d.log.Warn("left to its lock", "error", err)
	d.left = true
}

// unclaim lets the next delivery begin at once, not when the lease ends. What
// may have been sent stays as evidence.
func (d *delivery) unclaim() {
	if d.ref.Attempt == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.consumer.waits().SettleDeadline)
	defer cancel()
	giveUp := d.consumer.Store.Release
	if d.marked {
		giveUp = d.consumer.Store.Abandon
	}
	if err := giveUp(ctx, d.ref); err != nil && !errors.Is(err, store.ErrStale) {
		d.log.Warn("claim not given up, its lease will end", "error", err)
	}
}

// survive keeps one message's panic from the others. The message is given
// back, and dead-lettered when it has panicked often enough, or may have been
// sent: another try would send it again.
func (d *delivery) survive() {
	p := recover()
	if p == nil {
		return
	}
	// The value is not logged: it could quote what was being worked on.
	total := d.consumer.panics.Add(1)
	d.log.Error("panic while handling a message", "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()), "so_far", total)
	if d.message.DeliveryCount < mostPanics && !d.marked {
		d.unclaim()
		d.abandon()
		return
	}
	o := refused(ReasonInternalError, "this service panicked on the message, see its log")
	if d.ref.Attempt != 0 {
		if d.marked {
			o.sent = relay.SentMaybe
		}
		if err := d.record(o, relay.Timings{}); err != nil {
			d.log.Error("left to its lock", "error", err)
			d.left = true
			return
		}
	}
	d.settle(o)
}
