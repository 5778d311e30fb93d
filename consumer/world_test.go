package consumer_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/uuid"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

const (
	queue    = "worklist-commands"
	provider = "leeds"
	patience = 4 * time.Minute // for calls that have to end; never what a test expects
)

// world is a queue, a relay with one gateway, a database, and a consumer
// between them: all real, on loopback.
type world struct {
	t        testing.TB
	broker   *servicebustest.Server
	relay    *relaytest.Server
	gateway  *relaytest.Gateway
	store    *store.Store
	gateways *relay.Client
	consumer *consumer.Consumer
	client   *azservicebus.Client
	sender   *azservicebus.Sender // of client; nil before the first message
	ahead    atomic.Int64         // how far the consumer's and the store's clock is ahead, in nanoseconds
	log      *logBuffer
	lock     time.Duration // of messages and sessions
	sessions bool          // the queue requires them
	most     int           // deliveries of a message; 0: 10
	largest  int           // bytes of a message; 0: 4 MiB
	connects atomic.Int64  // clients opened by consumers and tests
	url      string        // of the database
	proxy    *proxy        // before it; nil: none
	told     *recorder     // metrics and spans of the consumer

	confirmed map[string]bool       // actions that were seen to be
	hurryDead func(*consumer.Waits) // changes the waits of dead; nil: not
}

// newWorld makes one with the database at url. change may alter the consumer
// and the gateway before anything starts. Whatever a test does in it, at its end
// no participant's details are anywhere outside message bodies.
func newWorld(t testing.TB, url string, change ...func(*world, *relaytest.GatewayConfig)) *world {
	t.Helper()
	return newWorldWith(t, url, relaytest.Config{RendezvousTimeout: time.Minute}, change...)
}

func newWorldWith(t testing.TB, url string, config relaytest.Config, change ...func(*world, *relaytest.GatewayConfig)) *world {
	t.Helper()
	w := &world{t: t, url: url, log: &logBuffer{}, lock: 10 * time.Second, told: newRecorder(t), confirmed: map[string]bool{}}
	w.store = storetest.Open(t, url, store.WithClock(w.now))
	var err error
	config.HybridConnections = []relaytest.HybridConnection{{Path: provider, Keys: []relaytest.Key{sendKey, listenKey}}}
	w.relay, err = relaytest.NewServer(config)
	w.must(err)
	t.Cleanup(func() { w.check(w.relay.Close()) })
	w.gateways = &relay.Client{AckTimeout: time.Minute, HandshakeTimeout: time.Minute, PlainHosts: []string{w.relay.Addr()}}
	w.consumer = &consumer.Consumer{
		Connect: w.connect, Queue: queue, Store: w.store, Relay: w.gateways,
		Secret: func(variable string) string { return map[string]string{"LEEDS_KEY": sendKey.Key}[variable] },
		// Of its own accord no breaker opens here but on a dead end or a refused token.
		Breaker: relay.BreakerPolicy{Span: time.Hour, Probes: []time.Duration{50 * time.Millisecond}},
		Retry: consumer.RetryPolicy{
			Delays:        []time.Duration{50 * time.Millisecond},
			Postponements: []time.Duration{50 * time.Millisecond},
		},
		Now: w.now,
		Log: slog.New(slog.NewJSONHandler(w.log, nil)),

		Metrics: w.told.meters, Traces: w.told.tracers,
	}
	w.consumer.Hurry(quick)
	gateway := relaytest.GatewayConfig{Name: provider, Relay: w.relay, Key: listenKey, ReconnectDelay: 50 * time.Millisecond}
	for _, c := range change {
		c(w, &gateway)
	}
	w.consumer.Sessions = w.sessions
	w.broker, err = servicebustest.NewServer(servicebustest.Config{
		Queues: []servicebustest.Queue{{
			Name: queue, LockDuration: w.lock, MaxDeliveryCount: w.most, RequiresSession: w.sessions,
			DeadLetteringOnExpiration: true, MaxMessageBytes: cmp.Or(w.largest, 4<<20),
		}, {Name: outcomeQueue}, {Name: outcomeQueue + "-unique", RequiresDuplicateDetection: true, RequiresSession: true}},
		KeyName: "test", Key: leaktest.BrokerKey,
	})
	w.must(err)
	t.Cleanup(func() { w.check(w.broker.Close()) })
	w.gateway, err = relaytest.NewGateway(gateway)
	w.must(err)
	t.Cleanup(func() { w.check(w.gateway.Close()) })
	t.Cleanup(func() { w.check(w.gateways.Close()) })
	w.client, err = w.connect()
	w.must(err)
	t.Cleanup(func() { w.check(w.client.Close(context.Background())) })
	w.addRelay(provider, nil, w.relay.Addr(), provider, "LEEDS_KEY")
	t.Cleanup(w.noLeaks)
	return w
}

