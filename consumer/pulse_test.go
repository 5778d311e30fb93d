package consumer_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// longAfter moves the clock past what any promise allows.
func (w *world) longAfter() { w.ahead.Add(int64(2 * time.Hour)) }

// Only what a new process mends is a reason to say that the service is not
// alive: a call that never returns is, broker and database being away are not.
func TestAlive(t *testing.T) {
	t.Parallel()
	for _, sessions := range []bool{false, true} {
		t.Run(fmt.Sprintf("sessions=%t", sessions), func(t *testing.T) {
			t.Parallel()
			address, p := proxied(t, storetest.URL(t, "sqlite"))
			w := newWorld(t, address, func(w *world, _ *relaytest.GatewayConfig) { w.sessions = sessions })
			w.proxy = p
			w.consumer.Watchdog, w.consumer.TellOwed, w.consumer.OutcomeQueue = 4*time.Second, 50*time.Millisecond, outcomeQueue
			w.consumer.Hurry(func(d *consumer.Waits) { d.ReceiveDeadline = 200 * time.Millisecond })
			stuck, connect := make(chan struct{}), w.consumer.Connect
			w.consumer.Connect = func() (*azservicebus.Client, error) {
				<-stuck
				return connect()
			}
			alive := func() bool { return w.consumer.Alive() == nil }
			if !alive() {
				t.Error("not alive before Run")
			}
			stop := w.run()
			w.until("receiving begins", func() bool { w.longAfter(); return !alive() })
			if err := w.consumer.Alive(); err == nil || !strings.HasPrefix(err.Error(), "receiving: ") {
				t.Errorf("stuck in a call, it says %v", err)
			}
			close(stuck)
			w.until("it goes on", func() bool { return w.consumer.Ready() == nil && alive() })

			turns := func(while string) {
				for range 2 { // the first may be the end of what was under way
					w.longAfter()
					w.until("it turns "+while, alive)
				}
			}
			turns("while the queue is empty")
			back := w.loseDatabase()
			w.enqueue(newCreate())
			w.until("the database is missed", func() bool { return !w.standing()["database"].OK })
			turns("without a database")
			back()
			w.must(w.broker.Close())
			w.until("the broker is missed", func() bool {
				return strings.Contains(w.log.String(), "queue not available, trying again")
			})
			turns("without a broker")
			stop()
			w.longAfter()
			if !alive() {
				t.Error("not alive after Run:", w.consumer.Alive())
			}
		})
	}
}

// The dependencies say what is wrong with each, and a gateway that is away is
// none that the service waits for.
func TestDependencies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"))
	w.enqueue(newCreate())
	w.must(w.gateway.Close())
	w.consumer.Breaker.Span = time.Nanosecond
	w.run()
	w.until("the gateway is known to be away", func() bool { return !w.standing()["gateways"].OK })
	want := map[string]consumer.Dependency{
		"service_bus": {Name: "service_bus", OK: true, Needed: true},
		"database":    {Name: "database", OK: true, Needed: true},
		"gateways":    {Name: "gateways", Detail: "1 of 1 cannot be reached, 0 held back"},
	}
	if diff := cmp.Diff(want, w.standing()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if err := w.consumer.Ready(); err != nil {
		t.Errorf("a gateway that is away makes it not ready: %v", err)
	}
	w.must(w.broker.Close())
	w.until("the broker is missed, with the reason", func() bool {
		d := w.standing()["service_bus"]
		return !d.OK && strings.HasPrefix(d.Detail, "queue "+queue+": not receiving: ")
	})
	if text, err := json.Marshal(w.consumer.Dependencies()); err != nil || strings.Contains(string(text), "SharedAccess") {
		t.Errorf("as JSON: %s, %v", text, err)
	}
}

// Why the broker did not answer is not told any more once it has.
func TestDependenciesForgetWhatIsMended(t *testing.T) {
	t.Parallel()
	for _, sessions := range []bool{false, true} {
		w := newWorld(t, storetest.URL(t, "sqlite"), func(w *world, _ *relaytest.GatewayConfig) { w.sessions = sessions })
		var refused atomic.Bool
		connect := w.consumer.Connect
		w.consumer.Connect = func() (*azservicebus.Client, error) {
			if !refused.Swap(true) {
				return nil, errors.New("refused for once")
			}
			return connect()
		}
		stop := w.run()
		w.until("it is told", func() bool { return strings.HasSuffix(w.standing()["service_bus"].Detail, ": refused for once") })
		w.enqueue(newCreate())
		w.until("the broker answers", func() bool { return w.standing()["service_bus"].OK })
		stop()
		if d := w.standing()["service_bus"]; d.OK || d.Detail != "queue "+queue+": not receiving" {
			t.Errorf("sessions %t: having stopped of its own accord, it says %+v", sessions, d)
		}
	}
}

// Why the broker is away is told at once, also while an action in hand has its
// ack to come.
func TestDependenciesDoNotWaitForWhatIsInHand(t *testing.T) {
	t.Parallel()
	for _, sessions := range []bool{false, true} {
		w := newWorld(t, storetest.URL(t, "sqlite"), func(w *world, _ *relaytest.GatewayConfig) {
			w.sessions, w.gateways.AckTimeout = sessions, time.Minute
		})
		w.gateway.Script(relaytest.Reply{KeepOpen: true})
		id := w.enqueue(newCreate())
		w.run()
		w.until("the frame is at the gateway", func() bool { return w.sentFrames() == 1 })
		w.must(w.broker.Close())
		w.until("the reason is told", func() bool {
			return strings.HasPrefix(w.standing()["service_bus"].Detail, "queue "+queue+": not receiving: ")
		})
		if status := w.row(id).Status; status != store.Sent {
			t.Errorf("sessions %t: the action is %s, no longer in hand", sessions, status)
		}
		w.must(w.gateways.Close()) // what is in hand is not waited for
	}
}

// standing is the consumer's dependencies by name.
func (w *world) standing() map[string]consumer.Dependency {
	all := map[string]consumer.Dependency{}
	for _, d := range w.consumer.Dependencies() {
		all[d.Name] = d
	}
	return all
}
