package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// errSilent is a broker that said nothing at all for too long. Receivers have
// been seen to wait for ever on a link that had died.
var errSilent = errors.New("no answer of any kind from the broker")

// heard is when the broker last answered anything. The zero value has heard
// nothing yet.
type heard struct{ at atomic.Int64 }

func (h *heard) now() { h.at.Store(time.Now().UnixNano()) }

func (h *heard) ago() time.Duration { return time.Since(time.Unix(0, h.at.Load())) }

// silence is nil while the broker was heard within the watchdog's time.
func (c *Consumer) silence() error {
	if ago := c.heard.ago(); ago > c.watchdog() {
		return fmt.Errorf("%w for %s, connecting anew", errSilent, ago.Round(time.Second))
	}
	return nil
}

// brokerAnswers notes that messages come, or would.
func (c *Consumer) brokerAnswers() {
	c.unheard.Store(nil)
	c.receiving.Store(true)
	c.heard.now()
}

// brokerAway notes why none come for now. A question that this process broke off
// says nothing of the broker.
func (c *Consumer) brokerAway(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		c.unheard.Store(&err)
	}
	c.receiving.Store(false)
}

// listenFor asks the queue for a sign of life, so that a broker that cannot be
// reached is known at once, and not after the first minute of waiting.
func (c *Consumer) listenFor(ctx context.Context, receiver *azservicebus.Receiver) error {
	if _, err := peek(ctx, c.waits().ListenLimit, receiver); err != nil {
		return err
	}
	c.brokerAnswers()
	return nil
}

// listenQuietly asks for a sign of life when nothing came for a while. That a
// message waits which did not come is none: the link may be dead that it should
// have come on.
func (c *Consumer) listenQuietly(ctx context.Context, receiver *azservicebus.Receiver) error {
	waiting, err := peek(ctx, c.waits().ListenLimit, receiver)
	switch {
	case err != nil:
		c.brokerAway(err)
	case !waiting:
		c.brokerAnswers()
	}
	return c.silence()
}

// peek reports whether the first message of the queue waits to be received.
func peek(ctx context.Context, limit time.Duration, receiver *azservicebus.Receiver) (waiting bool, err error) {
	defer func() {
		if recover() != nil { // an unreadable message is an answer too, and waits
			waiting, err = true, nil
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	first := int64(0)
	messages, err := receiver.PeekMessages(ctx, 1, &azservicebus.PeekMessagesOptions{FromSequenceNumber: &first})
	if err != nil {
		return false, err
	}
	return len(messages) > 0 && messages[0].State == azservicebus.MessageStateActive, nil
}
