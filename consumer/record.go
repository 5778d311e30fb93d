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

const (
	recordLimit = 30 * time.Second       // how long an outcome is offered to a database that is away
	recordRetry = 500 * time.Millisecond // between two offers

	mostPanics = 3 // deliveries of one message that may panic
)

// record writes the outcome down. An ack was read or a failure seen, whatever
// the service is told meanwhile, so this does not end with it: it tries for as
// long as the lock can be held.
func (d *delivery) record(o outcome, timings relay.Timings) error {
	ctx, cancel := context.WithTimeout(context.Background(), recordLimit)
	defer cancel()
	row := d.asOutcome(o, timings)
	for {
		err := d.consumer.Store.Record(ctx, row)
		if err == nil || !store.Unavailable(err) || ctx.Err() != nil {
			if err != nil {
				return fmt.Errorf("record: %w", err)
			}
			return nil
		}
		d.consumer.storeAway.Store(true)
		pause(ctx, recordRetry)
	}
}

func (d *delivery) asOutcome(o outcome, timings relay.Timings) store.Outcome {
	row := store.Outcome{
		Ref: d.ref, SequenceNumber: d.in.sequence,
		Status: o.status, Settlement: o.settlement, Reason: string(o.reason), Description: cutTo(o.detail, maxDescription),
		Phase: string(o.phase), Error: cutTo(o.detail, maxDescription), Code: o.code, NextRetryAt: o.due,
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
	description := cutTo(d.invalid.Error(), maxDescription)
	if d.in.actionID != "" {
		err := d.consumer.Store.RecordInvalid(ctx, store.Invalid{
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
// by what SQL says then. Only when the service stops, or the attempt certainly
// came to nothing, is the claim given up first.
func (d *delivery) leave(ctx context.Context, err error) {
	if store.Unavailable(err) && ctx.Err() == nil {
		d.consumer.storeAway.Store(true)
		d.log.Warn("left to its lock: the database is away", "error", err)
		return
	}
	if d.ref.Attempt != 0 && !d.marked {
		d.unclaim()
	}
	if ctx.Err() != nil && !d.marked {
		d.abandon()
		return
	}
	d.log.Warn("left to its lock", "error", err)
}

// unclaim lets the next delivery begin at once, not when the lease ends.
func (d *delivery) unclaim() {
	ctx, cancel := context.WithTimeout(context.Background(), settleDeadline)
	defer cancel()
	if err := d.consumer.Store.Release(ctx, d.ref); err != nil && !errors.Is(err, store.ErrStale) {
		d.log.Warn("claim not released, its lease will end", "error", err)
	}
}

// survive keeps one message's panic from the others. The message is given
// back, and dead-lettered when it has done so often enough.
func (d *delivery) survive() {
	p := recover()
	if p == nil {
		return
	}
	// The value is not logged: it could quote what was being worked on.
	d.log.Error("panic while handling a message", "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
	if d.message.DeliveryCount < mostPanics {
		if d.ref.Attempt != 0 && !d.marked {
			d.unclaim()
		}
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
			return
		}
	}
	d.settle(o)
}