// quick looks and tries again often. What bounds a call to something that answers stays.
func quick(d *consumer.Waits) {
	d.FirstBackoff, d.StoreProbe, d.RecordRetry = 20*time.Millisecond, 20*time.Millisecond, 20*time.Millisecond
	d.AfterEarlier = 50 * time.Millisecond
}

// noLeaks looks for canaries everywhere but in bodies.
func (w *world) noLeaks() {
	w.t.Helper()
	leaktest.Check(w.t, "the log", w.log.String())
	leaktest.Database(w.t, w.url)
	w.told.noLeaks()
	for _, m := range w.tellings() {
		leaktest.Check(w.t, "an outcome", string(m.Body)+fmt.Sprint(m.ApplicationProperties, m.MessageID, text(m.SessionID)))
	}
	for _, m := range w.readableDeadLetters() {
		leaktest.Properties(w.t, "a dead letter", m.ApplicationProperties)
		leaktest.Check(w.t, "a dead letter", fmt.Sprint(m.MessageID, text(m.CorrelationID), text(m.Subject), text(m.To), text(m.ReplyTo), text(m.SessionID)))
	}
}

var (
	sendKey   = relaytest.Key{Name: "send", Key: leaktest.RelayKey, Send: true}
	listenKey = relaytest.Key{Name: "listen", Key: "c3ludGhldGljLWxpc3Rlbg==", Listen: true}
)

// running is newWorld with the consumer at work until the test ends.
func running(t testing.TB, url string, change ...func(*world, *relaytest.GatewayConfig)) *world {
	t.Helper()
	w := newWorld(t, url, change...)
	w.run()
	return w
}

// inSessions makes a world's queue a session queue.
func inSessions(w *world, _ *relaytest.GatewayConfig) { w.sessions = true }

// run starts the consumer; the returned function stops it and waits.
func (w *world) run() (stop func()) { return w.runAnother(w.consumer) }

// replica is another consumer of the world's queue, with connections of its own.
func (w *world) replica() *consumer.Consumer {
	w.t.Helper()
	gateways := &relay.Client{AckTimeout: w.gateways.AckTimeout, HandshakeTimeout: w.gateways.HandshakeTimeout, PlainHosts: w.gateways.PlainHosts}
	w.t.Cleanup(func() { w.check(gateways.Close()) })
	c := w.consumer
	replica := &consumer.Consumer{
		Connect: c.Connect, Queue: c.Queue, Sessions: c.Sessions, Store: c.Store, Relay: gateways, Secret: c.Secret,
		Concurrency: c.Concurrency, Retry: c.Retry, Breaker: c.Breaker, Now: c.Now, Log: c.Log,
	}
	replica.Hurry(quick)
	return replica
}

func (w *world) runAnother(c *consumer.Consumer) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		w.check(<-done)
	})
	w.t.Cleanup(stop)
	return stop
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func (w *world) connect() (*azservicebus.Client, error) {
	w.connects.Add(1)
	return azservicebus.NewClientFromConnectionString(w.broker.ConnectionString(), &azservicebus.ClientOptions{
		RetryOptions: azservicebus.RetryOptions{RetryDelay: 20 * time.Millisecond, MaxRetryDelay: 100 * time.Millisecond},
	})
}

// addGateway is one more gateway, of a provider of its name.
func (w *world) addGateway(name string, mode relaytest.Mode) *relaytest.Gateway {
	w.t.Helper()
	w.relay.Create(relaytest.HybridConnection{Path: name, Keys: []relaytest.Key{sendKey, listenKey}})
	g, err := relaytest.NewGateway(relaytest.GatewayConfig{Name: name, Relay: w.relay, Key: listenKey, Mode: mode, ReconnectDelay: 50 * time.Millisecond})
	w.must(err)
	w.t.Cleanup(func() { w.check(g.Close()) })
	w.addRelay(name, nil, w.relay.Addr(), name, "LEEDS_KEY")
	return g
}

