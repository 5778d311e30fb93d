package consumer

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/worklist-relay/worklist-relay/relay"
)

const (
	turnTime    = 30 * time.Second // a busy session is given back after this, or after turnActions,
	turnActions = 100              // when others wait

	emptyLook    = 250 * time.Millisecond // how long one look for another message takes
	crowdedLook  = 100 * time.Millisecond // the same, while other sessions wait for the slot
	keepLook     = time.Second            // between looks at a session that is kept
	unsettled    = 5 * time.Second        // before a session is given back whose message could not be settled
	clockSkew    = 5 * time.Second        // that the broker's clock may be behind ours, and no more
	renewSession = 3 * time.Second        // a renewal that takes longer does not count
)

// session is one session of the queue while this process holds it, which means
// one gateway. Its goroutine alone calls the receiver, but for the renewal while
// a message is worked on.
type session struct {
	consumer *Consumer
	all      *sessions
	receiver *azservicebus.SessionReceiver
	log      *slog.Logger

	span     time.Duration // of the lock when it is new
	slot     bool          // it holds one
	began    time.Time     // its turn
	handled  int           // messages in it
	first    *incoming     // whose provider and setting say where its messages go; nil before it
	gateway  *gateway      // where they went last; nil: not known
	at       relay.HybridConnection
	emptying bool // it was kept for long enough: what waits is postponed
}

func (c *Consumer) newSession(all *sessions, receiver *azservicebus.SessionReceiver) *session {
	return &session{
		consumer: c, all: all, receiver: receiver, slot: true, began: time.Now(),
		span: time.Until(receiver.LockedUntil()),
		log:  c.log().With("session", receiver.SessionID()),
	}
}

// work handles the session's messages one after the other, until it is empty,
// its turn is over, or it can no longer be held.
func (s *session) work(ctx context.Context) {
	defer s.giveBack()
	if tooLate(s) {
		s.log.Warn("session lock ran out before work began; is this machine's clock right?", "locked_until", s.until())
		s.standAside(ctx, s.consumer.waits().LastBackoff) // or it would be accepted again at once, and taken from a replica whose clock is right
		return
	}
	for !s.consumer.storeAway.Load() && s.reachable(ctx) && !s.turnOver() {
		m := s.next(ctx)
		if m == nil {
			return
		}
		d := s.consumer.take(s.receiver, s, m)
		d.session = s
		d.pass() // a session keeps its own order, and its waiting is nobody else's
		if s.first == nil && s.meet(d) && !s.reachable(ctx) {
			return // the message goes back with the session, and no delivery is counted
		}
		d.handle(ctx)
		s.handled++
		switch {
		case d.lost:
			return // what is not settled comes again with the session
		case d.unsettled:
			// It comes again with the session too, and may fail again.
			s.standAside(ctx, min(unsettled, time.Until(s.until())/2))
			return
		case d.left && !s.consumer.storeAway.Load():
			s.leaveToLock(ctx)
			return
		}
	}
}

// turnOver reports whether others are to have a turn. A session that waits for
// its gateway is never given back full: it would be accepted again in a loop.
func (s *session) turnOver() bool {
	return s.all.crowded() && !s.emptying && (s.handled >= turnActions || time.Since(s.began) >= turnTime)
}

// next is the next message; nil when there is none, ctx ended or the session is
// lost. An empty session is held for as long as its gateway's connection is
// cached, unless others wait.
func (s *session) next(ctx context.Context) *azservicebus.ReceivedMessage {
	c := s.consumer
	linger := time.Now().Add(orDefault(c.Relay.IdleTimeout, 5*time.Second))
	for ctx.Err() == nil && s.fresh(ctx) {
		c.turned()
		look := emptyLook
		if s.all.crowded() {
			look = crowdedLook
		}
		messages, err := c.receive(ctx, s.receiver, 1, look)
		switch {
		case len(messages) > 0:
			return messages[0]
		case err == errUnreadable:
			s.leaveToLock(ctx)
			return nil
		case err != errNothingCame: // a link that was repaired is another hold on the session
			if ctx.Err() == nil {
				s.log.Info("session lost", "error", err)
			}
			return nil
		case s.emptying, s.all.crowded(), !time.Now().Before(linger):
			return nil
		}
	}
	return nil
}

// meet learns from the first message whose session this is. It reports false
// where the message does not say: handling it will tell why.
func (s *session) meet(d *delivery) bool {
	if d.invalid != nil || d.panicked != nil {
		return false
	}
	c, id := s.consumer, s.receiver.SessionID()
	if want := SessionID(d.in.providerID, d.in.settingID); want != id && c.told.now("a session", c.now()) {
		d.log.Warn("the message's session is not that of its provider and setting, so its gateway is not isolated", "session", id, "want", want)
	}
	s.first = &d.in
	return true
}

// leaveToLock neither renews the session nor closes it: its lock runs out, and
// that counts a delivery of the message that could not be dealt with. Only its
// own gateway waits for that.
func (s *session) leaveToLock(ctx context.Context) {
	s.standAside(ctx, time.Until(s.until())+clockSkew) // closed a moment earlier, it would count none
}

// giveBack lets others have the session, and the gateway: the cached connection
// goes with it.
func (s *session) giveBack() {
	if s.gateway != nil {
		s.consumer.Relay.CloseIdle(s.at)
	}
	s.consumer.waits().close(s.receiver.Close)
	if s.slot {
		<-s.all.slots
	} else {
		s.all.kept.Add(-1)
	}
}

// fresh renews the lock before half of it is gone.
func (s *session) fresh(ctx context.Context) bool {
	if time.Until(s.until()) > s.span/2 {
		return true
	}
	if err := s.renew(ctx); err != nil {
		if ctx.Err() == nil {
			s.log.Warn("lock not renewed", "error", err)
		}
		return false
	}
	return true
}

// until and renew make the session's lock a [renewable].
func (s *session) until() time.Time { return s.receiver.LockedUntil() }

// renew counts only what returned in time and before the lock ran out: after a
// loss the SDK silently accepts the session again and reports success.
func (s *session) renew(ctx context.Context) error {
	until := s.until()
	ctx, cancel := context.WithTimeout(ctx, renewSession)
	defer cancel()
	err := s.receiver.RenewSessionLock(ctx, nil)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errLockLost, err)
	case !time.Now().Before(until):
		return errLockLost
	}
	s.consumer.heard.now()
	return nil
}
