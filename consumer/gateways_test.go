package consumer

import (
	"context"
	"database/sql"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// What is learned while an earlier state is being written is written after it: else
// a gateway that is back would stay away in SQL.
func TestSaveWhileLearning(t *testing.T) {
	t.Parallel()
	address := storetest.URL(t, "sqlite")
	c := &Consumer{Store: storetest.Open(t, address)}
	c.gateways.start(t.Context(), c)
	w := c.gateways.at(t.Context(), route{hybridConnection: relay.HybridConnection{Namespace: "ns.servicebus.windows.net", Path: "hc-leeds"}})
	w.learn(&relay.Error{Phase: relay.PhaseEndpoint, Sent: relay.SentNo})

	release := lockFile(t, strings.TrimPrefix(address, "sqlite:"))
	var saving sync.WaitGroup
	saving.Go(func() { w.save(context.Background()) })
	for tick := time.NewTicker(time.Millisecond); w.saving.TryLock(); <-tick.C {
		w.saving.Unlock() // it has not begun
	}
	w.learn(nil)
	release()
	saving.Wait()
	w.save(t.Context())

	health, err := c.Store.Health(t.Context(), w.name)
	if err != nil || health.OpenedAt != nil || health.LastLifeAt == nil {
		t.Errorf("SQL says %+v, %v: want a gateway that is back", health, err)
	}
}

// lockFile keeps other writers off a SQLite file until release is called.
func lockFile(t *testing.T, file string) (release func()) {
	t.Helper()
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	connection, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := connection.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	return func() {
		_, err := connection.ExecContext(context.Background(), "ROLLBACK")
		if err != nil || connection.Close() != nil || db.Close() != nil {
			t.Error("lock not released", err)
		}
	}
}
