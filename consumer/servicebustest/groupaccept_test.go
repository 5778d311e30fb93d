package servicebustest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
	wireamqp "github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

func TestAcceptingSessions(t *testing.T) {
	t.Parallel()
	prove(t, []behaviour{
		{name: "a session is accepted by its id and gets its messages only", queue: sessionQueue, prove: acceptByID},
		{name: "the next session is one with messages", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendTo("b", "b1")
			receiver := r.acceptNext()
			if m := r.receiveOne(receiver); string(m.Body) != "b1" || receiver.SessionID() != "b" {
				t.Errorf("session %s: %s", receiver.SessionID(), m.Body)
			}
			r.noSession()
		}},
		{name: "a session without messages is accepted by its id, and waits for them", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			receiver := r.accept("empty")
			r.sessions(held("empty", 0))
			r.sendTo("empty", "late")
			r.receiveOne(receiver)
			must(t, receiver.Close(r.ctx))
			r.sessions(free("empty", 1))
		}},
		{name: "a session id may be empty", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendTo("", "x")
			if receiver := r.acceptNext(); receiver.SessionID() != "" {
				t.Errorf("session %q", receiver.SessionID())
			}
		}},
		{name: "a session that has nothing left is forgotten", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendTo("a", "a1")
			receiver := r.accept("a")
			must(t, receiver.CompleteMessage(r.ctx, r.receiveOne(receiver), nil))
			r.sessions(held("a", 0))
			must(t, receiver.Close(r.ctx))
			r.sessions()
		}},
		{name: "a held session cannot be accepted, and its holder is not disturbed", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendTo("a", "a1")
			receiver := r.accept("a")
			m := r.receiveOne(receiver)
			_, err := r.client.AcceptSessionForQueue(r.ctx, queueName, "a", nil)
			condition(t, err, "com.microsoft:session-cannot-be-locked")
			r.noSession()
			must(t, receiver.CompleteMessage(r.ctx, m, nil))
		}},
		{name: "an accept waits until a session has a message", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			accepted := r.later()
			r.sendTo("a", "a1")
			r.receiveOne(<-accepted)
		}},
		{name: "an accept waits until a session is given back", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendTo("a", "a1")
			first := r.acceptNext()
			accepted := r.later()
			must(t, first.Close(r.ctx))
			r.receiveOne(<-accepted)
		}},
		{name: "waiting accepts are served in the order of their arrival", queue: sessionQueue, prove: acceptsInTurn},
		{name: "the session that has waited for the longest is next", queue: sessionQueue, prove: longestFirst},
		{name: "a session that runs empty loses its place", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendMessage(&azservicebus.Message{SessionID: ptr("a"), TimeToLive: ptr(50 * time.Millisecond)})
			r.sendTo("b", "b1")
			r.sessions(free("b", 1)) // a1 has expired
			r.sendTo("a", "a2")
			if receiver := r.acceptNext(); receiver.SessionID() != "b" {
				t.Errorf("session %s", receiver.SessionID())
			}
		}},
		{name: "an accept is refused when its time is over", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			_, err := rawAccept(r.ctx, r.rawSession(), nil, map[string]any{"com.microsoft:timeout": uint32(30)})
			condition(t, err, "com.microsoft:timeout")
		}},
		{name: "no session within the deadline: the client goes on", queue: sessionQueue, prove: noneInTime},
		{name: "an accept that was given up gets no session", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.noSession()
			r.sendTo("a", "a1")
			r.sessions(free("a", 1))
			r.receiveOne(r.acceptNext())
		}},
		{name: "an accept that was given up leaves its AMQP session usable", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			session := r.rawSession()
			ctx, cancel := context.WithTimeout(r.ctx, 30*time.Millisecond)
			defer cancel()
			if _, err := rawAccept(ctx, session, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			_, err := rawAccept(r.ctx, session, "a", nil) // the client detaches what it gave up first
			must(t, err)
			r.sendTo("b", "b1")
			r.sessions(held("a", 0), free("b", 1))
		}},
		{name: "a dead-letter queue and a plain queue have no sessions", queue: sessionQueue, config: func(config *servicebustest.Config) {
			config.Queues = append(config.Queues, servicebustest.Queue{Name: "plain"})
		}, prove: func(t *testing.T, r *rig) {
			_, err := r.client.AcceptSessionForQueue(r.ctx, "plain", "a", nil)
			condition(t, err, amqp.ErrCondNotAllowed)
			_, err = r.client.AcceptSessionForQueue(r.ctx, deadName, "a", nil)
			condition(t, err, amqp.ErrCondNotAllowed)
		}},
		{name: "a session is named by a string", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			_, err := rawAccept(r.ctx, r.rawSession(), int32(7), nil)
			condition(t, err, "com.microsoft:argument-error")
		}},
	})
}