func (w *world) addRelay(provider string, setting *string, namespace, path, variable string) {
	w.t.Helper()
	name := sendKey.Name
	w.must(w.store.ReplaceRelay(context.Background(), store.Relay{
		ProviderID: provider, SettingID: setting, Namespace: namespace, HybridConnection: path, KeyName: &name, KeyVariable: &variable,
	}, store.By{Who: "test"}))
}

// send enqueues messages as they are.
func (w *world) send(messages ...*azservicebus.Message) {
	w.t.Helper()
	for _, m := range messages {
		w.must(w.link().SendMessage(context.Background(), m, nil))
	}
}

func (w *world) link() *azservicebus.Sender {
	w.t.Helper()
	if w.sender == nil {
		var err error
		w.sender, err = w.client.NewSender(queue, nil)
		w.must(err)
	}
	return w.sender
}

// enqueue sends actions of the world's provider, and returns the first's id.
func (w *world) enqueue(actions ...action) string {
	w.t.Helper()
	batch, err := w.link().NewMessageBatch(context.Background(), nil)
	w.must(err)
	for _, a := range actions {
		w.must(batch.AddMessage(a.message(), nil))
	}
	w.must(w.link().SendMessageBatch(context.Background(), batch, nil))
	return actions[0].id()
}

// until polls for what must come true, and fails the test when it does not.
func (w *world) until(what string, true func() bool) {
	w.t.Helper()
	looked := 0
	soon := func() bool { // and less often once it takes long: to look costs a query
		looked++
		return (looked < 20 || looked%5 == 0) && true()
	}
	suite.Until(w.t, what, soon, func() string { return fmt.Sprintf("queue %+v\n%s", w.broker.Queues(), w.log) })
}

func (w *world) queueState() servicebustest.QueueState { return w.broker.Queues()[0] }

// drained waits until no message is left outside the dead-letter queue.
func (w *world) drained() {
	w.t.Helper()
	w.until("the queue is empty", func() bool {
		q := w.queueState()
		return q.Active+q.Locked+q.Scheduled == 0
	})
}

// waiting waits until n messages are scheduled and none is at work.
func (w *world) waiting(n int) {
	w.t.Helper()
	w.until(fmt.Sprintf("%d messages wait", n), func() bool {
		q := w.queueState()
		return q.Active+q.Locked == 0 && q.Scheduled == n
	})
}

// row is the action's row; zero where there is none.
func (w *world) row(id string) store.Action {
	w.t.Helper()
	return w.rows(id)[id]
}

// rows are those of actions, by id.
func (w *world) rows(ids ...string) map[string]store.Action {
	w.t.Helper()
	rows, err := w.store.ActionsByID(context.Background(), ids)
	w.must(err)
	return rows
}

func (w *world) attempts(id string) []store.Attempt {
	w.t.Helper()
	_, attempts, _, err := w.store.Action(context.Background(), "", id)
	w.must(err)
	return attempts
}

// hasRow checks what most situations say of the row.
func (w *world) hasRow(id string, status store.Status, reason consumer.Reason, phase relay.Phase) store.Action {
	w.t.Helper()
	row := w.row(id)
	if row.Status != status || text(row.Reason) != string(reason) || text(row.LastPhase) != string(phase) {
		w.t.Errorf("row is %q, reason %q, phase %q (%s), want %q, %q, %q\n%s", row.Status, text(row.Reason), text(row.LastPhase), text(row.LastError), status, reason, phase, w.log)
	}
	return row
}

