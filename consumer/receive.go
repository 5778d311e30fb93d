package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

var (
	// errUnreadable is a message that the SDK panics on: it has an application
	// property of a type that the SDK does not expect.
	errUnreadable = errors.New("a message cannot be read")

	// errNothingCame is a receive that ended with its own deadline.
	errNothingCame = errors.New("nothing came")
)

// receiver is what messages come on and are settled through: a queue's link,
// or that of one session.
type receiver interface {
	settler
	ReceiveMessages(context.Context, int, *azservicebus.ReceiveMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
}

// receive asks for at most most messages for as long as wait. No messages and
// no error says that the SDK repaired its link.
func (c *Consumer) receive(ctx context.Context, from receiver, most int, wait time.Duration) (messages []*azservicebus.ReceivedMessage, err error) {
	// An unreadable message is left to its lock, and in the end the broker
	// dead-letters it; the process must live.
	defer func() {
		if p := recover(); p != nil {
			total := c.unreadable.Add(1)
			c.log().Error("a message in the queue cannot be read and was left to the broker", "queue", c.Queue, "panic", fmt.Sprint(p), "so_far", total)
			messages, err = nil, errUnreadable
			c.telemetry.received(1, "unreadable")
			c.heard.now()
		}
	}()
	deadline, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	messages, err = from.ReceiveMessages(deadline, most, &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: time.Millisecond})
	switch {
	case len(messages) > 0:
		c.brokerAnswers()
		c.telemetry.received(len(messages), "")
		return messages, nil // also when ctx ended: they are locked, and have to be given back
	case err != nil && ctx.Err() == nil && deadline.Err() != nil:
		return nil, errNothingCame
	}
	return nil, err
}

// awaitStore returns at once while the database answers; else it looks every
// storeProbe whether it takes writes again, and reports that it was away.
// Nothing is received meanwhile, and nothing abandoned: ten deliveries would be
// spent in a moment.
func (c *Consumer) awaitStore(ctx context.Context) (wasAway bool, err error) {
	for c.storeAway.Load() {
		c.turned()
		wasAway = true
		asking, cancel := context.WithTimeout(ctx, c.waits().StoreLimit)
		err := c.Store.Writable(asking)
		cancel()
		if err == nil {
			c.storeAnswers()
			break
		}
		pause(ctx, c.waits().StoreProbe)
		if ctx.Err() != nil {
			break
		}
	}
	return wasAway, ctx.Err()
}

// storeAnswers notes that the database took a write.
func (c *Consumer) storeAnswers() {
	if c.storeAway.CompareAndSwap(true, false) {
		c.log().Info("database takes writes again")
	}
}
