package consumer_test

import (
	"bytes"
	"context"
	"database/sql"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// The row was marked sent, and the database's answer got lost: nothing may be
// sent on that, and it must not pass for evidence later. SQLite has no way on which
// the answer could get lost: it commits in the process that asks, and a write that
// has begun is waited for whatever ends meanwhile (store: TestContextOfAWriteThatHasBegun).
func TestMarkAnswerLost(t *testing.T) {
	t.Parallel()
	t.Run("offered again while it is on the way", func(t *testing.T) {
		t.Parallel()
		w, p := behindProxy(t)
		p.loseAnswerTo("SET status = 'sent'")
		w.run()
		id := w.enqueue(newCreate())
		w.until("the answer is lost", p.cut.Load)
		p.cut.Store(false)
		w.noDeadLetter()
		w.confirmedIn(id, 1)
		w.frames(1)
	})
	t.Run("taken back when the database stays away", func(t *testing.T) {
		t.Parallel()
		w, p := behindProxy(t)
		p.loseAnswerTo("SET status = 'sent'")
		w.gateway.Script(repeat(5, relaytest.Reply{Text: `{"status":"exists"}`})...) // another participant's item
		w.run()
		id := w.enqueue(newCreate())
		w.until("the answer is lost", p.cut.Load)
		w.until("the connection is given back", func() bool { return w.relay.Stats(provider).Open == 0 })
		w.frames(0)
		p.cut.Store(false)
		w.deadLetter(consumer.ReasonAccessionConflict)
		w.hasRow(id, store.Failed, consumer.ReasonAccessionConflict, relay.PhaseAckError)
		w.frames(1)
	})
}

// The service ends while the database's answer to who probes a gateway is on its way.
// What was taken is given back, or nobody would probe until an echo of nobody's must
// have ended. (In SQLite, as above, no answer is on its way.)
func TestProbeTakenWhileStopping(t *testing.T) {
	t.Parallel()
	w, p := behindProxy(t)
	w.consumer.Hurry(func(d *consumer.Waits) { d.StoreLimit = time.Hour })
	began, phase := time.Now(), string(relay.PhaseNoListener)
	w.must(w.store.SaveHealth(context.Background(), store.Health{
		Relay: w.relay.Addr() + "/" + provider, Failures: 3, FailingSince: &began, OpenedAt: &began, NextProbeAt: &began, LastPhase: &phase, LastFailureAt: &began,
	}))
	release := p.holdAnswerTo("SET next_probe_at")
	t.Cleanup(release)
	stop := w.run()
	w.enqueue(newCreate())
	w.until("the probe is taken", func() bool { return w.health().NextProbeAt.After(time.Now().Add(30 * time.Second)) })
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	select {
	case <-stopped:
		t.Error("it stopped without knowing whether the probe is its own")
	case <-time.After(3 * time.Second): // longer than an answer may be late to a caller that has gone
	}
	release()
	<-stopped
	if next := w.health().NextProbeAt; next.After(time.Now()) {
		t.Errorf("the next probe is at %s, and nobody makes it", next)
	}
}

// A database that answers reads and refuses writes is away: nothing is
// received, so that no message spends its deliveries. SQLite refuses writes in the
// connection that makes them, which is the store's own: there TestTakesNoWrites
// shows that both databases are answered for alike.
func TestDatabaseTakesNoWrites(t *testing.T) {
	t.Parallel()
	address := storetest.URL(t, "postgres")
	w := newWorld(t, address)
	db, err := sql.Open("postgres", address)
	w.must(err)
	defer db.Close()
	refuse := `CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = '53100'; END $$;
		CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON actions FOR EACH ROW EXECUTE FUNCTION full_disk();
		CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON pulse FOR EACH ROW EXECUTE FUNCTION full_disk()`
	_, err = db.Exec(refuse)
	w.must(err)
	var all []action
	for range 40 {
		all = append(all, newCreate())
	}
	w.enqueue(all...)
	w.run()
	w.until("it is not ready", func() bool { return w.consumer.Ready() != nil })
	w.until("what was in hand is left to its lock", func() bool {
		locked := w.queueState().Locked
		return locked > 0 && strings.Count(w.log.String(), "left to its lock") == locked
	})
	for range 12 { // as many lock times as would dead-letter what is received again
		w.broker.ExpireLocks()
	}
	if q := w.queueState(); q.DeadLettered != 0 || q.Active+q.Locked != len(all) {
		t.Errorf("an outage cost deliveries: %+v", q)
	}
	_, err = db.Exec("DROP FUNCTION full_disk CASCADE")
	w.must(err)
	w.noDeadLetter()
	for _, a := range all {
		w.confirmedIn(a.id(), 1)
	}
}

// A service that does not agree with its queue about sessions says so, and goes on
// when they do.
func TestQueueOfTheOtherKind(t *testing.T) {
	t.Parallel()
	for _, sessions := range []bool{false, true} {
		w := newWorld(t, storetest.URL(t, "sqlite"), func(w *world, _ *relaytest.GatewayConfig) { w.sessions = sessions })
		w.consumer.Sessions = !sessions
		w.run()
		w.until("it says what is wrong", func() bool { return strings.Contains(w.log.String(), "do not agree whether it requires sessions") })
		if w.consumer.Ready() == nil {
			t.Error("it is ready")
		}
		w.noTightLoop()
	}
}

// behindProxy is a world whose database is PostgreSQL behind a proxy.
func behindProxy(t *testing.T) (*world, *proxy) {
	t.Helper()
	address, p := proxied(t, storetest.URL(t, "postgres"))
	return newWorld(t, address), p
}

// proxy passes bytes on until it is to hold an answer back, or to lose it: then it
// cuts every connection, and refuses new ones until cut is set to false.
type proxy struct {
	listener net.Listener
	to       string
	marker   atomic.Pointer[string] // what the request holds whose answer is lost, or held
	held     chan struct{}          // until when; nil: it is lost
	cut      atomic.Bool
	running  sync.WaitGroup

	mu   sync.Mutex // guards open
	open map[net.Conn]bool
}

func startProxy(t *testing.T, to string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, to: to, open: map[net.Conn]bool{}}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		listener.Close()
		p.closeAll()
		p.running.Wait()
	})
	return p
}

