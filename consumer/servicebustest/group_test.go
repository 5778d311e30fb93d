package servicebustest_test

import (
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
)

var sessionQueue = servicebustest.Queue{RequiresSession: true}

func TestAcceptingSessions(t *testing.T) {
	prove(t, []behaviour{
		{name: "a session is accepted by its id and gets its messages only, in order", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendTo("a", "a1")
			r.sendTo("b", "b1")
			r.sendTo("a", "a2")
			receiver := r.accept("a")
			messages := r.receive(receiver, 2)
			if diff := cmp.Diff([]string{"a1", "a2"}, bodies(messages)); diff != "" || *messages[0].SessionID != "a" || receiver.SessionID() != "a" {
				t.Errorf("session %s: %s", receiver.SessionID(), diff)
			}
			r.nothing(receiver, 30*time.Millisecond)
			for _, m := range messages {
				must(t, receiver.CompleteMessage(r.ctx, m, nil))
			}
			r.sessions(servicebustest.SessionState{ID: "a", Held: true}, servicebustest.SessionState{ID: "b", Messages: 1})
			r.state(servicebustest.QueueState{Active: 1})
		}},
		{name: "the next session is one with messages", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendTo("b", "b1")
			receiver := r.acceptNext()
			if m := r.receiveOne(receiver); string(m.Body) != "b1" || receiver.SessionID() != "b" {
				t.Errorf("session %s: %s", receiver.SessionID(), m.Body)
			}
			r.noSession()
		}},
		{name: "a session without messages can be accepted by its id, and waits for them", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			receiver := r.accept("empty")
			r.sessions(servicebustest.SessionState{ID: "empty", Held: true})
			r.sendTo("empty", "late")
			r.receiveOne(receiver)
		}},
		{name: "a held session cannot be accepted", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendTo("a", "a1")
			r.accept("a")
			_, err := r.client.AcceptSessionForQueue(r.ctx, queueName, "a", nil)
			condition(t, err, "com.microsoft:session-cannot-be-locked")
			r.noSession()
		}},
		{name: "sends without a session id are refused", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			condition(t, r.sender().SendMessage(r.ctx, &azservicebus.Message{}, nil), amqp.ErrCondNotAllowed)
			r.state(servicebustest.QueueState{})
		}},
		{name: "a session that is closed is free, and what it had comes again, uncounted", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendTo("a", "a1", "a2", "a3")
			first := r.accept("a")
			r.receive(first, 2)
			must(t, first.Close(r.ctx))
			r.sessions(servicebustest.SessionState{ID: "a", Messages: 3})
			messages := r.receive(r.acceptNext(), 3)
			if diff := cmp.Diff([]string{"a1", "a2", "a3"}, bodies(messages)); diff != "" || messages[0].DeliveryCount != 1 {
				t.Errorf("delivery %d: %s", messages[0].DeliveryCount, diff)
			}
		}},
		{name: "the session lock is renewed, and the messages' with it", queue: servicebustest.Queue{RequiresSession: true, LockDuration: 500 * time.Millisecond}, prove: func(t *testing.T, r *rig) {
			r.sendTo("a", "a1")
			before := time.Now().Add(500 * time.Millisecond).Truncate(time.Millisecond)
			receiver := r.accept("a")
			first := receiver.LockedUntil()
			if first.Before(before) || first.After(time.Now().Add(500*time.Millisecond)) {
				t.Errorf("locked until %s, accepted at %s", first, before)
			}
			m := r.receiveOne(receiver)
			if !m.LockedUntil.Equal(first) {
				t.Errorf("message until %s, session until %s", m.LockedUntil, first)
			}
			for range 4 {
				r.after(receiver.LockedUntil().Add(-300 * time.Millisecond))
				must(t, receiver.RenewSessionLock(r.ctx, nil))
			}
			if !receiver.LockedUntil().After(first.Add(300 * time.Millisecond)) {
				t.Errorf("first until %s, now until %s", first, receiver.LockedUntil())
			}
			must(t, receiver.CompleteMessage(r.ctx, m, nil))
			r.state(servicebustest.QueueState{})
		}},
	})
}
