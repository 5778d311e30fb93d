package consumer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

const (
	firstAccept  = 2 * time.Second  // soon shows whether the broker is there
	acceptWait   = 60 * time.Second // an accept waits at the broker and costs nothing
	mostSessions = 4                // sessions kept for gateways that cannot be reached, for each slot

	maxSessionID = 128 // characters, by Service Bus
)

// SessionID is the session that an action's message belongs to in a session
// queue: made from provider and setting alone, so that one gateway is one
// session. settingID is nil for the provider's default relay. [Encode] sets it;
// a producer that does without Encode calls this.
//
// It is the provider's id, and with a setting a slash and that; slashes and
// other special characters in either are percent-encoded. What is longer than
// Service Bus takes is its SHA-256 in hex.
func SessionID(providerID string, settingID *string) string {
	id := url.PathEscape(providerID)
	if settingID != nil {
		id += "/" + url.PathEscape(*settingID)
	}
	if len(id) > maxSessionID {
		sum := sha256.Sum256([]byte(id))
		return hex.EncodeToString(sum[:])
	}
	return id
}

// sessions are those that this process holds on one client.
type sessions struct {
	slots   chan struct{} // a session that is worked on holds one
	kept    atomic.Int64  // sessions that are kept and hold none
	crowded atomic.Bool   // no slot is left to accept another session with
	open    sync.WaitGroup

	resuming  atomic.Int64                       // kept sessions that wait for a slot; they go before others
	accepting atomic.Pointer[context.CancelFunc] // ends the accept that waits, which holds a slot; nil: none waits
}

// consumeSessions accepts one session after the other, with one call at a time,
// and works on as many at once as there are slots.
func (c *Consumer) consumeSessions(ctx context.Context, client *azservicebus.Client) (err error) {
	all := &sessions{slots: make(chan struct{}, c.concurrency())}
	defer func() {
		c.brokerAway(explained(err)) // now: what is in hand may take its time
		c.tellInHand(len(all.slots))
		all.open.Wait()
	}()
	// A session that is kept must not keep the next client waiting: it is accepted
	// again on that.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wait := firstAccept
	for {
		c.turned()
		// A slot before a session: what is accepted is worked on at once.
		if !all.slot(ctx) {
			return ctx.Err()
		}
		if _, err := c.awaitStore(ctx); err != nil {
			return err
		}
		receiver, err := c.accept(ctx, client, all, wait)
		if err != nil {
			return err
		}
		if wait = acceptWait; receiver == nil {
			<-all.slots
			continue
		}
		s := c.newSession(all, receiver)
		all.open.Go(func() { s.work(ctx) })
	}
}

// slot waits for a slot. Whoever works on a session meanwhile may give it back.
func (all *sessions) slot(ctx context.Context) bool {
	select {
	case all.slots <- struct{}{}:
		return true
	default:
	}
	all.crowded.Store(true)
	defer all.crowded.Store(false)
	select {
	case all.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// accept waits for a session that has messages and that nobody holds; nil for
// none within wait, or when a session that was kept needs the slot.
func (c *Consumer) accept(ctx context.Context, client *azservicebus.Client, all *sessions, wait time.Duration) (*azservicebus.SessionReceiver, error) {
	deadline, cancel := context.WithTimeout(ctx, min(wait, c.watchdog()/4))
	defer cancel()
	all.accepting.Store(&cancel)
	defer all.accepting.Store(nil)
	if all.resuming.Load() > 0 {
		return nil, nil
	}
	receiver, err := client.AcceptNextSessionForQueue(deadline, c.Queue, nil)
	var failure *azservicebus.Error
	switch {
	case err == nil, errors.As(err, &failure) && failure.Code == azservicebus.CodeTimeout:
		c.brokerAnswers()
		return receiver, nil
	case deadline.Err() == context.Canceled:
		return nil, ctx.Err()
	case deadline.Err() != nil:
		// The broker's own "none" may be a little late.
		return nil, c.listenToDead(ctx, client)
	}
	return nil, err
}

// listenToDead asks the dead-letter queue for a sign of life: it knows no
// sessions, so it can be asked without one.
func (c *Consumer) listenToDead(ctx context.Context, client *azservicebus.Client) error {
	receiver, err := client.NewReceiverForQueue(c.Queue, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	if err != nil {
		return err
	}
	defer closeQuietly(receiver.Close)
	if _, err := peek(ctx, receiver); err != nil {
		known := !c.receiving.Load()
		if c.brokerAway(err); known {
			return fmt.Errorf("accept a session: %w", err)
		}
		return c.silence()
	}
	c.brokerAnswers()
	return nil
}
