package consumer

import (
	"context"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// carefulTime is how long messages of a plain queue are asked for one by one
// after an unreadable one: longer than the longest lock, so that it comes back
// alone.
const carefulTime = 6 * time.Minute

// consumePlain receives from a queue without sessions, and handles as many
// messages at once as there are slots.
func (c *Consumer) consumePlain(ctx context.Context, client *azservicebus.Client) (err error) {
	receiver, err := client.NewReceiverForQueue(c.Queue, nil)
	if err != nil {
		return err
	}
	defer c.waits().close(receiver.Close)
	if err := c.listenFor(ctx, receiver); err != nil {
		return err
	}
	slots := make(chan struct{}, c.concurrency())
	var inFlight sync.WaitGroup
	defer func() {
		c.brokerAway(explained(err)) // now: what is in hand may take its time
		c.tellInHand(len(slots))
		inFlight.Wait()
	}()
	// What has not been sent when the client is lost begins anew on the next.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		c.turned()
		// A slot before a message: no lock runs down in a local buffer.
		free := takeSlots(ctx, slots)
		if free == 0 {
			return ctx.Err()
		}
		alone, err := c.awaitStore(ctx)
		if err != nil {
			return err
		}
		want := free
		if alone || time.Now().Before(c.careful) {
			want = 1
		}
		messages, err := c.receivePlain(ctx, receiver, want)
		for range free - len(messages) {
			<-slots
		}
		for _, m := range messages {
			d := c.take(receiver, messageLock{receiver, m}, m)
			inFlight.Go(func() {
				defer func() { <-slots }()
				d.handle(ctx)
			})
			if alone {
				<-d.claimed // one message shows whether the database is really back
			}
		}
		if err != nil {
			return err
		}
	}
}

// receivePlain asks for at most want messages. None and no error is normal.
func (c *Consumer) receivePlain(ctx context.Context, receiver *azservicebus.Receiver, want int) ([]*azservicebus.ReceivedMessage, error) {
	messages, err := c.receive(ctx, receiver, want, min(c.waits().ReceiveDeadline, c.watchdog()/4))
	switch {
	case len(messages) > 0:
		return messages, nil
	case err == errUnreadable:
		// What came in the same call is lost to us until its locks run out.
		c.careful = time.Now().Add(carefulTime)
		return nil, nil
	case err == errNothingCame:
		return nil, c.listenQuietly(ctx, receiver)
	case err == nil:
		pause(ctx, c.waits().FirstBackoff) // the SDK repaired its link
		return nil, ctx.Err()
	}
	return nil, err
}

// takeSlots waits for one slot, then takes every other that is free.
func takeSlots(ctx context.Context, slots chan struct{}) int {
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return 0
	}
	for taken := 1; ; taken++ {
		select {
		case slots <- struct{}{}:
		default:
			return taken
		}
	}
}

// tellInHand logs what keeps a consumer that no longer receives.
func (c *Consumer) tellInHand(n int) {
	if n > 0 {
		c.log().Info("no longer receiving; what was sent still has its ack to come", "in_hand", n)
	}
}
