package servicebustest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
)

func TestSessionMessages(t *testing.T) {
	t.Parallel()
	prove(t, []behaviour{
		{name: "an abandoned message comes again before the later ones, counted", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendTo("a", "a1", "a2", "a3")
			receiver := r.accept("a")
			must(t, receiver.AbandonMessage(r.ctx, r.receiveOne(receiver), nil))
			again := r.receive(receiver, 3)
			same(t, again, "a1", "a2", "a3")
			deliveries(t, again[0], 2)
		}},
		{name: "a session that is given back has its messages in place, uncounted", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendTo("a", "a1", "a2", "a3")
			first := r.accept("a")
			r.receive(first, 2)
			must(t, first.Close(r.ctx))
			r.sessions(free("a", 3))
			again := r.receive(r.acceptNext(), 3)
			same(t, again, "a1", "a2", "a3")
			deliveries(t, again[0], 1)
		}},
		{name: "messages that a receiver did not take are released, uncounted", queue: sessionQueue, prove: releasedInSession},
		{name: "a message without a session id is refused", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			condition(t, r.sender().SendMessage(r.ctx, &azservicebus.Message{}, nil), amqp.ErrCondNotAllowed)
			_, err := r.sender().ScheduleMessages(r.ctx, []*azservicebus.Message{{}}, time.Now().Add(time.Hour), nil)
			if err == nil || !strings.Contains(err.Error(), "session id") {
				t.Errorf("scheduled: %v", err)
			}
			r.state(servicebustest.QueueState{})
		}},
		{name: "a session id has at most 128 characters", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendTo(strings.Repeat("é", 128), "x")
			sender, err := r.rawSession().NewSender(r.ctx, queueName, nil)
			must(t, err)
			err = sender.Send(r.ctx, &amqp.Message{Properties: &amqp.MessageProperties{GroupID: ptr(strings.Repeat("x", 129))}}, nil)
			condition(t, err, "com.microsoft:argument-error")
			r.state(servicebustest.QueueState{Active: 1})
		}},
		{name: "every message of a batch goes to its own session", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.batch("a1", "b1", "a2")
			r.sessions(free("a", 2), free("b", 1))
			same(t, r.receive(r.accept("a"), 2), "a1", "a2")
		}},
		{name: "a batch with one message without a session id is refused as a whole", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			sender := r.sender()
			batch, err := sender.NewMessageBatch(r.ctx, nil)
			must(t, err)
			must(t, batch.AddMessage(&azservicebus.Message{SessionID: ptr("a")}, nil))
			must(t, batch.AddMessage(&azservicebus.Message{}, nil))
			condition(t, sender.SendMessageBatch(r.ctx, batch, nil), amqp.ErrCondNotAllowed)
			r.sessions()
		}},
		{name: "a duplicate makes no session", queue: servicebustest.Queue{RequiresSession: true, RequiresDuplicateDetection: true}, prove: func(t *testing.T, r *rig) {
			r.sendMessage(&azservicebus.Message{MessageID: ptr("1"), SessionID: ptr("a")})
			r.sendMessage(&azservicebus.Message{MessageID: ptr("1"), SessionID: ptr("b")})
			r.sessions(free("a", 1))
		}},
		{name: "receive and delete in a session", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendTo("a", "a1", "a2")
			receiver, err := r.client.AcceptSessionForQueue(r.ctx, queueName, "a", &azservicebus.SessionReceiverOptions{
				ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete,
			})
			must(t, err)
			r.receiveOne(receiver)
			r.sessions(held("a", 1))
			r.state(servicebustest.QueueState{Active: 1})
		}},
		{name: "dead letters keep their session id and have no session", queue: sessionQueue, prove: deadInSession},
		{name: "a scheduled message makes its session available when it is due", queue: sessionQueue, prove: scheduledInSession},
		{name: "deferred in a session: by number, through its link", queue: sessionQueue, prove: deferredInSession},
		{name: "a peek in a session shows its messages in every state, and no others", queue: sessionQueue, prove: peekInSession},
		{name: "a peek without a session is refused", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			session := r.rawSession()
			args := map[string]any{"from-sequence-number": int64(1), "message-count": int32(1)}
			if status, _ := r.manage(session, "peek-message", "", args); status != 400 {
				t.Errorf("status %d", status)
			}
			if status, _ := r.manage(session, "peek-message", "gone", args); status != 410 {
				t.Errorf("through a link that is gone: status %d", status)
			}
		}},
	})
}

// batch sends messages in one batch; the first letter of each is its session.
func (r *rig) batch(bodies ...string) {
	r.t.Helper()
	sender := r.sender()
	batch, err := sender.NewMessageBatch(r.ctx, nil)
	must(r.t, err)
	for _, body := range bodies {
		must(r.t, batch.AddMessage(&azservicebus.Message{Body: []byte(body), SessionID: ptr(body[:1])}, nil))
	}
	must(r.t, sender.SendMessageBatch(r.ctx, batch, nil))
}

