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
	lock     renewable // the message's, or its session's
	session  *session  // it came in; nil: in none
	message  *azservicebus.ReceivedMessage
	in       incoming
	invalid  *InvalidError // why the message can never be forwarded; nil: it can
	panicked any           // what decoding panicked with, for handle to deal with
	ref      store.Ref     // the claim, once there is one
	gateway  string        // the hybrid connection, once it is known
	tried    *gateway      // which is, or was, tried; nil: none
	marked   bool          // the row says sent for this attempt
	began    time.Time
	log      *slog.Logger

	lost      bool // the lock is gone
	left      bool // not settled: the lock runs out
	unsettled bool // settling it failed: the next delivery is settled

	turn    <-chan struct{} // closed when the message before it, of the same accession number, has claimed
	claimed <-chan struct{} // closed when this one has, or has ended
	pass    func()          // closes claimed

	watch // what is measured of it
}

// take makes a delivery of a received message. It is called in the order of
// the queue, which the claims of one accession number then keep.
func (c *Consumer) take(from settler, lock renewable, m *azservicebus.ReceivedMessage) (d *delivery) {
	d = &delivery{consumer: c, from: c.timed(from), lock: lock, message: m, began: c.now(), log: c.log(), watch: watch{received: time.Now()}}
	defer func() {
		d.panicked = recover()
		d.turn, d.claimed, d.pass = c.turns.take(d.in.providerID, d.in.accession)
	}()
	in, err := decode(m)
	errors.As(err, &d.invalid)
	d.in = in
	d.log = d.log.With("action_id", in.actionID, "action_type", in.actionType, "provider_id", in.providerID, "sequence_number", in.sequence)
	return d
}

func (d *delivery) handle(ctx context.Context) {
	defer d.consumer.turned() // whoever waits for a slot, or for the rest of a client's work, gets on
	defer d.watched()()
	defer d.pass()
	defer d.survive()
	if d.panicked != nil {
		panic(d.panicked)
	}
	if ctx.Err() != nil {
		d.handBack()
		return
	}
	if tooLate(d.lock) {
		d.log.Warn("left to its lock, which ran out before work began; is this machine's clock right?", "locked_until", d.lock.until())
		d.left = true
		return
	}
	d.see(ctx)
	if d.tried != nil {
		d.tried.save(ctx)
	}
}

// see sees one action through, from claim to settlement: the whole service on
// one page. ctx ends with the service, and counts until the frame is written;
// nothing after is cut short.
func (d *delivery) see(ctx context.Context) {
	if d.invalid != nil {
		d.refuse(ctx)
		return
	}
	claim, err := d.claim(ctx)
	if err != nil {
		d.leave(ctx, err)
		return
	}
	if claim.Verdict != store.Claimed {
		d.settle(d.unclaimed(claim)) // SQL knows the answer already, or another attempt is at work
		return
	}
	d.ref = claim.Ref()

	lock := holdLock(ctx, d.lock, d.log)
	defer lock.release() // a panic must not leave it renewing
	o, timings, err := d.try(lock.working, claim)
	d.measure(o, timings)
	if err == nil && (!lock.lost() || o.answered) {
		// From the lost side an ack counts, and a failure does not: another
		// delivery is to find out.
		err = d.record(o, timings)
	}
	lock.release()
	if d.lost = lock.lost(); d.lost && err == nil {
		err = errLockLost
	}
	if err != nil {
		d.leave(ctx, err)
		return
	}
	d.settle(o)
}

// try makes one attempt at the gateway: connect, mark sent, exchange. The error
// says that nothing is to be recorded: nothing was sent, since the service is
// stopping, the lock was lost or SQL could not be asked; or the service could
// not wait for the ack.
func (d *delivery) try(ctx context.Context, claim store.Claim) (outcome, relay.Timings, error) {
	c := d.consumer
	route, stop, err := d.before(ctx, claim)
	if err != nil || stop != nil {
		return value(stop), relay.Timings{}, err
	}
	t := d.trial(claim)
	connected := d.connecting()
	connection, err := c.Relay.Connect(ctx, route.hybridConnection, route.tokens)
	connected(connection, err)
	if ctx.Err() != nil {
		if err == nil {
			connection.Release()
		}
		return outcome{}, relay.Timings{}, ctx.Err()
	}
	if err != nil {
		d.tried.learn(err)
		t.err, t.now = err, c.now()
		return outcomeOf(t, c.Retry), failedTimings(err), nil
	}
	defer connection.Release()

	if reached(t.expires, c.now()) {
		return expired(claim), connection.Timings(), nil // the wait for the connection was long
	}
	err = d.mark()
	switch {
	case errors.Is(err, store.ErrAccessionHeld):
		return accessionHeld(), connection.Timings(), nil // two creates met, the other was first
	case store.Unavailable(err):
		return unmarked(t, c), connection.Timings(), nil
	case err != nil:
		return outcome{}, relay.Timings{}, fmt.Errorf("mark sent: %w", err)
	}
	d.marked = true
	exchanged := d.exchanging(connection)
	t.ack, t.err = connection.Exchange(context.WithoutCancel(ctx), d.in.action)
	exchanged(t.ack, t.err)
	if errors.Is(t.err, relay.ErrClosed) {
		return outcome{}, relay.Timings{}, t.err
	}
	d.tried.learn(t.err)
	t.now = c.now()
	return outcomeOf(t, c.Retry), connection.Timings(), nil
}

// failedTimings is how long the steps of a dial took that failed.
func failedTimings(err error) relay.Timings {
	failure, _ := errors.AsType[*relay.Error](err)
	if failure == nil {
		return relay.Timings{}
	}
	return failure.Timings
}

// claim waits for its turn, then asks SQL for an attempt.
func (d *delivery) claim(ctx context.Context) (store.Claim, error) {
	defer d.pass()
	select {
	case <-d.turn:
	case <-ctx.Done():
		return store.Claim{}, ctx.Err()
	}
	asking, cancel := context.WithTimeout(ctx, d.consumer.waits().StoreLimit)
	defer cancel()
	claimed := d.claiming()
	claim, err := d.consumer.Store.Claim(asking, d.asClaimed())
	claimed(err)
	if err != nil {
		return store.Claim{}, fmt.Errorf("claim: %w", err)
	}
	d.consumer.storeAnswers()
	return claim, nil
}
