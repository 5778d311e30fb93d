package main_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/uuid"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

const queue = "worklist-commands"

var (
	sendKey   = relaytest.Key{Name: "send", Key: leaktest.RelayKey, Send: true}
	listenKey = relaytest.Key{Name: "listen", Key: "c3ludGhldGljLWxpc3Rlbg==", Listen: true}
)

// scene is a queue, a relay with one gateway and a database in the test, each
// behind a proxy, and what the program needs to know of them.
type scene struct {
	t        *testing.T
	database string // URL, not through the proxy
	broker   *servicebustest.Server
	relay    *relaytest.Server
	gateway  *relaytest.Gateway // of provider leeds
	store    *store.Store
	client   *azservicebus.Client
	env      map[string]string // of the program

	toBroker, toRelay *proxy
	toDatabase        *proxy // nil with SQLite
}

func newScene(t *testing.T, dialect string) *scene {
	t.Helper()
	s := &scene{t: t, database: storetest.URL(t, dialect)}
	s.store = storetest.Open(t, s.database)
	var err error
	s.broker, err = servicebustest.NewServer(servicebustest.Config{
		// A short lock, since what is given back may go to a process that was killed once more.
		Queues:  []servicebustest.Queue{{Name: queue, LockDuration: 15 * time.Second}},
		KeyName: "test", Key: leaktest.BrokerKey,
	})
	s.must(err)
	t.Cleanup(func() { s.check(s.broker.Close()) })
	s.client, err = azservicebus.NewClientFromConnectionString(s.broker.ConnectionString(), nil)
	s.must(err)
	t.Cleanup(func() { s.check(s.client.Close(context.Background())) })
	s.relay, err = relaytest.NewServer(relaytest.Config{})
	s.must(err)
	t.Cleanup(func() { s.check(s.relay.Close()) })
	s.toBroker, s.toRelay = startProxy(t, s.broker.Addr()), startProxy(t, s.relay.Addr())
	s.env = map[string]string{
		"SERVICEBUS_CONNECTION_STRING": strings.Replace(s.broker.ConnectionString(), s.broker.Addr(), s.toBroker.addr(), 1),
		"DATABASE_URL":                 s.database, "RELAY_PLAIN_HOSTS": s.toRelay.addr(), "LEEDS_KEY": sendKey.Key,
		"CLINIC_TIME_ZONE": "UTC", "RETRY_DELAYS": "1s", "POSTPONE_DELAYS": "1s",
	}
	if address, err := url.Parse(s.database); dialect == "postgres" {
		s.must(err)
		s.toDatabase = startProxy(t, address.Host)
		address.Host = s.toDatabase.addr()
		s.env["DATABASE_URL"] = address.String()
	}
	s.gateway = s.addGateway("leeds")
	t.Cleanup(func() { leaktest.Database(t, s.database) })
	return s
}

// addGateway starts the gateway of one provider more, under its name.
func (s *scene) addGateway(provider string) *relaytest.Gateway {
	s.t.Helper()
	s.relay.Create(relaytest.HybridConnection{Path: provider, Keys: []relaytest.Key{sendKey, listenKey}})
	g, err := relaytest.NewGateway(relaytest.GatewayConfig{Name: provider, Relay: s.relay, Key: listenKey, ReconnectDelay: 50 * time.Millisecond})
	s.must(err)
	s.t.Cleanup(func() { s.check(g.Close()) })
	variable := "LEEDS_KEY"
	s.must(s.store.AddRelay(context.Background(), store.Relay{
		ProviderID: provider, Namespace: s.toRelay.addr(), HybridConnection: provider, KeyName: &sendKey.Name, KeyVariable: &variable,
	}, store.By{Who: "test"}))
	return g
}

// enqueue sends a create for tomorrow and returns its action id.
func (s *scene) enqueue(provider string) string {
	s.t.Helper()
	id := uuid.NewString()
	body, err := json.Marshal(leaktest.Create(id, "SYN"+id[:8], time.Now().UTC().AddDate(0, 0, 1).Format("20060102")))
	s.must(err)
	m, err := consumer.Encode(provider, nil, body)
	s.must(err)
	sender, err := s.client.NewSender(queue, nil)
	s.must(err)
	defer sender.Close(context.Background())
	s.must(sender.SendMessage(context.Background(), m, nil))
	return id
}

// endClaims lets the lease of every claim, and the lock of every message, run out.
func (s *scene) endClaims() {
	s.t.Helper()
	db, err := s.open()
	s.must(err)
	defer db.Close()
	_, err = db.Exec("UPDATE actions SET claimed_until = received_at WHERE claimed_until IS NOT NULL")
	s.must(err)
	s.broker.ExpireLocks()
}

// open opens the database without the store.
func (s *scene) open() (*sql.DB, error) {
	if file, ok := strings.CutPrefix(s.database, "sqlite:"); ok {
		return sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(10000)")
	}
	return sql.Open("postgres", s.database)
}

func (s *scene) until(what string, true func() bool) {
	s.t.Helper()
	suite.Until(s.t, what, true, func() string { return fmt.Sprintf("queue %+v", s.queueState()) })
}

func (s *scene) queueState() servicebustest.QueueState { return s.broker.Queues()[0] }

// row is the action's row; zero where there is none yet.
func (s *scene) row(id string) store.Action {
	s.t.Helper()
	row, _, _, err := s.store.Action(context.Background(), "", id)
	if !errors.Is(err, store.ErrNoAction) {
		s.must(err)
	}
	return row
}

// sent checks that an action is marked sent, and that count frames came so far.
func (s *scene) sent(id string, count int) {
	s.t.Helper()
	if row := s.row(id); row.Status != store.Sent || row.SentAt == nil {
		s.t.Errorf("row is %q, sent at %v, want it marked sent", row.Status, row.SentAt)
	}
	s.frames(count)
}

func (s *scene) frames(want int) {
	s.t.Helper()
	if got := len(s.gateway.Frames()); got != want {
		s.t.Errorf("%d frames reached the gateway, want %d", got, want)
	}
}

// confirmed waits until the queue is empty, and checks that no message died,
// that the action is confirmed, and that the gateway holds its item once.
func (s *scene) confirmed(id string, duplicate bool) {
	s.t.Helper()
	s.until("the queue is empty", func() bool { q := s.queueState(); return q.Active+q.Locked+q.Scheduled == 0 })
	if n := s.queueState().DeadLettered; n != 0 {
		s.t.Errorf("%d dead letters", n)
	}
	if row := s.row(id); row.Status != store.Confirmed || row.Duplicate != duplicate {
		s.t.Errorf("row is %q, duplicate %v, want confirmed and %v", row.Status, row.Duplicate, duplicate)
	}
	if items := s.gateway.Snapshot().Items; len(items) != 1 || items[0].ActionID != id || items[0].Writes != 1 {
		s.t.Errorf("the gateway holds %+v, want one item, written once", items)
	}
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Error(err)
	}
}
