package consumer

import (
	"context"
	"time"
)

// reachable waits while the gateway's breaker is open or it is held back: the
// session is kept and nothing received. false: ctx ended, or the session is lost.
func (s *session) reachable(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	if !s.away(ctx) {
		s.emptying = false
		return true
	}
	return s.emptying || s.keep(ctx)
}

// away reports whether nothing may be sent to the gateway, by the relay row of
// this moment: it may have been changed.
func (s *session) away(ctx context.Context) bool {
	if s.first == nil {
		return false
	}
	r, err := s.consumer.route(ctx, s.first.providerID, s.first.settingID)
	if err != nil {
		return false // handling the next message will say why
	}
	s.gateway, s.at = s.consumer.gateways.at(ctx, r), r.hybridConnection
	return s.gateway.open() || s.gateway.heldBack()
}

// keep holds the session without a slot until its gateway answers a probe or is
// held back no longer, or for keepSession; then what waits is to be postponed.
func (s *session) keep(ctx context.Context) bool {
	c := s.consumer
	until := c.now().Add(c.keepSession())
	s.log.Info("session kept until its gateway is back", "gateway", s.gateway.name)
	held := holdLock(ctx, s, s.log)
	defer held.release()
	away := true
	for away && c.now().Before(until) && held.working.Err() == nil {
		c.turned()
		s.yieldSlot() // as soon as it may
		look, cancel := context.WithTimeout(held.working, keepLook)
		select {
		case <-s.gateway.awaitProbe():
		case <-s.slotWanted():
			s.slotGiven()
		case <-look.Done():
		}
		cancel()
		away = s.away(held.working)
	}
	if held.working.Err() != nil || !s.takeSlot(held.working) {
		return false
	}
	s.emptying = away
	s.began, s.handled = time.Now(), 0 // its turn begins now
	return true
}

// yieldSlot lets another session be worked on, unless too many are kept already.
func (s *session) yieldSlot() {
	if !s.slot {
		return
	}
	if s.all.kept.Add(1) > int64(mostSessions*cap(s.all.slots)) {
		s.all.kept.Add(-1)
		return
	}
	s.slot = false
	<-s.all.slots
}

// slotWanted is ready when a session that was kept without a slot needs this one's,
// which then is that one's. It never is where this one has none.
func (s *session) slotWanted() <-chan struct{} {
	if s.slot {
		return s.all.wanted
	}
	return nil
}

func (s *session) slotGiven() {
	s.slot = false
	s.all.kept.Add(1)
}

// standAside waits for d or for the end of ctx, without a slot if another can have it.
func (s *session) standAside(ctx context.Context, d time.Duration) {
	s.yieldSlot()
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-s.slotWanted():
			s.slotGiven()
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (s *session) takeSlot(ctx context.Context) bool {
	if s.slot {
		return true
	}
	// What waits here goes before what is not even accepted yet.
	s.all.resuming.Add(1)
	defer s.all.resuming.Add(-1)
	if s.all.freeSlot() || s.all.lend() {
		return s.resume()
	}
	select {
	case s.all.slots <- struct{}{}:
		return s.resume()
	case s.all.wanted <- struct{}{}:
		return s.resume()
	case <-ctx.Done():
		return false
	}
}

func (s *session) resume() bool {
	s.slot = true
	s.all.kept.Add(-1)
	return true
}

// postponedUntil is when what waits in the session comes again, once it was
// kept for long enough: spread, so that it does not all come at once.
func (s *session) postponedUntil(now time.Time) time.Time {
	d := s.consumer.postponeSession()
	return now.Add(d + time.Duration(chance()*float64(d)/15))
}
