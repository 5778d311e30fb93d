package consumer_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"modernc.org/sqlite"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
)

// outageSituations are about a database that is away, and about panics.
var outageSituations = []situation{
	{"70_database_away_before_sending", func(t *testing.T, address string) {
		losing(t, address, func(w *world) {
			back := w.loseDatabase()
			all := []action{newCreate(), newCreate(), newCreate()}
			w.enqueue(all...)
			w.until("it is not ready", func() bool { return w.consumer.Ready() != nil })
			w.frames(0)
			for range 12 { // as many lock times as would dead-letter what is received again
				w.broker.ExpireLocks()
			}
			if q := w.queueState(); q.DeadLettered != 0 || q.Active+q.Locked != len(all) {
				t.Errorf("the outage cost deliveries: %+v", q)
			}
			back()
			w.broker.ExpireLocks()
			w.until("all are confirmed", func() bool { return w.allConfirmed(all) })
			w.writtenOnce(len(all))
		}, shortLease)
	}},
	{"71_database_away_after_the_ack", func(t *testing.T, address string) {
		losing(t, address, func(w *world) {
			acked, goOn := w.stopAfter("exchange")
			id := w.enqueue(newCreate())
			acked()
			back := w.loseDatabase()
			goOn()
			w.until("the ack is there and cannot be recorded", func() bool { return w.consumer.Ready() != nil })
			back()
			w.until("the record comes through", func() bool { return w.row(id).Status == store.Confirmed })
			w.noDeadLetter()
			w.frames(1)
		})
	}},
	{"72_database_back", func(t *testing.T, address string) {
		losing(t, address, func(w *world) {
			back := w.loseDatabase()
			w.enqueue(newCreate())
			w.until("it is not ready", func() bool { return w.consumer.Ready() != nil })
			back()
			w.until("it is ready by itself", func() bool { return w.consumer.Ready() == nil })
			id := w.enqueue(newCreate())
			w.until("flow resumes", func() bool { return w.row(id).Status == store.Confirmed })
			if n := strings.Count(w.log.String(), "database takes writes again"); n != 1 {
				t.Errorf("said %d times that the database is back", n)
			}
		}, shortLease)
	}},
	{"75_panic_before_the_frame", panicBeforeTheFrame},
	{"75_panic_after_the_frame", panicAfterTheFrame},
	{"71_the_record_of_an_ack_is_refused", func(t *testing.T, url string) {
		recordRefused(t, url, relaytest.Reply{Honest: true, Apply: true})
	}},
	{"71_the_record_of_a_refusal_is_refused", func(t *testing.T, url string) {
		recordRefused(t, url, relaytest.Reply{Text: `{"status":"error","message":"No patient name"}`})
	}},
}

// losing is both, with a database that can be taken away.
func losing(t *testing.T, where string, test func(*world), change ...func(*world, *relaytest.GatewayConfig)) {
	t.Helper()
	for _, sessions := range []bool{false, true} {
		address, p := proxied(t, where)
		w := newWorld(t, address, append(change, func(w *world, _ *relaytest.GatewayConfig) {
			w.sessions = sessions
			w.consumer.Hurry(func(d *consumer.Waits) { d.ReceiveDeadline = 200 * time.Millisecond }) // after it the database is looked for
		})...)
		w.proxy = p
		w.run()
		w.until("it is ready", func() bool { return w.consumer.Ready() == nil })
		if test(w); t.Failed() {
			t.Log("sessions:", sessions)
			return
		}
	}
}

// impatient is in the names of SQLite files that tell the program at once that another
// has them locked: else it would wait for ten seconds.
const impatient = "impatient-"

func init() {
	sqlite.RegisterConnectionHook(func(conn sqlite.ExecQuerierContext, dsn string) error {
		if !strings.Contains(dsn, impatient) || !strings.Contains(dsn, "_busy_timeout=") {
			return nil
		}
		_, err := conn.ExecContext(context.Background(), "PRAGMA busy_timeout = 1", nil)
		return err
	})
}

// proxied is the same PostgreSQL database behind a proxy; SQLite has none, and is a new
// file that is [impatient].
func proxied(t *testing.T, address string) (string, *proxy) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	if u.Host == "" {
		return "sqlite:" + filepath.Join(filepath.Dir(strings.TrimPrefix(address, "sqlite:")), impatient+rand.Text()), nil
	}
	p := startProxy(t, u.Host)
	u.Host = p.listener.Addr().String()
	return u.String(), p
}

// loseDatabase takes the world's database away until back is called: PostgreSQL
// behind its proxy, a SQLite file by a lock that another process holds.
func (w *world) loseDatabase() (back func()) {
	w.t.Helper()
	if w.proxy != nil {
		w.proxy.cut.Store(true)
		w.proxy.closeAll()
		return func() { w.proxy.cut.Store(false) }
	}
	file, _ := strings.CutPrefix(w.url, "sqlite:")
	db, err := sql.Open("sqlite", file+"?_pragma=busy_timeout(60000)")
	w.must(err)
	connection, err := db.Conn(context.Background())
	w.must(err)
	_, err = connection.ExecContext(context.Background(), "BEGIN IMMEDIATE")
	w.must(err)
	done := false
	back = func() {
		if !done {
			done = true
			_, err := connection.ExecContext(context.Background(), "ROLLBACK")
			w.check(err)
			w.check(connection.Close())
			w.check(db.Close())
		}
	}
	w.t.Cleanup(back)
	return back
}
