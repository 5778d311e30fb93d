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
	mostAccepts  = 4                // accepts at once: each takes some round trips
	settledAfter = 3 * time.Second  // an accept that began so long ago waits at the broker
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
	slots     chan struct{} // a session that is worked on holds one, and so does an accept
	acceptors int           // how many accepts there may be at once
	blocked   atomic.Int64  // acceptors that have no slot
	kept      atomic.Int64  // sessions that are kept and hold none
	wanted    chan struct{} // from one of those that needs a slot, to one that is kept with a slot
	open      sync.WaitGroup

	resuming  atomic.Int64                  // kept sessions that wait for a slot; they go before others
	mu        sync.Mutex                    // guards accepting
	accepting map[context.Context]accepting // those that wait and were not ended, by context
}

// accepting is an accept that has not returned.
type accepting struct {
	began  time.Time
	cancel context.CancelFunc
}

func newSessions(slots int) *sessions {
	return &sessions{
		slots: make(chan struct{}, slots), acceptors: min(slots, mostAccepts), wanted: make(chan struct{}),
		accepting: make(map[context.Context]accepting),
	}
}

// crowded reports whether no slot is left to accept another session with.
func (all *sessions) crowded() bool { return all.blocked.Load() == int64(all.acceptors) }

// consumeSessions accepts sessions, several at once since each takes some round
// trips, and works on as many as there are slots.
func (c *Consumer) consumeSessions(ctx context.Context, client *azservicebus.Client) (err error) {
	all := newSessions(c.concurrency())
	defer func() {
		c.brokerAway(explained(err)) // now: what is in hand may take its time
		c.tellInHand(len(all.slots))
		all.open.Wait()
	}()
	// A session that is kept must not keep the next client waiting: it is accepted
	// again on that.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := c.acceptNext(ctx, client, all, firstAccept); err != nil {
		return err
	}
	var accepting sync.WaitGroup
	for range all.acceptors {
		accepting.Go(func() {
			for ctx.Err() == nil {
				if err := c.acceptNext(ctx, client, all, acceptWait); err != nil {
					cancel(err) // the first one counts
				}
			}
		})
	}
	accepting.Wait()
	return context.Cause(ctx)
}

// acceptNext waits for a slot, then for a session, and has that worked on. The
// error says that the client is of no more use, or that ctx ended.
func (c *Consumer) acceptNext(ctx context.Context, client *azservicebus.Client, all *sessions, wait time.Duration) error {
	c.turned()
	// A slot before a session: what is accepted is worked on at once.
	if !all.slot(ctx) {
		return ctx.Err()
	}
	var receiver *azservicebus.SessionReceiver
	_, err := c.awaitStore(ctx)
	if err == nil {
		receiver, err = c.accept(ctx, client, all, wait)
	}
	if receiver == nil {
		<-all.slots
		return err
	}
	s := c.newSession(all, receiver)
	all.open.Go(func() { s.work(ctx) })
	return nil
}

// slot waits for a slot. Whoever works on a session meanwhile may give it back.
func (all *sessions) slot(ctx context.Context) bool {
	select {
	case all.slots <- struct{}{}:
		return true
	default:
	}
	all.blocked.Add(1)
	defer all.blocked.Add(-1)
	select {
	case all.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// beginAccept lets endAccept end an accept that has this context. done, which must
// be called once, says that it is over, and reports whether it was ended. free is
// false where a session that was kept needs the slot.
func (all *sessions) beginAccept(ctx context.Context, cancel context.CancelFunc) (done func() (ended bool), free bool) {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.accepting[ctx] = accepting{time.Now(), cancel}
	return func() bool {
		all.mu.Lock()
		defer all.mu.Unlock()
		_, waiting := all.accepting[ctx]
		delete(all.accepting, ctx)
		return !waiting
	}, all.resuming.Load() == 0
}

// endAccept makes the accept that has waited longest give up its slot, if there is
// one: at once, or when it surely waits. Ended while it still makes its claims, it
// would leave a session on the connection that the SDK's library believes begun. The
// library ends that one later, and the broker the connection for it, with every
// session of the queue that is held on it.
func (all *sessions) endAccept() {
	all.mu.Lock()
	defer all.mu.Unlock()
	var oldest context.Context
	for ctx, a := range all.accepting {
		if oldest == nil || a.began.Before(all.accepting[oldest].began) {
			oldest = ctx
		}
	}
	if oldest == nil {
		return
	}
	a := all.accepting[oldest]
	delete(all.accepting, oldest)
	time.AfterFunc(time.Until(a.began.Add(settledAfter)), a.cancel)
}

// accept waits for a session that has messages and that nobody holds; nil for
// none within wait, or when a session that was kept needs the slot.
func (c *Consumer) accept(ctx context.Context, client *azservicebus.Client, all *sessions, wait time.Duration) (*azservicebus.SessionReceiver, error) {
	deadline, cancel := context.WithTimeout(ctx, min(wait, c.watchdog()/4))
	defer cancel()
	wasAway := !c.receiving.Load() // before this accept: several may hear nothing at the same time
	done, free := all.beginAccept(deadline, cancel)
	if !free {
		done()
		return nil, nil
	}
	receiver, err := client.AcceptNextSessionForQueue(deadline, c.Queue, nil)
	if ended := done(); ended && receiver != nil {
		all.endAccept() // this one keeps its slot after all: another is to give its own
	}
	var failure *azservicebus.Error
	switch {
	case err == nil, errors.As(err, &failure) && failure.Code == azservicebus.CodeTimeout:
		c.brokerAnswers()
		return receiver, nil
	case deadline.Err() == context.Canceled:
		return nil, ctx.Err()
	case deadline.Err() != nil:
		// The broker's own "none" may be a little late.
		return nil, c.listenToDead(ctx, client, wasAway)
	}
	return nil, err
}

// listenToDead asks the dead-letter queue for a sign of life: it knows no
// sessions, so it can be asked without one. No answer ends the client where the
// broker was away already, and else once that is longer than the watchdog bears.
func (c *Consumer) listenToDead(ctx context.Context, client *azservicebus.Client, wasAway bool) error {
	receiver, err := client.NewReceiverForQueue(c.Queue, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	if err != nil {
		return err
	}
	defer closeQuietly(receiver.Close)
	if _, err := peek(ctx, receiver); err != nil {
		stillAway := wasAway && !c.receiving.Load() // another may have heard it meanwhile
		if c.brokerAway(err); stillAway {
			return fmt.Errorf("accept a session: %w", err)
		}
		return c.silence()
	}
	c.brokerAnswers()
	return nil
}