func (p *proxy) loseAnswerTo(marker string) { p.marker.Store(&marker) }

// holdAnswerTo is called before anything is asked.
func (p *proxy) holdAnswerTo(marker string) (release func()) {
	p.held = make(chan struct{})
	p.marker.Store(&marker)
	return sync.OnceFunc(func() { close(p.held) })
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.DialTimeout("tcp", p.to, patience)
		if err != nil || p.cut.Load() {
			client.Close()
			if server != nil {
				server.Close()
			}
			continue
		}
		p.keep(client, server)
		var lose atomic.Bool
		p.running.Go(func() { p.pass(server, client, func(b []byte) bool { p.watch(b, &lose); return true }) })
		p.running.Go(func() { p.pass(client, server, func([]byte) bool { return !lose.Load() || p.hold() }) })
	}
}

// hold reports whether there is an answer to be held, when it may go.
func (p *proxy) hold() bool {
	if p.held != nil {
		<-p.held
	}
	return p.held != nil
}

// watch notes that this is the request whose answer is meant.
func (p *proxy) watch(request []byte, lose *atomic.Bool) {
	if marker := p.marker.Load(); marker != nil && bytes.Contains(request, []byte(*marker)) {
		p.marker.Store(nil)
		lose.Store(true)
	}
}

// pass copies from one side to the other. When may says no, what was read is
// dropped, and so is every connection.
func (p *proxy) pass(to, from net.Conn, may func([]byte) bool) {
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if !may(buffer[:n]) {
			p.cut.Store(true)
			p.closeAll()
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) keep(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.open[c] = true
	}
}

func (p *proxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		c.Close()
	}
	clear(p.open)
}