// deadLetters are the messages in the dead-letter queue.
func (w *world) deadLetters() []*azservicebus.ReceivedMessage {
	w.t.Helper()
	receiver, err := w.client.NewReceiverForQueue(queue, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	w.must(err)
	defer receiver.Close(context.Background())
	messages, err := receiver.PeekMessages(context.Background(), 100, nil)
	w.must(err)
	return messages
}

// readableDeadLetters are those that the SDK does not panic on.
func (w *world) readableDeadLetters() (readable []*azservicebus.ReceivedMessage) {
	w.t.Helper()
	all := w.broker.Messages(deadName)
	if len(all) == 0 {
		return nil
	}
	client, err := w.connect() // the test's own may be closed by now
	w.must(err)
	defer client.Close(context.Background())
	receiver, err := client.NewReceiverForQueue(queue, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	w.must(err)
	for _, known := range all {
		func() {
			defer func() { _ = recover() }() // situation 19: it is unreadable, and says nothing therefore
			messages, err := receiver.PeekMessages(context.Background(), 1, &azservicebus.PeekMessagesOptions{FromSequenceNumber: &known.SequenceNumber})
			w.check(err)
			readable = append(readable, messages...)
		}()
	}
	return readable
}

// deadLetter is the one dead letter there must be, with this reason.
func (w *world) deadLetter(reason consumer.Reason) (description string) {
	w.t.Helper()
	w.drained()
	letters := w.deadLetters()
	if len(letters) != 1 {
		w.t.Fatalf("%d dead letters, want 1\n%s", len(letters), w.log)
	}
	if got := text(letters[0].DeadLetterReason); got != string(reason) {
		w.t.Fatalf("dead letter's reason is %q (%s), want %q", got, text(letters[0].DeadLetterErrorDescription), reason)
	}
	return text(letters[0].DeadLetterErrorDescription)
}

// noDeadLetter waits for the queue to drain and checks that nothing died.
func (w *world) noDeadLetter() {
	w.t.Helper()
	w.drained()
	if letters := w.deadLetters(); len(letters) != 0 {
		w.t.Fatalf("dead letter %q: %s\n%s", text(letters[0].DeadLetterReason), text(letters[0].DeadLetterErrorDescription), w.log)
	}
}

// sentFrames is how many action frames reached the gateway.
func (w *world) sentFrames() int { return len(w.gateway.Frames()) }

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Error(err)
	}
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// action is the body of an action, for tests to spoil.
type action map[string]any

var accessions atomic.Int64

// newCreate is a create for tomorrow, so that no test ends in another clinic day
// than it began in; with a canary in every field.
func newCreate() action {
	tomorrow := time.Now().UTC().AddDate(0, 0, 1).Format("20060102")
	return asAction(leaktest.Create(uuid.NewString(), fmt.Sprintf("SYN%08d", accessions.Add(1)), tomorrow))
}

// newUpdate moves the item of a create.
func newUpdate(of action, status string) action {
	return asAction(leaktest.Update(uuid.NewString(), of.accession(), status))
}

func asAction(body map[string]any) action {
	a := action{}
	for key, value := range body {
		if nested, ok := value.(map[string]any); ok {
			value = asAction(nested)
		}
		a[key] = value
	}
	return a
}

func (a action) id() string        { return a["action_id"].(string) }
func (a action) accession() string { return a.item()["accession_number"].(string) }
func (a action) item() action      { return a["parameters"].(action)["worklist_item"].(action) }

// with is a deep copy in which the value at a dotted path below the item, or of
// the envelope, is replaced; nil removes it.
func (a action) with(path string, value any) action {
	clone := maps.Clone(a)
	key, rest, nested := strings.Cut(path, ".")
	switch {
	case nested:
		clone[key] = clone[key].(action).with(rest, value)
	case value == nil:
		delete(clone, key)
	default:
		clone[key] = value
	}
	return clone
}

func (a action) body() []byte {
	body, err := json.Marshal(a)
	if err != nil {
		panic(err)
	}
	return body
}

func (a action) message() *azservicebus.Message { return a.messageTo(provider) }

// messageTo is the action for another provider's gateway.
func (a action) messageTo(provider string) *azservicebus.Message {
	session := consumer.SessionID(provider, nil)
	return &azservicebus.Message{Body: a.body(), SessionID: &session, ApplicationProperties: map[string]any{
		"provider_id": provider, leaktest.PropertyName: leaktest.Property,
	}}
}

// logBuffer keeps what was logged, to be shown where a test fails.
type logBuffer struct {
	mu  sync.Mutex // guards buf
	buf strings.Builder
}

var _ io.Writer = (*logBuffer)(nil)

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
