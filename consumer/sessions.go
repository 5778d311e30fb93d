package consumer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

const (
	firstAccept  = 2 * time.Second  // soon shows whether the broker is there
	acceptWait   = 60 * time.Second // an accept waits at the broker and costs nothing
	mostAccepts  = 4                // accepts at once: each takes some round trips
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

	resuming atomic.Int64 // kept sessions that wait for a slot; they go before others

	mu      sync.Mutex // guards what follows
	waiting int        // accepts at the broker: none needs its slot before it has a session
	lent    int        // slots of theirs that kept sessions have meanwhile; at most waiting
}

func newSessions(slots int) *sessions {
	return &sessions{
		slots: make(chan struct{}, slots), acceptors: min(slots, mostAccepts), wanted: make(chan struct{}),
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
	if _, err := c.awaitStore(ctx); err != nil || !all.beginAccept() {
		<-all.slots
		runtime.Gosched() // to whom it goes: until that one runs, this would take and give back the next free one without end
		return err
	}
	receiver, err := c.accept(ctx, client, wait)
	slot := all.endAccept()
	switch {
	case receiver != nil && (slot || all.freeSlot()):
		s := c.newSession(all, receiver)
		all.open.Go(func() { s.work(ctx) })
	case receiver != nil:
		c.waits().close(receiver.Close) // no delivery is counted: nothing was received
	case slot:
		<-all.slots
	}
	return err
}

// slot waits for a slot. Whoever works on a session meanwhile may give it back.
func (all *sessions) slot(ctx context.Context) bool {
	if all.freeSlot() {
		return true
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

// freeSlot takes a slot if one is free.
func (all *sessions) freeSlot() bool {
	select {
	case all.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

// beginAccept lets the slot of an accept be lent until endAccept. It reports false
// where a session that was kept needs the slot now.
func (all *sessions) beginAccept() bool {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.resuming.Load() > 0 {
		return false
	}
	all.waiting++
	return true
}

// lend gives a kept session the slot of an accept, if one waits. The accept goes
// on: to end it may end the connection, with every session that is held on it. The
// SDK's library forgets wrongly what it was about to begin when its context ends.
func (all *sessions) lend() bool {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.lent == all.waiting {
		return false
	}
	all.lent++
	return true
}

// endAccept reports whether the accept still has a slot. It has none where those
// that still wait cannot make up for all that are lent.
func (all *sessions) endAccept() (slot bool) {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.waiting--
	if all.lent <= all.waiting {
		return true
	}
	all.lent--
	return false
}

// accept waits for a session that has messages and that nobody holds; nil for
// none within wait.
func (c *Consumer) accept(ctx context.Context, client *azservicebus.Client, wait time.Duration) (*azservicebus.SessionReceiver, error) {
	deadline, cancel := context.WithTimeout(ctx, min(wait, c.watchdog()/4))
	defer cancel()
	wasAway := !c.receiving.Load() // before this accept: several may hear nothing at the same time
	receiver, err := client.AcceptNextSessionForQueue(deadline, c.Queue, nil)
	var failure *azservicebus.Error
	switch {
	case err == nil, errors.As(err, &failure) && failure.Code == azservicebus.CodeTimeout:
		c.brokerAnswers()
		return receiver, nil
	case ctx.Err() != nil:
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
	defer c.waits().close(receiver.Close)
	if _, err := peek(ctx, c.waits().ListenLimit, receiver); err != nil {
		stillAway := wasAway && !c.receiving.Load() // another may have heard it meanwhile
		if c.brokerAway(err); stillAway {
			return fmt.Errorf("accept a session: %w", err)
		}
		return c.silence()
	}
	c.brokerAnswers()
	return nil
}
