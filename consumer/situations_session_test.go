package consumer_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
)

// sessionSituations are those of a session queue: order, isolation, and gateways
// that cannot be reached.
var sessionSituations = []situation{
	{"18_order_across_retries_and_replicas", func(t *testing.T, url string) {
		w := newWorld(t, url, inSessions)
		w.gateway.Script(repeat(12, relaytest.Reply{Text: `{"status":"error","message":"database is locked"}`})...)
		var all, updates []action
		for range 10 {
			create := newCreate()
			update := newUpdate(create, "IN PROGRESS")
			all, updates = append(all, create, update), append(updates, update)
		}
		w.enqueue(all...)
		w.run()
		w.runAnother(w.replica())
		w.until("all are confirmed", func() bool { return w.allConfirmed(all) })
		for _, update := range updates {
			for _, attempt := range w.attempts(update.id()) {
				if strings.Contains(text(attempt.Error), "not found") {
					t.Errorf("an update overtook its create: %+v", attempt)
				}
			}
		}
		w.noDeadLetter()
	}},
	{"19_property_of_an_odd_type_in_a_session", func(t *testing.T, url string) {
		w := newWorld(t, url, inSessions, func(w *world, _ *relaytest.GatewayConfig) { w.lock, w.most = time.Minute, 3 })
		w.consumer.Concurrency = 1
		w.addGateway("hull", "")
		w.run()
		odd := newCreate().message()
		odd.ApplicationProperties["DeadLetterReason"] = int64(7)
		w.send(odd)
		w.until("the odd message is met", func() bool { return strings.Contains(w.log.String(), "cannot be read") })
		good := newCreate()
		w.send(good.messageTo("hull"))
		w.until("another gateway's action flows", func() bool { return w.row(good.id()).Status == store.Confirmed })
		if s := w.session(provider); !s.Held {
			t.Error("the session was closed, which counts no delivery")
		}
		expired := 0 // once for each delivery
		w.until("the odd message is dead-lettered by its delivery count", func() bool {
			if met := strings.Count(w.log.String(), "cannot be read"); met > expired {
				expired = met
				w.broker.ExpireLocks()
			}
			return w.queueState().DeadLettered == 1
		})
	}},
	{"34_breaker_open_on_a_plain_queue", func(t *testing.T, url string) {
		w := newWorld(t, url, func(_ *world, g *relaytest.GatewayConfig) { g.Mode = relaytest.ModeOffline })
		w.consumer.Breaker = relay.BreakerPolicy{Span: 100 * time.Millisecond, Probes: []time.Duration{time.Minute, time.Hour}}
		w.run()
		id := w.enqueue(newCreate())
		w.until("it is postponed to the probe but one", func() bool { return w.row(id).PostponeCount > 0 })
		w.until("its breaker is known to be open", func() bool { return w.health().OpenedAt != nil })
		row := w.hasRow(id, store.Pending, "", relay.PhaseNoListener)
		health := w.health()
		if row.NextRetryAt == nil || !row.NextRetryAt.After(health.OpenedAt.Add(time.Hour)) {
			t.Errorf("next try %v, gateway %+v: want the second probe's time", row.NextRetryAt, health)
		}
		if spent := row.Attempts; spent < 3 {
			t.Errorf("opened after %d failures, want three at least", spent)
		}
		w.gateway.SetMode(relaytest.ModeOneShot)
		w.ahead.Add(int64(time.Minute)) // so that the first probe finds it, however long this took
		w.until("the gateway is known to be back", func() bool { return w.health().OpenedAt == nil })
		if again := w.row(id); again.Attempts != row.Attempts {
			t.Errorf("waiting spent %d attempts", again.Attempts-row.Attempts)
		}
		w.onlyEchoes()
		next := w.enqueue(newCreate())
		w.until("actions flow", func() bool { return w.row(next).Status == store.Confirmed })
	}},
	{"34_session_is_kept_and_takes_no_slot", func(t *testing.T, url string) {
		w := newWorld(t, url, inSessions, offline)
		w.consumer.Concurrency = 1
		hull := w.addGateway("hull", relaytest.ModePersistent)
		w.run()
		var waiting []action
		for range 5 {
			waiting = append(waiting, newCreate())
		}
		w.enqueue(waiting...)
		w.until("the session is kept", func() bool { return strings.Contains(w.log.String(), "session kept") })
		before := w.row(waiting[0].id()).Attempts
		for range 3 {
			a := newCreate()
			w.send(a.messageTo("hull"))
			w.until("another gateway's action flows", func() bool { return w.row(a.id()).Status == store.Confirmed })
		}
		if s := w.session(provider); !s.Held {
			t.Error("the session was given back full")
		}
		if spent := w.row(waiting[0].id()).Attempts - before; spent != 0 {
			t.Errorf("%d attempts were spent while it was kept", spent)
		}
		w.until("probed", func() bool { return strings.Contains(w.log.String(), "gateway was probed") })
		w.gateway.SetMode(relaytest.ModeOneShot)
		w.until("all are confirmed", func() bool { return w.allConfirmed(waiting) })
		if first := w.gateway.Frames()[0]; !bytes.Contains(first, []byte(`"echo"`)) {
			t.Error("the first frame after the outage is no echo")
		}
		w.writtenOnce(len(waiting))
		if n := len(hull.Frames()); n != 3 {
			t.Errorf("%d frames at the other gateway, want 3", n)
		}
		w.until("the empty session is given back", func() bool { return !w.session(provider).Held })
	}},
	{"34_what_waits_is_postponed_after_ten_minutes", func(t *testing.T, url string) {
		w := newWorld(t, url, inSessions, offline)
		w.run()
		waiting := []action{newCreate(), newCreate(), newCreate()}
		w.enqueue(waiting...)
		w.until("the session is kept", func() bool { return strings.Contains(w.log.String(), "session kept") })
		w.ahead.Store(int64(10 * time.Minute))
		for _, a := range waiting {
			w.until("it is postponed", func() bool {
				row := w.row(a.id())
				return row.ClaimedUntil == nil && row.NextTry().After(w.now().Add(time.Minute))
			})
			row := w.hasRow(a.id(), store.Pending, "", relay.PhaseNoListener)
			if in := row.NextRetryAt.Sub(w.now()); in < 14*time.Minute || in > 16*time.Minute {
				t.Errorf("comes again in %s, want 15 to 16 min", in)
			}
		}
		w.until("the empty session is given back", func() bool { return !w.session(provider).Held })
		w.nothingSent()
	}},
	{"34_no_more_than_four_sessions_are_kept_for_a_slot", func(t *testing.T, url string) {
		w := newWorld(t, url, inSessions, offline)
		w.consumer.Concurrency = 1
		names := []string{provider}
		for i := range 6 {
			names = append(names, fmt.Sprintf("away-%d", i))
			w.addGateway(names[i+1], relaytest.ModeOffline)
		}
		for _, name := range names {
			w.send(newCreate().messageTo(name))
		}
		w.run()
		held := func() (n int) {
			for _, s := range w.broker.Sessions(queue) {
				if s.Held {
					n++
				}
			}
			return n
		}
		w.until("four are kept and one has the slot", func() bool { return strings.Count(w.log.String(), "session kept") >= 5 })
		if n := held(); n != 5 {
			t.Errorf("%d sessions are held, want 5", n)
		}
	}},
	{"35_half_open_sends_an_echo_and_no_details", func(t *testing.T, url string) {
		both(t, url, func(w *world) {
			a := newCreate()
			w.gateway.SetMode(relaytest.ModeOffline)
			w.enqueue(a)
			w.until("its breaker is open", func() bool { return w.health().OpenedAt != nil })
			w.gateway.SetMode(relaytest.ModeSilent) // takes an echo and does not answer
			probes := w.health().Probes
			w.until("an unanswered echo keeps it open", func() bool {
				h := w.health()
				return h.OpenedAt != nil && h.Probes > probes && text(h.LastPhase) == "ack_timeout"
			})
			w.onlyEchoes()
			w.gateway.SetMode(relaytest.ModeHangUp) // a clean close is a sign of life
			w.until("life closes it", func() bool { return w.health().OpenedAt == nil })
			w.gateway.SetMode(relaytest.ModeOneShot)
			w.until("flow resumes", func() bool { return w.row(a.id()).Status == store.Confirmed })
		}, func(w *world, _ *relaytest.GatewayConfig) {
			w.gateways.AckTimeout = 200 * time.Millisecond
			w.consumer.Breaker = relay.BreakerPolicy{Span: 100 * time.Millisecond, Probes: []time.Duration{300 * time.Millisecond}}
		})
	}},
	{"27_breaker_opens_at_once_at_a_dead_end", opensAtOnce(func(w *world) { w.relay.Delete(provider) }, relay.PhaseEndpoint)},
	{"31_breaker_opens_at_once_on_a_refused_token", opensAtOnce(func(w *world) {
		w.relay.Refuse(provider, -1, 401, "401: Invalid signature")
	}, relay.PhaseAuth)},
	{"76_one_silent_one_refusing_one_rejecting", func(t *testing.T, url string) {
		w := newWorld(t, url, inSessions, func(_ *world, g *relaytest.GatewayConfig) { g.Mode = relaytest.ModeSilent })
		w.gateways.AckTimeout = time.Hour // the silent one is silent for longer than the test of the others takes
		w.addGateway("away", relaytest.ModeOffline)
		w.addGateway("rejecting", "").RejectNext(-1, 403, "no")
		var well []action
		for i := range 10 {
			name := fmt.Sprintf("well-%d", i)
			w.addGateway(name, relaytest.ModePersistent)
			for range 5 {
				a := newCreate()
				well = append(well, a)
				w.send(a.messageTo(name))
			}
		}
		for _, name := range []string{provider, "away", "rejecting"} {
			w.send(newCreate().messageTo(name), newCreate().messageTo(name))
		}
		w.run()
		w.until("the others are confirmed", func() bool { return w.allConfirmed(well) })
		if n := strings.Count(w.log.String(), `"phase":"ack_timeout"`); n != 0 {
			t.Error("the others were confirmed only after the silent one had timed out")
		}
		w.gateway.SetMode(relaytest.ModeOffline) // so that nobody waits for it
	}},
	{"77_two_replicas_and_one_session_queue", func(t *testing.T, url string) {
		w := newWorld(t, url, inSessions, func(_ *world, g *relaytest.GatewayConfig) { g.Mode, g.Slots = relaytest.ModePersistent, 4 })
		w.consumer.Concurrency = 2
		names := []string{"hull", "york", "bath"}
		for _, name := range names {
			w.addGateway(name, relaytest.ModePersistent)
		}
		stop := w.run()
		w.runAnother(w.replica())
		var all []action
		enqueue := func() {
			for _, name := range append(names, provider) {
				for range 25 {
					a := newCreate()
					all = append(all, a)
					w.send(a.messageTo(name))
				}
			}
		}
		enqueue()
		w.until("some are confirmed", func() bool { return w.row(all[10].id()).Status == store.Confirmed })
		stop() // a replica that ends gives its gateways to the other
		enqueue()
		w.until("all are confirmed", func() bool { return w.allConfirmed(all) })
		for _, name := range append(names, provider) {
			if s := w.relay.Stats(name); s.MaxOpen != 1 {
				t.Errorf("%s saw %d of our connections at once", name, s.MaxOpen)
			}
		}
		w.noDeadLetter()
	}},
	{"91_one_gateway_has_many_actions_waiting", func(t *testing.T, url string) {
		w := newWorld(t, url, inSessions, func(_ *world, g *relaytest.GatewayConfig) { g.Mode = relaytest.ModePersistent })
		w.consumer.Concurrency = 1
		hull := w.addGateway("hull", "")
		var many []action
		for range 150 {
			many = append(many, newCreate())
		}
		w.enqueue(many...)
		few := newCreate()
		w.run()
		w.until("the many are begun", func() bool { return w.sentFrames() > 0 })
		w.send(few.messageTo("hull"))
		w.until("the few have their turn", func() bool { return len(hull.Frames()) == 1 })
		if n := w.sentFrames(); n >= len(many) {
			t.Error("only after all of the many")
		}
		w.until("all are confirmed", func() bool { return w.allConfirmed(append(many, few)) })
	}},
}

