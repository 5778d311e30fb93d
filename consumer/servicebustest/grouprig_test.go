package servicebustest_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
)

// sessionQueue is a queue of sessions whose locks outlast every test.
var sessionQueue = servicebustest.Queue{RequiresSession: true}

// held and free are sessions with that many messages.
func held(id string, messages int) servicebustest.SessionState {
	return servicebustest.SessionState{ID: id, Messages: messages, Held: true}
}

func free(id string, messages int) servicebustest.SessionState {
	return servicebustest.SessionState{ID: id, Messages: messages}
}

// sendTo sends one message to a session for each body.
func (r *rig) sendTo(session string, bodies ...string) {
	r.t.Helper()
	sender := r.sender()
	for _, body := range bodies {
		must(r.t, sender.SendMessage(r.ctx, &azservicebus.Message{Body: []byte(body), SessionID: &session}, nil))
	}
	must(r.t, sender.Close(r.ctx))
}

func (r *rig) accept(session string) *azservicebus.SessionReceiver {
	r.t.Helper()
	receiver, err := r.client.AcceptSessionForQueue(r.ctx, queueName, session, nil)
	must(r.t, err)
	return receiver
}

func (r *rig) acceptNext() *azservicebus.SessionReceiver {
	r.t.Helper()
	receiver, err := r.client.AcceptNextSessionForQueue(r.ctx, queueName, nil)
	must(r.t, err)
	return receiver
}

// later accepts the next session in the background.
func (r *rig) later() <-chan *azservicebus.SessionReceiver {
	accepted := make(chan *azservicebus.SessionReceiver, 1)
	go func() {
		receiver, err := r.client.AcceptNextSessionForQueue(r.ctx, queueName, nil)
		if err != nil {
			r.t.Error(err)
			close(accepted)
			return
		}
		accepted <- receiver
	}()
	return accepted
}

// noSession checks that no session is available.
func (r *rig) noSession() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, 50*time.Millisecond)
	defer cancel()
	if receiver, err := r.client.AcceptNextSessionForQueue(ctx, queueName, nil); err == nil {
		r.t.Fatalf("accepted session %q; want none", receiver.SessionID())
	}
}

// sessions waits until the sessions are as wanted, LockedUntil apart.
func (r *rig) sessions(want ...servicebustest.SessionState) {
	r.t.Helper()
	get := func() []servicebustest.SessionState {
		got := r.server.Sessions(queueName)
		for i := range got {
			got[i].LockedUntil = time.Time{}
		}
		return got
	}
	r.eventually(func() bool { return slices.Equal(get(), want) }, func() any {
		return struct{ Got, Want any }{get(), want}
	})
}

// rawAccept accepts a session, the next one if id is nil, with the plain AMQP client, so that a test sees what the SDK hides.
func rawAccept(ctx context.Context, session *amqp.Session, id any, properties map[string]any) (*amqp.Receiver, error) {
	return session.NewReceiver(ctx, queueName, &amqp.ReceiverOptions{
		Credit: 1, SettlementMode: amqp.ReceiverSettleModeSecond.Ptr(), Properties: properties,
		Filters: []amqp.LinkFilter{amqp.NewLinkFilter("com.microsoft:session-filter", 0x00000137000000C, id)},
	})
}

// manage sends a request about a link to the management node of the queue and returns the status code and the body of its answer.
func (r *rig) manage(session *amqp.Session, operation, link string, args map[string]any) (int32, any) {
	r.t.Helper()
	properties := map[string]any{"operation": "com.microsoft:" + operation}
	if link != "" {
		properties["associated-link-name"] = link
	}
	answer := r.request(session, queueName+"/$management", &amqp.Message{ApplicationProperties: properties, Value: args})
	return answer.ApplicationProperties["statusCode"].(int32), answer.Value
}

// same compares the bodies of messages.
func same(t *testing.T, messages []*azservicebus.ReceivedMessage, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, bodies(messages)); diff != "" {
		t.Error(diff)
	}
}

func deliveries(t *testing.T, m *azservicebus.ReceivedMessage, want uint32) {
	t.Helper()
	if m.DeliveryCount != want {
		t.Errorf("message %s comes as delivery %d, want %d", m.Body, m.DeliveryCount, want)
	}
}
