package servicebustest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
)

func TestReceiving(t *testing.T) {
	t.Parallel()
	prove(t, []behaviour{
		{name: "messages come in the order they were sent", prove: func(t *testing.T, r *rig) {
			r.send("a", "b", "c", "d")
			if diff := cmp.Diff([]string{"a", "b", "c", "d"}, bodies(r.receive(r.receiver(), 4))); diff != "" {
				t.Error(diff)
			}
		}},
		{name: "no more are locked than were asked for", prove: func(t *testing.T, r *rig) {
			r.send("a", "b", "c", "d", "e")
			receiver := r.receiver()
			for asked := range 3 {
				messages, err := receiver.ReceiveMessages(r.ctx, 1, nil)
				must(t, err)
				if len(messages) != 1 {
					t.Fatalf("asked for 1, received %d", len(messages))
				}
				r.state(servicebustest.QueueState{Active: 4 - asked, Locked: asked + 1})
			}
		}},
		{name: "a receiver that waits gets a message as soon as it is sent", prove: func(t *testing.T, r *rig) {
			receiver := r.receiver()
			received := make(chan string)
			go func() { received <- string(r.receiveOne(receiver).Body) }()
			r.send("late")
			if got := <-received; got != "late" {
				t.Errorf("received %q", got)
			}
		}},
		{name: "credit that is left over releases what it fetches, uncounted", prove: leftoverCredit},
		{name: "two receivers share a queue", prove: func(t *testing.T, r *rig) {
			one, two := r.receiver(), r.receiver()
			r.send("a", "b")
			first, second := r.receiveOne(one), r.receiveOne(two)
			if *first.SequenceNumber == *second.SequenceNumber {
				t.Errorf("both received message %d", *first.SequenceNumber)
			}
		}},
		{name: "a receiver that leaves does not strand what woke it", prove: func(t *testing.T, r *rig) {
			leaver, stayer := r.receiver(), r.receiver()
			r.nothing(leaver, 20*time.Millisecond)
			received := make(chan string)
			go func() { received <- string(r.receiveOne(stayer).Body) }()
			must(t, leaver.Close(r.ctx))
			r.send("x")
			<-received
		}},
		{name: "receive and delete removes at once", prove: func(t *testing.T, r *rig) {
			r.send("a", "b")
			receiver := r.receiverOf(&azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
			if m := r.receiveOne(receiver); string(m.Body) != "a" || m.LockedUntil != nil {
				t.Errorf("received %q, locked until %v", m.Body, m.LockedUntil)
			}
			r.state(servicebustest.QueueState{Active: 1})
		}},
		{name: "a lock has a token and an end", queue: servicebustest.Queue{LockDuration: 30 * time.Second}, prove: func(t *testing.T, r *rig) {
			r.send("a", "b")
			before := time.Now().Add(30 * time.Second).Truncate(time.Millisecond)
			messages := r.receive(r.receiver(), 2)
			after := time.Now().Add(30 * time.Second)
			if messages[0].LockToken == messages[1].LockToken || messages[0].LockToken == [16]byte{} {
				t.Errorf("lock tokens %x and %x", messages[0].LockToken, messages[1].LockToken)
			}
			if until := *messages[0].LockedUntil; until.Before(before) || until.After(after) {
				t.Errorf("locked until %s, want %s to %s", until, before, after)
			}
		}},
		{name: "a thousand messages come in one call", prove: func(t *testing.T, r *rig) {
			sender := r.sender()
			batch, err := sender.NewMessageBatch(r.ctx, nil)
			must(t, err)
			for range 1000 {
				must(t, batch.AddMessage(&azservicebus.Message{Body: []byte("x")}, nil))
			}
			must(t, sender.SendMessageBatch(r.ctx, batch, nil))
			receiver := r.receiver()
			for _, m := range r.receive(receiver, 1000) {
				must(t, receiver.CompleteMessage(r.ctx, m, nil))
			}
			r.state(servicebustest.QueueState{})
		}},
		{name: "draining ends the credit", prove: drain},
		{name: "an unknown queue is not found", prove: func(t *testing.T, r *rig) {
			receiver, err := r.client.NewReceiverForQueue("elsewhere", nil)
			must(t, err)
			_, err = receiver.ReceiveMessages(r.ctx, 1, nil)
			condition(t, err, amqp.ErrCondNotFound)
		}},
		{name: "the dead-letter queue of an unknown queue is not found", prove: func(t *testing.T, r *rig) {
			receiver, err := r.client.NewReceiverForQueue("elsewhere", &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
			must(t, err)
			_, err = receiver.ReceiveMessages(r.ctx, 1, nil)
			condition(t, err, amqp.ErrCondNotFound)
		}},
		{name: "a session queue refuses a receiver without a session", queue: servicebustest.Queue{RequiresSession: true}, prove: func(t *testing.T, r *rig) {
			_, err := r.receiver().ReceiveMessages(r.ctx, 1, nil)
			condition(t, err, amqp.ErrCondNotAllowed)
			_, err = r.receiver().PeekMessages(r.ctx, 1, nil)
			condition(t, err, amqp.ErrCondNotAllowed)
		}},
		{name: "the dead-letter queue of a session queue needs no session", queue: servicebustest.Queue{RequiresSession: true}, prove: func(t *testing.T, r *rig) {
			messages, err := r.deadReceiver().PeekMessages(r.ctx, 1, nil)
			must(t, err)
			if len(messages) != 0 {
				t.Errorf("peeked %d messages", len(messages))
			}
		}},
		{name: "a plain queue has no sessions", prove: func(t *testing.T, r *rig) {
			_, err := r.client.AcceptNextSessionForQueue(r.ctx, queueName, nil)
			condition(t, err, amqp.ErrCondNotAllowed)
		}},
	})
}

// leftoverCredit takes one message of three that were asked for: the two that come later find the receiver idle, and the SDK gives
// them back.
func leftoverCredit(t *testing.T, r *rig) {
	r.send("a")
	receiver := r.receiver()
	messages, err := receiver.ReceiveMessages(r.ctx, 3, &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: time.Millisecond})
	must(t, err)
	if len(messages) != 1 {
		t.Fatalf("received %d messages", len(messages))
	}
	r.send("b", "c")
	r.state(servicebustest.QueueState{Active: 2, Locked: 1})
	other := r.receiver()
	for _, m := range r.receive(other, 2) {
		if m.DeliveryCount != 1 {
			t.Errorf("message %s comes as delivery %d", m.Body, m.DeliveryCount)
		}
	}
}

func drain(t *testing.T, r *rig) {
	receiver, err := r.rawSession().NewReceiver(r.ctx, queueName, &amqp.ReceiverOptions{Credit: -1})
	must(t, err)
	must(t, receiver.IssueCredit(5))
	r.send("a", "b")
	for range 2 {
		m, err := receiver.Receive(r.ctx, nil)
		must(t, err)
		must(t, receiver.AcceptMessage(r.ctx, m))
	}
	must(t, receiver.DrainCredit(r.ctx, nil))
	r.send("c")
	ctx, cancel := context.WithTimeout(r.ctx, 50*time.Millisecond)
	defer cancel()
	if m, err := receiver.Receive(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("received %v after draining: %v", m, err)
	}
	must(t, receiver.IssueCredit(1))
	m, err := receiver.Receive(r.ctx, nil)
	must(t, err)
	must(t, receiver.AcceptMessage(r.ctx, m))
}

func TestPeeking(t *testing.T) {
	t.Parallel()
	prove(t, []behaviour{
		{name: "peeking shows messages in every state and changes none", prove: peekStates},
		{name: "peeking goes on from the last sequence number", prove: func(t *testing.T, r *rig) {
			r.send("a", "b", "c")
			receiver := r.receiver()
			var seen []string
			for range 4 {
				messages, err := receiver.PeekMessages(r.ctx, 1, nil)
				must(t, err)
				seen = append(seen, bodies(messages)...)
			}
			if diff := cmp.Diff([]string{"a", "b", "c"}, seen); diff != "" {
				t.Error(diff)
			}
		}},
		{name: "peeking starts where it is told", prove: func(t *testing.T, r *rig) {
			r.send("a", "b", "c")
			messages, err := r.receiver().PeekMessages(r.ctx, 5, &azservicebus.PeekMessagesOptions{FromSequenceNumber: ptr(int64(2))})
			must(t, err)
			if diff := cmp.Diff([]string{"b", "c"}, bodies(messages)); diff != "" {
				t.Error(diff)
			}
		}},
		{name: "one peek shows at most 250 messages", prove: func(t *testing.T, r *rig) {
			sender := r.sender()
			batch, err := sender.NewMessageBatch(r.ctx, nil)
			must(t, err)
			for range 300 {
				must(t, batch.AddMessage(&azservicebus.Message{}, nil))
			}
			must(t, sender.SendMessageBatch(r.ctx, batch, nil))
			receiver := r.receiver()
			for _, want := range []int{250, 50, 0} {
				messages, err := receiver.PeekMessages(r.ctx, 1000, nil)
				must(t, err)
				if len(messages) != want {
					t.Errorf("peeked %d messages, want %d", len(messages), want)
				}
			}
		}},
		{name: "one peek shows at most 256 KiB", prove: func(t *testing.T, r *rig) {
			for range 3 {
				r.sendMessage(&azservicebus.Message{Body: make([]byte, 100<<10)})
			}
			messages, err := r.receiver().PeekMessages(r.ctx, 10, nil)
			must(t, err)
			if len(messages) != 2 {
				t.Errorf("peeked %d messages of 100 KiB", len(messages))
			}
		}},
		{name: "peeking goes past messages that are gone", prove: func(t *testing.T, r *rig) {
			r.send("a", "b", "c", "d")
			receiver := r.receiver()
			messages := r.receive(receiver, 3)
			must(t, receiver.CompleteMessage(r.ctx, messages[0], nil))
			must(t, receiver.CompleteMessage(r.ctx, messages[2], nil))
			left, err := receiver.PeekMessages(r.ctx, 10, nil)
			must(t, err)
			if diff := cmp.Diff([]string{"b", "d"}, bodies(left)); diff != "" {
				t.Error(diff)
			}
		}},
	})
}

func peekStates(t *testing.T, r *rig) {
	r.send("deferred", "locked")
	receiver := r.receiver()
	messages := r.receive(receiver, 2)
	must(t, receiver.DeferMessage(r.ctx, messages[0], nil))
	r.send("active")
	r.sendMessage(&azservicebus.Message{Body: []byte("scheduled"), ScheduledEnqueueTime: ptr(time.Now().Add(time.Hour))})
	want := servicebustest.QueueState{Active: 1, Locked: 1, Deferred: 1, Scheduled: 1}
	r.state(want)
	peeked, err := receiver.PeekMessages(r.ctx, 10, nil)
	must(t, err)
	states := map[string]azservicebus.MessageState{}
	for _, m := range peeked {
		states[string(m.Body)] = m.State
		if m.LockedUntil != nil {
			t.Errorf("peeking %s tells a lock until %s", m.Body, m.LockedUntil)
		}
	}
	if diff := cmp.Diff(map[string]azservicebus.MessageState{
		"deferred": azservicebus.MessageStateDeferred, "scheduled": azservicebus.MessageStateScheduled,
		"active": azservicebus.MessageStateActive, "locked": azservicebus.MessageStateActive,
	}, states); diff != "" {
		t.Error(diff)
	}
	r.state(want)
}