func releasedInSession(t *testing.T, r *rig) {
	r.sendTo("a", "a1")
	receiver := r.accept("a")
	messages, err := receiver.ReceiveMessages(r.ctx, 3, &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: time.Millisecond})
	must(t, err)
	same(t, messages, "a1")
	r.sendTo("a", "a2", "a3") // there is credit for them, and nobody who waits
	r.state(servicebustest.QueueState{Active: 2, Locked: 1})
	again := r.receive(receiver, 2)
	same(t, again, "a2", "a3")
	deliveries(t, again[0], 1)
}

func deadInSession(t *testing.T, r *rig) {
	r.sendTo("a", "a1", "a2")
	receiver := r.accept("a")
	must(t, receiver.DeadLetterMessage(r.ctx, r.receiveOne(receiver), &azservicebus.DeadLetterOptions{Reason: ptr("Because")}))
	r.sessions(held("a", 1))
	r.state(servicebustest.QueueState{Active: 1, DeadLettered: 1})
	dead := r.deadReceiver()
	m := r.receiveOne(dead)
	if *m.SessionID != "a" || *m.DeadLetterReason != "Because" {
		t.Errorf("session %s, reason %s", *m.SessionID, *m.DeadLetterReason)
	}
	must(t, dead.RenewMessageLock(r.ctx, m, nil)) // its own lock
	must(t, dead.CompleteMessage(r.ctx, m, nil))
	if sessions := r.server.Sessions(deadName); len(sessions) > 0 {
		t.Errorf("sessions of dead letters: %v", sessions)
	}
}

func scheduledInSession(t *testing.T, r *rig) {
	due := time.Now().Add(time.Hour)
	_, err := r.sender().ScheduleMessages(r.ctx, []*azservicebus.Message{{Body: []byte("scheduled"), SessionID: ptr("a")}}, due, nil)
	must(t, err)
	r.sessions(free("a", 1))
	r.noSession()
	r.server.Advance(time.Hour)
	receiver := r.acceptNext()
	if m := r.receiveOne(receiver); m.EnqueuedTime.Before(due.Truncate(time.Millisecond)) {
		t.Errorf("enqueued %s, due %s", m.EnqueuedTime, due)
	}
}

func deferredInSession(t *testing.T, r *rig) {
	r.sendTo("a", "a1", "a2")
	receiver := r.accept("a")
	m := r.receiveOne(receiver)
	numbers := []int64{*m.SequenceNumber}
	must(t, receiver.DeferMessage(r.ctx, m, nil))
	same(t, r.receive(receiver, 1), "a2")
	_, err := r.accept("b").ReceiveDeferredMessages(r.ctx, numbers, nil)
	code(t, err, azservicebus.CodeNotFound)

	messages, err := receiver.ReceiveDeferredMessages(r.ctx, numbers, nil)
	must(t, err)
	same(t, messages, "a1")
	if !messages[0].LockedUntil.Equal(receiver.LockedUntil()) {
		t.Errorf("message until %s, session until %s", messages[0].LockedUntil, receiver.LockedUntil())
	}
	r.server.ExpireLocks()
	r.state(servicebustest.QueueState{Active: 1, Deferred: 1})
	receiver = r.accept("a")
	messages, err = receiver.ReceiveDeferredMessages(r.ctx, numbers, nil)
	must(t, err)
	deliveries(t, messages[0], 2)
	must(t, receiver.CompleteMessage(r.ctx, messages[0], nil))
	r.sessions(held("a", 1))
}

func peekInSession(t *testing.T, r *rig) {
	r.sendTo("a", "deferred", "locked", "active")
	r.sendTo("b", "another's")
	r.sendMessage(&azservicebus.Message{Body: []byte("scheduled"), SessionID: ptr("a"), ScheduledEnqueueTime: ptr(time.Now().Add(time.Hour))})
	receiver := r.accept("a")
	messages := r.receive(receiver, 2)
	must(t, receiver.DeferMessage(r.ctx, messages[0], nil))
	want := servicebustest.QueueState{Active: 2, Locked: 1, Deferred: 1, Scheduled: 1}
	r.state(want)
	peeked, err := receiver.PeekMessages(r.ctx, 10, nil)
	must(t, err)
	same(t, peeked, "deferred", "locked", "active", "scheduled")
	var states []azservicebus.MessageState
	for _, m := range peeked {
		states = append(states, m.State)
	}
	if diff := cmp.Diff([]azservicebus.MessageState{
		azservicebus.MessageStateDeferred, azservicebus.MessageStateActive, azservicebus.MessageStateActive, azservicebus.MessageStateScheduled,
	}, states); diff != "" {
		t.Error(diff)
	}
	r.state(want)
}
