package servicebustest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(suite.Tests(m)) }

// behaviour is one named behaviour of the broker, proven through the real SDK on a server of its own.
type behaviour struct {
	name   string
	queue  servicebustest.Queue                // its name is always "worklist"
	config func(config *servicebustest.Config) // nil: nothing to add
	prove  func(t *testing.T, r *rig)
}

func prove(t *testing.T, behaviours []behaviour) {
	t.Helper()
	for _, b := range behaviours {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			b.queue.Name = queueName
			config := servicebustest.Config{Queues: []servicebustest.Queue{b.queue}}
			if b.config != nil {
				b.config(&config)
			}
			b.prove(t, newRig(t, config))
		})
	}
}

const (
	queueName = "worklist"
	deadName  = queueName + "/$DeadLetterQueue"
)

// rig is a server and an SDK client of it. Its helpers fail the test on any error.
type rig struct {
	t      *testing.T
	ctx    context.Context
	server *servicebustest.Server
	client *azservicebus.Client
}

func newRig(t *testing.T, config servicebustest.Config) *rig {
	t.Helper()
	server, err := servicebustest.NewServer(config)
	must(t, err)
	t.Cleanup(func() { must(t, server.Close()) })
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	r := &rig{t: t, ctx: ctx, server: server}
	r.client = r.dial(server.ConnectionString())
	return r
}

func (r *rig) dial(connectionString string) *azservicebus.Client {
	r.t.Helper()
	client, err := azservicebus.NewClientFromConnectionString(connectionString, &azservicebus.ClientOptions{
		RetryOptions: azservicebus.RetryOptions{MaxRetries: 3, RetryDelay: 20 * time.Millisecond, MaxRetryDelay: 200 * time.Millisecond},
	})
	must(r.t, err)
	r.t.Cleanup(func() { client.Close(context.Background()) })
	return client
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) sender() *azservicebus.Sender {
	r.t.Helper()
	sender, err := r.client.NewSender(queueName, nil)
	must(r.t, err)
	return sender
}

func (r *rig) receiver() *azservicebus.Receiver { return r.receiverOf(nil) }

func (r *rig) deadReceiver() *azservicebus.Receiver {
	return r.receiverOf(&azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
}

func (r *rig) receiverOf(options *azservicebus.ReceiverOptions) *azservicebus.Receiver {
	r.t.Helper()
	receiver, err := r.client.NewReceiverForQueue(queueName, options)
	must(r.t, err)
	return receiver
}

// send sends one message for each body.
func (r *rig) send(bodies ...string) {
	r.t.Helper()
	sender := r.sender()
	for _, body := range bodies {
		must(r.t, sender.SendMessage(r.ctx, &azservicebus.Message{Body: []byte(body)}, nil))
	}
	must(r.t, sender.Close(r.ctx))
}

func (r *rig) sendMessage(m *azservicebus.Message) {
	r.t.Helper()
	sender := r.sender()
	must(r.t, sender.SendMessage(r.ctx, m, nil))
	must(r.t, sender.Close(r.ctx))
}

// receiving is what a Receiver and a SessionReceiver have in common.
type receiving interface {
	ReceiveMessages(context.Context, int, *azservicebus.ReceiveMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
}

// receive returns exactly count messages, in as many calls as it takes. It gives a call the time to fill up: what the SDK fetches
// too late it gives back, and the order is lost.
func (r *rig) receive(receiver receiving, count int) []*azservicebus.ReceivedMessage {
	r.t.Helper()
	var all []*azservicebus.ReceivedMessage
	for len(all) < count {
		messages, err := receiver.ReceiveMessages(r.ctx, count-len(all), &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: 5 * time.Second})
		must(r.t, err)
		all = append(all, messages...)
	}
	return all
}

func (r *rig) receiveOne(receiver receiving) *azservicebus.ReceivedMessage {
	r.t.Helper()
	return r.receive(receiver, 1)[0]
}

// nothing checks that a receiver gets nothing within d.
func (r *rig) nothing(receiver receiving, d time.Duration) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, d)
	defer cancel()
	if messages, err := receiver.ReceiveMessages(ctx, 1, nil); len(messages) > 0 || !errors.Is(err, context.DeadlineExceeded) {
		r.t.Fatalf("received %d messages, error %v; want none within %s", len(messages), err, d)
	}
}

// state waits until the queue's counts are as wanted; want.Name may be left out.
func (r *rig) state(want servicebustest.QueueState) {
	r.t.Helper()
	want.Name = queueName
	r.eventually(func() bool { return slices.Contains(r.server.Queues(), want) }, func() any {
		return struct{ Got, Want any }{r.server.Queues(), want}
	})
}

// eventually waits for a condition, and fails with what describe returns if it does not come about.
func (r *rig) eventually(met func() bool, describe func() any) {
	r.t.Helper()
	suite.Until(r.t, "it came about", met, func() string { return fmt.Sprintf("%+v", describe()) })
}

// after waits until a moment has passed.
func (r *rig) after(moment time.Time) {
	r.t.Helper()
	select {
	case <-time.After(time.Until(moment)):
	case <-r.ctx.Done():
		r.t.Fatal(r.ctx.Err())
	}
}

// code checks that an error is one of the SDK's with a code.
func code(t *testing.T, err error, want azservicebus.Code) {
	t.Helper()
	var sdk *azservicebus.Error
	if !errors.As(err, &sdk) || sdk.Code != want {
		t.Fatalf("error %v, want code %s", err, want)
	}
}

// condition checks that an error carries an AMQP condition.
func condition(t *testing.T, err error, want amqp.ErrCond) {
	t.Helper()
	var remote *amqp.Error
	if !errors.As(err, &remote) || remote.Condition != want {
		t.Fatalf("error %v, want condition %s", err, want)
	}
}

// raw is a connection of the plain AMQP client, for what the SDK does not send or shows differently.
func (r *rig) raw(options *amqp.ConnOptions) *amqp.Conn {
	r.t.Helper()
	conn, err := amqp.Dial(r.ctx, "amqp://"+r.server.Addr(), options)
	must(r.t, err)
	r.t.Cleanup(func() { conn.Close() })
	return conn
}

func (r *rig) rawSession() *amqp.Session {
	r.t.Helper()
	session, err := r.raw(&amqp.ConnOptions{SASLType: amqp.SASLTypeAnonymous()}).NewSession(r.ctx, nil)
	must(r.t, err)
	return session
}

func (r *rig) rawSend(m *amqp.Message) {
	r.t.Helper()
	sender, err := r.rawSession().NewSender(r.ctx, queueName, nil)
	must(r.t, err)
	must(r.t, sender.Send(r.ctx, m, nil))
}

func (r *rig) rawReceive() *amqp.Message {
	r.t.Helper()
	receiver, err := r.rawSession().NewReceiver(r.ctx, queueName, &amqp.ReceiverOptions{Credit: 1})
	must(r.t, err)
	m, err := receiver.Receive(r.ctx, nil)
	must(r.t, err)
	return m
}

func bodies(messages []*azservicebus.ReceivedMessage) []string {
	var all []string
	for _, m := range messages {
		all = append(all, string(m.Body))
	}
	return all
}

func ptr[T any](v T) *T { return &v }
