package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

// delivery is one message in hand, from receipt to settlement.
type delivery struct {
	consumer *Consumer
	from     settler
	message  *azservicebus.ReceivedMessage
	in       incoming
	invalid  *InvalidError // why the message can never be forwarded; nil: it can
	ref      store.Ref     // the claim, once there is one
	gateway  string        // the hybrid connection, once it is known
	marked   bool          // the row says sent for this attempt
	began    time.Time
	log      *slog.Logger
}

func (c *Consumer) handle(ctx context.Context, from settler, m *azservicebus.ReceivedMessage) {
	d := &delivery{consumer: c, from: from, message: m, began: c.now()}
	in, err := decode(m)
	errors.As(err, &d.invalid)
	d.in = in
	d.log = c.log().With("action_id", in.actionID, "action_type", in.actionType, "provider_id", in.providerID, "sequence_number", in.sequence)
	defer d.survive()
	if ctx.Err() != nil {
		d.abandon()
		return
	}
	if tooLate(m) {
		d.log.Warn("left to its lock, which ran out before work began; is this machine's clock right?", "locked_until", m.LockedUntil)
		return
	}
	d.see(ctx)
}

// see sees one action through, from claim to settlement: the whole service on
// one page. ctx ends with the service, and counts until the frame is written;
// nothing after is cut short.
func (d *delivery) see(ctx context.Context) {
	if d.invalid != nil {
		d.refuse(ctx)
		return
	}
	claim, err := d.consumer.Store.Claim(ctx, d.asClaimed())
	if err != nil {
		d.leave(ctx, fmt.Errorf("claim: %w", err))
		return
	}
	if claim.Verdict != store.Claimed {
		d.settle(d.unclaimed(claim)) // SQL knows the answer already, or another attempt is at work
		return
	}
	d.ref = store.Ref{ProviderID: d.in.providerID, ActionID: d.in.actionID, Attempt: claim.Attempt}

	lock := holdLock(d.from, d.message, d.log)
	defer lock.release() // a panic must not leave it renewing
	o, timings, err := d.try(ctx, claim)
	if err == nil {
		err = d.record(o, timings)
	}
	lock.release()
	if err != nil {
		d.leave(ctx, err)
		return
	}
	d.settle(o)
}

// try makes one attempt at the gateway: connect, mark sent, exchange. The error
// says that nothing was sent and that nothing is to be recorded either: the
// service is stopping, or SQL could not be asked.
func (d *delivery) try(ctx context.Context, claim store.Claim) (outcome, relay.Timings, error) {
	c := d.consumer
	route, stop, err := d.before(ctx, claim)
	if err != nil || stop != nil {
		return value(stop), relay.Timings{}, err
	}
	t := d.trial(claim)
	connection, err := c.Relay.Connect(ctx, route.hybridConnection, route.tokens)
	if ctx.Err() != nil {
		if err == nil {
			connection.Release()
		}
		return outcome{}, relay.Timings{}, ctx.Err()
	}
	if err != nil {
		t.err, t.now = err, c.now()
		return outcomeOf(t, c.Retry), relay.Timings{}, nil
	}
	defer connection.Release()

	err = d.mark()
	if errors.Is(err, store.ErrAccessionHeld) {
		return accessionHeld(), connection.Timings(), nil // two creates met, the other was first
	}
	if err != nil {
		return outcome{}, relay.Timings{}, fmt.Errorf("mark sent: %w", err)
	}
	d.marked = true
	t.ack, t.err = connection.Exchange(context.WithoutCancel(ctx), d.in.action)
	t.now = c.now()
	return outcomeOf(t, c.Retry), connection.Timings(), nil
}

// mark writes that the frame is about to be sent. It is not cut short by
// shutdown: a mark that was written and not noticed would be false evidence.
func (d *delivery) mark() error {
	ctx, cancel := context.WithTimeout(context.Background(), recordLimit)
	defer cancel()
	return d.consumer.Store.MarkSent(ctx, d.ref, d.gateway, d.consumer.sentLease())
}
