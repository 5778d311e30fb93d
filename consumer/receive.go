package consumer

import (
	"context"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

const (
	receiveDeadline = time.Minute      // a receiver may fall silent for good; each call gets a new start
	storeProbe      = 2 * time.Second  // between looks whether the database is back
	storeLimit      = 10 * time.Second // for one call to the database; a connection may have died in silence
	carefulTime     = 6 * time.Minute  // after an unreadable message: longer than the longest lock, so that it comes back alone
)

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

// receive asks for at most free messages. No messages and no error is normal:
// after a repair of the link, or when nothing came for a while.
func (c *Consumer) receive(ctx context.Context, receiver *azservicebus.Receiver, free int) (messages []*azservicebus.ReceivedMessage, err error) {
	// The SDK panics on a message with an application property of an odd type.
	// Its lock runs out, and in the end the broker dead-letters it; the process
	// must live. What came in the same call is lost to it until its lock runs out
	// too, so that for a while each message is asked for alone.
	defer func() {
		if p := recover(); p != nil {
			c.log().Error("a message in the queue cannot be read and was left to the broker", "queue", c.Queue, "panic", fmt.Sprint(p))
			c.careful = time.Now().Add(carefulTime)
			messages, err = nil, nil
		}
	}()
	if time.Now().Before(c.careful) {
		free = 1
	}
	c.receiving.Store(true)
	deadline, cancel := context.WithTimeout(ctx, receiveDeadline)
	defer cancel()
	options := azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: time.Millisecond}
	messages, err = receiver.ReceiveMessages(deadline, free, &options)
	switch {
	case len(messages) > 0:
		return messages, nil
	case err == nil:
		pause(ctx, firstBackoff)
		return nil, ctx.Err()
	case ctx.Err() == nil && deadline.Err() != nil:
		return nil, nil
	}
	return nil, err
}

// awaitStore returns at once while the database answers; else it looks every
// storeProbe whether it takes writes again, and reports that it was away.
// Nothing is received meanwhile, and nothing abandoned: ten deliveries would be
// spent in a moment.
func (c *Consumer) awaitStore(ctx context.Context) (wasAway bool, err error) {
	for c.storeAway.Load() {
		wasAway = true
		asking, cancel := context.WithTimeout(ctx, storeLimit)
		err := c.Store.Writable(asking)
		cancel()
		if err == nil {
			c.storeAway.Store(false)
			c.log().Info("database takes writes again")
			break
		}
		pause(ctx, storeProbe)
		if ctx.Err() != nil {
			break
		}
	}
	return wasAway, ctx.Err()
}
