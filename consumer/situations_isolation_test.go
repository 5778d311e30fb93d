package consumer_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
)

// isolationSituations are about what one gateway's trouble must not do to others,
// to itself, or to the broker.
var isolationSituations = []situation{
	{"35_an_echo_that_breaks_off_is_not_sent_again_at_once", func(t *testing.T, url string) {
		both(t, url, func(w *world) {
			w.enqueue(newCreate())
			w.until("its breaker is open", func() bool { return w.health().OpenedAt != nil })
			began := time.Now()
			w.gateway.Script(repeat(100, relaytest.Reply{Drop: true})...)
			w.gateway.SetMode(relaytest.ModeOneShot)
			w.until("some echoes broke off", func() bool { return w.sentFrames() >= 3 })
			if n, most := w.sentFrames(), int(time.Since(began)/probeWait)+2; n > most {
				t.Errorf("%d echoes, want %d at most", n, most)
			}
			w.onlyEchoes()
		}, offline, func(w *world, _ *relaytest.GatewayConfig) { w.consumer.Breaker.Probes = []time.Duration{probeWait} })
	}},
	{"67_a_kept_session_does_not_keep_the_next_client_waiting", func(t *testing.T, url string) {
		w := newWorld(t, url, inSessions, offline)
		w.addGateway("hull", relaytest.ModePersistent)
		w.run()
		w.enqueue(newCreate())
		w.until("a session is kept", func() bool { return strings.Contains(w.log.String(), "session kept") })
		before := w.connects.Load()
		w.broker.DetachLinks() // the accept that waits fails
		w.until("the consumer connects anew", func() bool { return w.connects.Load() > before })
		w.connectAnew()
		a := newCreate()
		w.send(a.messageTo("hull"))
		w.until("another gateway's action flows", func() bool { return w.row(a.id()).Status == store.Confirmed })
	}},
	{"67_copies_cannot_be_sent", func(t *testing.T, url string) {
		w := newWorld(t, url, inSessions)
		w.gateway.Script(relaytest.Reply{Text: `{"status":"error","message":"database is locked"}`})
		w.addGateway("hull", "")
		var clients atomic.Int64
		w.consumer.Connect = func() (*azservicebus.Client, error) {
			if clients.Add(1) > 1 {
				return nil, errors.New("no right to send")
			}
			return w.connect()
		}
		w.run()
		w.enqueue(newCreate())
		w.until("settling fails", func() bool { return strings.Contains(w.log.String(), "settled by a later delivery") })
		for range 20 {
			a := newCreate()
			w.send(a.messageTo("hull"))
			w.until("another gateway's action flows", func() bool { return w.row(a.id()).Status == store.Confirmed })
		}
		if n := strings.Count(w.log.String(), "settled by a later delivery"); n > 5 {
			t.Errorf("settled in a tight loop: %d times", n)
		}
	}},
	{"76_a_kept_session_holds_nobody_elses_turn", func(t *testing.T, url string) {
		w := newWorld(t, url, inSessions, func(_ *world, g *relaytest.GatewayConfig) { g.Mode = relaytest.ModeOffline })
		w.addGateway("hull", "")
		north := "north"
		w.addRelay(provider, &north, w.relay.Addr(), "hull", "LEEDS_KEY")
		now, later, phase := time.Now(), time.Now().Add(time.Hour), string(relay.PhaseNoListener)
		w.must(w.store.SaveHealth(context.Background(), store.Health{
			Relay: w.relay.Addr() + "/" + provider, Failures: 3, FailingSince: &now, OpenedAt: &now, NextProbeAt: &later, LastPhase: &phase, LastFailureAt: &now,
		}))
		waits := newCreate()
		w.enqueue(waits)
		w.run()
		w.until("the session is kept, with its message in hand", func() bool { return strings.Contains(w.log.String(), "session kept") })
		session := consumer.SessionID(provider, &north)
		same, other := newUpdate(waits, "IN PROGRESS"), newCreate()
		for _, a := range []action{same, other} {
			m := a.message()
			m.SessionID, m.ApplicationProperties["setting_id"] = &session, north
			w.send(m)
		}
		w.until("the other setting's actions flow", func() bool { return w.row(other.id()).Status == store.Confirmed })
	}},
	{"77_two_replicas_send_one_echo", func(t *testing.T, url string) {
		w := newWorld(t, url, offline, func(w *world, g *relaytest.GatewayConfig) {
			g.Mode, g.Slots, w.gateways.AckTimeout = relaytest.ModeSilent, 4, time.Second // longer than the wait between two probes
		})
		now, phase := time.Now(), string(relay.PhaseNoListener)
		w.must(w.store.SaveHealth(context.Background(), store.Health{ // as a third replica found it
			Relay: w.relay.Addr() + "/" + provider, Failures: 3, FailingSince: &now, OpenedAt: &now, NextProbeAt: &now, LastPhase: &phase, LastFailureAt: &now,
		}))
		for _, c := range []*consumer.Consumer{w.consumer, w.replica()} {
			c.Concurrency = 1
			w.runAnother(c)
		}
		for range 20 { // so that each replica has some
			w.enqueue(newCreate())
		}
		probes := w.health().Probes
		w.until("it is probed while both wait", func() bool { return w.health().Probes >= probes+3 })
		if n := w.relay.Stats(provider).MaxOpen; n != 1 {
			t.Errorf("%d connections of ours at once, want 1", n)
		}
		for _, frame := range w.gateway.Frames() {
			if !bytes.Contains(frame, []byte("echo")) {
				t.Error("more than an echo was sent")
			}
		}
	}},
}

// probeWait is between two echoes where a test counts them.
const probeWait = 500 * time.Millisecond
