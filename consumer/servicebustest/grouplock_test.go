package servicebustest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
)

func TestSessionLocks(t *testing.T) {
	t.Parallel()
	prove(t, []behaviour{
		{name: "a session is locked for the lock duration, and its messages with it", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendTo("a", "a1")
			before := time.Now().Add(time.Minute).Truncate(time.Millisecond)
			receiver := r.accept("a")
			until := receiver.LockedUntil()
			if until.Before(before) || until.After(time.Now().Add(time.Minute)) {
				t.Errorf("locked until %s, accepted at %s", until, before)
			}
			if m := r.receiveOne(receiver); !m.LockedUntil.Equal(until) {
				t.Errorf("message until %s, session until %s", m.LockedUntil, until)
			}
			if state := r.server.Sessions(queueName)[0]; !state.LockedUntil.Truncate(time.Millisecond).Equal(until) {
				t.Errorf("state tells %s, want %s", state.LockedUntil, until)
			}
			if state := r.server.Messages(queueName)[0]; !state.LockedUntil.Truncate(time.Millisecond).Equal(until) {
				t.Errorf("message state tells %s, want %s", state.LockedUntil, until)
			}
		}},
		{name: "a renewed session lock holds longer", queue: sessionQueue, prove: renewedSession},
		{name: "a session lock that runs out counts a delivery of each message, and frees the session", queue: sessionQueue, prove: sessionRunsOut},
		{name: "a session lock that runs out goes to who waits", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendTo("a", "a1")
			first := r.accept("a")
			r.receiveOne(first)
			waiting := r.later()
			r.server.Advance(2 * time.Minute)
			deliveries(t, r.receiveOne(<-waiting), 2)
		}},
		{name: "a message that is lost with its session too often is dead-lettered", queue: servicebustest.Queue{
			RequiresSession: true, MaxDeliveryCount: 1,
		}, prove: func(t *testing.T, r *rig) {
			r.sendTo("a", "a1", "a2", "a3")
			r.receive(r.accept("a"), 2)
			r.server.Advance(2 * time.Minute)
			r.state(servicebustest.QueueState{Active: 1, DeadLettered: 2})
			dead := r.receive(r.deadReceiver(), 2)
			same(t, dead, "a1", "a2")
			if *dead[0].DeadLetterReason != "MaxDeliveryCountExceeded" || *dead[0].SessionID != "a" {
				t.Errorf("reason %s, session %s", *dead[0].DeadLetterReason, *dead[0].SessionID)
			}
			r.sessions(free("a", 1))
		}},
		{name: "a link that lost its session is detached", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			receiver, err := rawAccept(r.ctx, r.rawSession(), "a", nil)
			must(t, err)
			r.server.ExpireLocks()
			_, err = receiver.Receive(r.ctx, nil)
			lostLink(t, err)
			r.sessions()
		}},
		{name: "settling after the loss: lock lost, and the message stays", queue: sessionQueue, prove: settleAfterLoss},
		{name: "settling after the loss by request: lock lost", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendTo("a", "a1")
			_, token := rawReceive(t, r, r.rawSession())
			r.server.ExpireLocks()
			args := map[string]any{"disposition-status": "completed", "lock-tokens": []amqp.UUID{token}}
			// In an AMQP session of its own: the client may use the handle of a link that
			// was detached again before it says that it took note of that.
			if status, _ := r.manage(r.rawSession(), "update-disposition", "", args); status != 410 {
				t.Errorf("status %d", status)
			}
			r.state(servicebustest.QueueState{Active: 1})
		}},
		{name: "renewing after the loss accepts a session that is free again", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendTo("a", "a1", "a2")
			receiver := r.accept("a")
			lost := r.receiveOne(receiver)
			r.server.ExpireLocks()
			must(t, receiver.RenewSessionLock(r.ctx, nil)) // the SDK does not tell
			r.sessions(held("a", 2))
			again := r.receive(receiver, 2)
			same(t, again, "a1", "a2")
			deliveries(t, again[0], lost.DeliveryCount+1)
			deliveries(t, again[1], 1)
			must(t, receiver.CompleteMessage(r.ctx, again[0], nil))
			r.sessions(held("a", 1))
		}},
		{name: "renewing after the loss fails if somebody else has the session", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			receiver := r.accept("a")
			r.server.ExpireLocks()
			other := r.accept("a")
			condition(t, receiver.RenewSessionLock(r.ctx, nil), "com.microsoft:session-cannot-be-locked")
			must(t, other.RenewSessionLock(r.ctx, nil))
		}},
		{name: "receiving after the loss accepts the session again", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			receiver := r.accept("a")
			r.server.ExpireLocks()
			r.sendTo("a", "a1")
			r.receiveOne(receiver)
			r.sessions(held("a", 1))
		}},
		{name: "the loss of one session leaves the client's others alone", queue: sessionQueue, prove: otherSessionsStay},
		{name: "the lock of a single message is not renewed", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendTo("a", "a1")
			session := r.rawSession()
			_, token := rawReceive(t, r, session)
			if status, _ := r.manage(session, "renew-lock", "", map[string]any{"lock-tokens": []amqp.UUID{token}}); status != 400 {
				t.Errorf("status %d", status)
			}
		}},
		{name: "only the link with the session renews it", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			session := r.rawSession()
			a, err := rawAccept(r.ctx, session, "a", nil)
			must(t, err)
			b, err := rawAccept(r.ctx, session, "b", nil)
			must(t, err)
			args := map[string]any{"session-id": "a"}
			for link, want := range map[string]int32{a.LinkName(): 200, b.LinkName(): 410, "unknown": 410, "": 400} {
				if status, _ := r.manage(session, "renew-session-lock", link, args); status != want {
					t.Errorf("link %q: status %d, want %d", link, status, want)
				}
			}
		}},
	})
}