// opensAtOnce is the situation of trouble that no waiting mends.
func opensAtOnce(trouble func(*world), phase relay.Phase) func(*testing.T, string) {
	return func(t *testing.T, url string) {
		w := newWorld(t, url)
		w.consumer.Breaker.Probes = []time.Duration{time.Hour}
		trouble(w)
		w.run()
		id := w.enqueue(newCreate())
		w.until("its breaker is open", func() bool { return w.health().OpenedAt != nil })
		w.until("the action waits for the probe", func() bool { return w.row(id).PostponeCount > 0 })
		if row := w.hasRow(id, store.Pending, "", phase); row.Attempts != 1 {
			t.Errorf("%d attempts, want 1", row.Attempts)
		}
	}
}

// offline is a gateway that is switched off, and a breaker that soon says so.
func offline(w *world, g *relaytest.GatewayConfig) {
	g.Mode = relaytest.ModeOffline
	w.consumer.Breaker = relay.BreakerPolicy{Span: 100 * time.Millisecond, Probes: []time.Duration{200 * time.Millisecond}}
}

// session is what the broker knows of the session of a provider's default relay.
func (w *world) session(provider string) servicebustest.SessionState {
	for _, s := range w.broker.Sessions(queue) {
		if s.ID == consumer.SessionID(provider, nil) {
			return s
		}
	}
	return servicebustest.SessionState{}
}

// health is what SQL knows of the world's gateway.
func (w *world) health() store.Health {
	w.t.Helper()
	h, err := w.store.Health(w.t.Context(), w.relay.Addr()+"/"+provider)
	if err != nil && !strings.Contains(err.Error(), store.ErrNoHealth.Error()) {
		w.t.Fatal(err)
	}
	return h
}

// onlyEchoes checks that nothing but echoes reached the gateway.
func (w *world) onlyEchoes() {
	w.t.Helper()
	for _, frame := range w.gateway.Frames() {
		if !bytes.Contains(frame, []byte(`"action_type":"echo"`)) {
			w.t.Errorf("not an echo reached the gateway: %.60s", frame)
		}
	}
}