func acceptByID(t *testing.T, r *rig) {
	r.sendTo("a", "a1")
	r.sendTo("b", "b1")
	r.sendTo("a", "a2")
	receiver := r.accept("a")
	messages := r.receive(receiver, 2)
	same(t, messages, "a1", "a2")
	if *messages[0].SessionID != "a" || receiver.SessionID() != "a" {
		t.Errorf("session %s, message of %s", receiver.SessionID(), *messages[0].SessionID)
	}
	r.nothing(receiver, 30*time.Millisecond)
	for _, m := range messages {
		must(t, receiver.CompleteMessage(r.ctx, m, nil))
	}
	r.sessions(held("a", 0), free("b", 1))
	r.state(servicebustest.QueueState{Active: 1})
}

// acceptsInTurn has one connection ask twice, so that the order of arrival is certain.
func acceptsInTurn(t *testing.T, r *rig) {
	w := dialWire(t, r.server)
	w.openAsUsual()
	next := wireamqp.Described{Descriptor: uint64(0x00000137000000C)}
	filter := wireamqp.Map{{Key: wireamqp.Symbol("com.microsoft:session-filter"), Value: next}}
	for handle := range uint32(2) {
		w.send(&wireamqp.Attach{
			Name: strings.Repeat("x", int(handle+1)), Handle: handle, Role: wireamqp.RoleReceiver,
			Source: &wireamqp.Source{Address: queueName, Filter: filter},
		})
	}
	w.send(&wireamqp.Flow{IncomingWindow: 100, Echo: true})
	expect[*wireamqp.Flow](w) // by now both wait
	for handle, id := range []string{"b", "a"} {
		r.sendTo(id, "x")
		answer := expect[*wireamqp.Attach](w)
		raw, _ := answer.Source.Filter.Get("com.microsoft:session-filter").(wireamqp.Raw)
		value, _ := wireamqp.NewDecoder(raw).Value().(wireamqp.Described)
		if answer.Handle != uint32(handle) || value.Value != id {
			t.Errorf("link %d has session %v, want link %d and %s", answer.Handle, value.Value, handle, id)
		}
	}
}

func longestFirst(t *testing.T, r *rig) {
	for _, id := range []string{"c", "a", "b", "c"} {
		r.sendTo(id, id)
	}
	var order []string
	for range 7 {
		receiver := r.acceptNext()
		order = append(order, receiver.SessionID())
		must(t, receiver.Close(r.ctx)) // it queues up behind the others
	}
	if diff := cmp.Diff([]string{"c", "a", "b", "c", "a", "b", "c"}, order); diff != "" {
		t.Error(diff)
	}
}

// noneInTime takes either error: the SDK asks the service to answer up to 1 % before the deadline, so that it depends on luck which
// of the two is first.
func noneInTime(t *testing.T, r *rig) {
	r.sendTo("a", "a1")
	receiver := r.accept("a")
	m := r.receiveOne(receiver)
	ctx, cancel := context.WithTimeout(r.ctx, 100*time.Millisecond)
	defer cancel()
	_, err := r.client.AcceptNextSessionForQueue(ctx, queueName, nil)
	var sdk *azservicebus.Error
	if !errors.Is(err, context.DeadlineExceeded) && !(errors.As(err, &sdk) && sdk.Code == azservicebus.CodeTimeout) {
		t.Fatal(err)
	}
	must(t, receiver.CompleteMessage(r.ctx, m, nil))
	r.sessions(held("a", 0))
}