func renewedSession(t *testing.T, r *rig) {
	r.sendTo("a", "a1")
	receiver := r.accept("a")
	first := receiver.LockedUntil()
	m := r.receiveOne(receiver)
	for range 4 {
		r.server.Advance(40 * time.Second)
		must(t, receiver.RenewSessionLock(r.ctx, nil))
	}
	if !receiver.LockedUntil().After(first.Add(2 * time.Minute)) {
		t.Errorf("first until %s, now until %s", first, receiver.LockedUntil())
	}
	must(t, receiver.CompleteMessage(r.ctx, m, nil))
	r.state(servicebustest.QueueState{})
}

func sessionRunsOut(t *testing.T, r *rig) {
	r.sendTo("a", "settled", "a1", "a2", "never received")
	receiver := r.accept("a")
	messages := r.receive(receiver, 3)
	must(t, receiver.CompleteMessage(r.ctx, messages[0], nil))
	r.server.Advance(2 * time.Minute)
	r.sessions(free("a", 3))
	r.state(servicebustest.QueueState{Active: 3})
	again := r.receive(r.acceptNext(), 3)
	same(t, again, "a1", "a2", "never received")
	for i, want := range []uint32{2, 2, 1} {
		deliveries(t, again[i], want)
	}
}

// lostLink checks that the session's lock is said to be lost: by the link's end, or
// by the answer to a settlement that crossed it.
func lostLink(t *testing.T, err error) {
	t.Helper()
	var link *amqp.LinkError
	if errors.As(err, &link) && link.RemoteErr != nil {
		err = link.RemoteErr
	}
	var told *amqp.Error
	if !errors.As(err, &told) || told.Condition != "com.microsoft:session-lock-lost" {
		t.Errorf("error %v", err)
	}
}

// rawReceive accepts session a and receives a message of it, with its lock token as requests name it.
func rawReceive(t *testing.T, r *rig, session *amqp.Session) (*amqp.Receiver, amqp.UUID) {
	t.Helper()
	receiver, err := rawAccept(r.ctx, session, "a", nil)
	must(t, err)
	m, err := receiver.Receive(r.ctx, nil)
	must(t, err)
	var token amqp.UUID
	for to, from := range []int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15} {
		token[to] = m.DeliveryTag[from]
	}
	return receiver, token
}

// settleAfterLoss gives the SDK a deadline, as everybody should: it tries for a minute.
func settleAfterLoss(t *testing.T, r *rig) {
	r.sendTo("a", "a1")
	receiver := r.accept("a")
	m := r.receiveOne(receiver)
	r.server.ExpireLocks()
	ctx, cancel := context.WithTimeout(r.ctx, 500*time.Millisecond)
	defer cancel()
	if err := receiver.CompleteMessage(ctx, m, nil); err == nil {
		t.Error("completed")
	}
	r.state(servicebustest.QueueState{Active: 1})

	raw, err := rawAccept(r.ctx, r.rawSession(), "a", nil)
	must(t, err)
	again, err := raw.Receive(r.ctx, nil)
	must(t, err)
	r.server.ExpireLocks()
	lostLink(t, raw.AcceptMessage(r.ctx, again))
	r.state(servicebustest.QueueState{Active: 1})
}

// otherSessionsStay lets one session run out while its client goes on with another one and with a sender.
func otherSessionsStay(t *testing.T, r *rig) {
	r.sendTo("a", "a1")
	r.sendTo("b", "b1", "b2")
	sender, losing, staying := r.sender(), r.accept("a"), r.accept("b")
	r.receiveOne(losing)
	m := r.receiveOne(staying)
	for r.server.Sessions(queueName)[0].Held {
		r.server.Advance(25 * time.Second)
		must(t, staying.RenewSessionLock(r.ctx, nil))
	}
	if messages, err := losing.ReceiveMessages(r.ctx, 1, nil); len(messages) > 0 || err != nil {
		t.Errorf("received %d messages, error %v", len(messages), err) // the SDK finds its link detached and says nothing
	}
	must(t, staying.CompleteMessage(r.ctx, m, nil))
	must(t, staying.CompleteMessage(r.ctx, r.receiveOne(staying), nil))
	must(t, sender.SendMessage(r.ctx, &azservicebus.Message{SessionID: ptr("b")}, nil))
	r.receiveOne(staying)
}
