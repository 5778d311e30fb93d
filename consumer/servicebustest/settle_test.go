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

func TestSettling(t *testing.T) {
	t.Parallel()
	prove(t, []behaviour{
		{name: "an abandoned message comes again at once, counted, in its old place", prove: func(t *testing.T, r *rig) {
			r.send("a", "b")
			receiver := r.receiver()
			first := r.receiveOne(receiver)
			must(t, receiver.AbandonMessage(r.ctx, first, nil))
			again := r.receiveOne(receiver)
			if string(again.Body) != "a" || again.DeliveryCount != 2 || *again.SequenceNumber != *first.SequenceNumber {
				t.Errorf("received %s, delivery %d", again.Body, again.DeliveryCount)
			}
			if again.LockToken == first.LockToken {
				t.Error("the lock token is the old one")
			}
		}},
		{name: "abandoning writes properties and leaves the others", prove: func(t *testing.T, r *rig) {
			r.sendMessage(&azservicebus.Message{Body: []byte("a"), ApplicationProperties: map[string]any{"kept": int16(1), "old": "x"}})
			receiver := r.receiver()
			must(t, receiver.AbandonMessage(r.ctx, r.receiveOne(receiver), &azservicebus.AbandonMessageOptions{
				PropertiesToModify: map[string]any{"old": true, "new": int64(9)},
			}))
			want := map[string]any{"kept": int16(1), "old": true, "new": int64(9)}
			if diff := cmp.Diff(want, r.receiveOne(receiver).ApplicationProperties); diff != "" {
				t.Error(diff)
			}
		}},
		{name: "releasing gives back uncounted", prove: func(t *testing.T, r *rig) {
			r.send("a")
			raw, err := r.rawSession().NewReceiver(r.ctx, queueName, &amqp.ReceiverOptions{Credit: -1, SettlementMode: amqp.ReceiverSettleModeSecond.Ptr()})
			must(t, err)
			must(t, raw.IssueCredit(1))
			m, err := raw.Receive(r.ctx, nil)
			must(t, err)
			must(t, raw.ReleaseMessage(r.ctx, m))
			if again := r.receiveOne(r.receiver()); again.RawAMQPMessage.Header.DeliveryCount != 0 {
				t.Errorf("delivery count %d", again.RawAMQPMessage.Header.DeliveryCount)
			}
		}},
		{name: "a receiver that settles first is not answered and settles all the same", prove: func(t *testing.T, r *rig) {
			r.send("a")
			raw, err := r.rawSession().NewReceiver(r.ctx, queueName, &amqp.ReceiverOptions{Credit: 1})
			must(t, err)
			m, err := raw.Receive(r.ctx, nil)
			must(t, err)
			must(t, raw.AcceptMessage(r.ctx, m))
			r.state(servicebustest.QueueState{})
		}},
		{name: "the last delivery ends in the dead-letter queue", queue: servicebustest.Queue{MaxDeliveryCount: 3}, prove: func(t *testing.T, r *rig) {
			r.send("a")
			receiver := r.receiver()
			for i := range 3 {
				m := r.receiveOne(receiver)
				if m.DeliveryCount != uint32(i+1) {
					t.Errorf("delivery %d tells %d", i+1, m.DeliveryCount)
				}
				must(t, receiver.AbandonMessage(r.ctx, m, nil))
			}
			r.state(servicebustest.QueueState{DeadLettered: 1})
			m := r.receiveOne(r.deadReceiver())
			if *m.DeadLetterReason != "MaxDeliveryCountExceeded" || *m.DeadLetterErrorDescription == "" || m.DeliveryCount != 1 {
				t.Errorf("reason %q, description %q, delivery %d", *m.DeadLetterReason, *m.DeadLetterErrorDescription, m.DeliveryCount)
			}
		}},
		{name: "a dead letter tells why, where from, and what was written", prove: deadLetter},
		{name: "a dead letter without a reason has none", prove: func(t *testing.T, r *rig) {
			r.send("a")
			receiver := r.receiver()
			must(t, receiver.DeadLetterMessage(r.ctx, r.receiveOne(receiver), nil))
			if m := r.receiveOne(r.deadReceiver()); m.DeadLetterReason != nil || m.DeadLetterErrorDescription != nil {
				t.Errorf("reason %v, description %v", m.DeadLetterReason, m.DeadLetterErrorDescription)
			}
		}},
		{name: "a dead letter counts from the start and is never moved again", queue: servicebustest.Queue{MaxDeliveryCount: 2}, prove: func(t *testing.T, r *rig) {
			r.deadLetterOne("a")
			dead := r.deadReceiver()
			for i := range 4 {
				m := r.receiveOne(dead)
				if m.DeliveryCount != uint32(i+1) {
					t.Errorf("delivery %d tells %d", i+1, m.DeliveryCount)
				}
				must(t, dead.AbandonMessage(r.ctx, m, nil))
			}
			r.state(servicebustest.QueueState{DeadLettered: 1})
			must(t, dead.CompleteMessage(r.ctx, r.receiveOne(dead), nil))
			r.state(servicebustest.QueueState{})
		}},
		{name: "a dead letter cannot be dead-lettered", prove: func(t *testing.T, r *rig) {
			r.deadLetterOne("a")
			dead := r.deadReceiver()
			condition(t, dead.DeadLetterMessage(r.ctx, r.receiveOne(dead), nil), amqp.ErrCondNotAllowed)
			r.state(servicebustest.QueueState{DeadLettered: 1})
		}},
		{name: "dead letters keep their sequence numbers and are ordered by them", prove: func(t *testing.T, r *rig) {
			r.send("a", "b", "c")
			receiver := r.receiver()
			messages := r.receive(receiver, 3)
			for _, i := range []int{2, 0, 1} {
				must(t, receiver.DeadLetterMessage(r.ctx, messages[i], nil))
			}
			var numbers []int64
			peeked, err := r.deadReceiver().PeekMessages(r.ctx, 5, nil)
			must(t, err)
			for _, m := range peeked {
				numbers = append(numbers, *m.SequenceNumber)
			}
			if diff := cmp.Diff([]int64{1, 2, 3}, numbers); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]string{"a", "b", "c"}, bodies(r.receive(r.deadReceiver(), 3))); diff != "" {
				t.Error(diff)
			}
		}},
		{name: "a reason over 32 KiB is refused and the message stays", prove: func(t *testing.T, r *rig) {
			r.send("a")
			raw, err := r.rawSession().NewReceiver(r.ctx, queueName, &amqp.ReceiverOptions{Credit: -1, SettlementMode: amqp.ReceiverSettleModeSecond.Ptr()})
			must(t, err)
			must(t, raw.IssueCredit(1))
			m, err := raw.Receive(r.ctx, nil)
			must(t, err)
			long := strings.Repeat("x", 33<<10)
			condition(t, raw.RejectMessage(r.ctx, m, &amqp.Error{Info: map[string]any{"DeadLetterReason": long}}), "com.microsoft:argument-error")
			r.state(servicebustest.QueueState{Locked: 1})
		}},
		{name: "settling by request works after the link is gone", prove: settleByRequest},
	})
}

func (r *rig) deadLetterOne(body string) {
	r.t.Helper()
	r.send(body)
	receiver := r.receiver()
	must(r.t, receiver.DeadLetterMessage(r.ctx, r.receiveOne(receiver), nil))
	must(r.t, receiver.Close(r.ctx))
}

func deadLetter(t *testing.T, r *rig) {
	r.sendMessage(&azservicebus.Message{
		Body: []byte("a"), MessageID: ptr("id"), TimeToLive: ptr(time.Hour), ApplicationProperties: map[string]any{"kept": int32(1)},
	})
	receiver := r.receiver()
	m := r.receiveOne(receiver)
	must(t, receiver.DeadLetterMessage(r.ctx, m, &azservicebus.DeadLetterOptions{
		Reason: ptr("InvalidMessage"), ErrorDescription: ptr("parameters.name"), PropertiesToModify: map[string]any{"phase": "decode"},
	}))
	dead := r.receiveOne(r.deadReceiver())
	if *dead.DeadLetterSource != queueName || *dead.TimeToLive != time.Hour || dead.MessageID != "id" || !dead.EnqueuedTime.Equal(*m.EnqueuedTime) {
		t.Errorf("source %v, time to live %s, id %s, enqueued %s, was %s", *dead.DeadLetterSource, *dead.TimeToLive, dead.MessageID, dead.EnqueuedTime, m.EnqueuedTime)
	}
	want := map[string]any{
		"kept": int32(1), "phase": "decode", "DeadLetterReason": "InvalidMessage", "DeadLetterErrorDescription": "parameters.name",
	}
	if diff := cmp.Diff(want, dead.ApplicationProperties); diff != "" {
		t.Error(diff)
	}
	told := r.server.Messages(deadName)
	if len(told) != 1 || told[0].DeadLetterReason != "InvalidMessage" || told[0].DeadLetterErrorDescription != "parameters.name" ||
		!cmp.Equal(told[0].Properties, []string{"DeadLetterErrorDescription", "DeadLetterReason", "kept", "phase"}) {
		t.Errorf("the server tells %+v", told)
	}
}

// settleByRequest settles on a new connection what was received on one that is gone: the SDK then uses $management.
func settleByRequest(t *testing.T, r *rig) {
	r.send("complete", "abandon", "defer", "dead-letter")
	receiver := r.receiver()
	messages := r.receive(receiver, 4)
	r.server.DetachLinks()
	must(t, receiver.CompleteMessage(r.ctx, messages[0], nil))
	must(t, receiver.AbandonMessage(r.ctx, messages[1], &azservicebus.AbandonMessageOptions{PropertiesToModify: map[string]any{"tried": int32(1)}}))
	must(t, receiver.DeferMessage(r.ctx, messages[2], nil))
	must(t, receiver.DeadLetterMessage(r.ctx, messages[3], &azservicebus.DeadLetterOptions{Reason: ptr("Because"), ErrorDescription: ptr("of that")}))
	r.state(servicebustest.QueueState{Active: 1, Deferred: 1, DeadLettered: 1})
	if again := r.receiveOne(receiver); again.ApplicationProperties["tried"] != int32(1) || again.DeliveryCount != 2 {
		t.Errorf("abandoned: properties %v, delivery %d", again.ApplicationProperties, again.DeliveryCount)
	}
	if dead := r.receiveOne(r.deadReceiver()); *dead.DeadLetterReason != "Because" || *dead.DeadLetterErrorDescription != "of that" {
		t.Errorf("dead-lettered: %v, %v", *dead.DeadLetterReason, *dead.DeadLetterErrorDescription)
	}
}

func TestDeferring(t *testing.T) {
	t.Parallel()
	prove(t, []behaviour{
		{name: "a deferred message comes by its sequence number only", prove: func(t *testing.T, r *rig) {
			receiver, number := r.deferOne()
			r.nothing(receiver, 30*time.Millisecond)
			messages, err := receiver.ReceiveDeferredMessages(r.ctx, []int64{number}, nil)
			must(t, err)
			if len(messages) != 1 || messages[0].ApplicationProperties["why"] != "later" || messages[0].LockToken == [16]byte{} {
				t.Fatalf("received %+v", messages)
			}
			r.state(servicebustest.QueueState{Locked: 1})
			must(t, receiver.RenewMessageLock(r.ctx, messages[0], nil))
			must(t, receiver.CompleteMessage(r.ctx, messages[0], nil))
			r.state(servicebustest.QueueState{})
		}},
		{name: "a deferred message that is abandoned stays deferred, counted", prove: func(t *testing.T, r *rig) {
			receiver, number := r.deferOne()
			for i := range 2 {
				messages, err := receiver.ReceiveDeferredMessages(r.ctx, []int64{number}, nil)
				must(t, err)
				if messages[0].DeliveryCount != uint32(i+1) {
					t.Errorf("delivery %d tells %d", i+1, messages[0].DeliveryCount)
				}
				must(t, receiver.AbandonMessage(r.ctx, messages[0], nil))
				r.state(servicebustest.QueueState{Deferred: 1})
			}
		}},
		{name: "a deferred message can be dead-lettered", prove: func(t *testing.T, r *rig) {
			receiver, number := r.deferOne()
			messages, err := receiver.ReceiveDeferredMessages(r.ctx, []int64{number}, nil)
			must(t, err)
			must(t, receiver.DeadLetterMessage(r.ctx, messages[0], nil))
			r.state(servicebustest.QueueState{DeadLettered: 1})
		}},
		{name: "a deferred message can be received and deleted", prove: func(t *testing.T, r *rig) {
			_, number := r.deferOne()
			receiver := r.receiverOf(&azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
			messages, err := receiver.ReceiveDeferredMessages(r.ctx, []int64{number}, nil)
			must(t, err)
			if len(messages) != 1 {
				t.Errorf("received %d messages", len(messages))
			}
			r.state(servicebustest.QueueState{})
		}},
		{name: "a message that is not deferred is not found by number, nor any beside it", prove: func(t *testing.T, r *rig) {
			receiver, number := r.deferOne()
			r.send("active")
			_, err := receiver.ReceiveDeferredMessages(r.ctx, []int64{number, number + 1}, nil)
			code(t, err, azservicebus.CodeNotFound)
			_, err = receiver.ReceiveDeferredMessages(r.ctx, []int64{99}, nil)
			code(t, err, azservicebus.CodeNotFound)
			r.state(servicebustest.QueueState{Active: 1, Deferred: 1})
		}},
		{name: "a deferred message does not expire", queue: servicebustest.Queue{DefaultTTL: time.Minute}, prove: func(t *testing.T, r *rig) {
			receiver, number := r.deferOne()
			r.send("expires")
			r.server.Advance(2 * time.Minute)
			r.state(servicebustest.QueueState{Deferred: 1})
			if _, err := receiver.ReceiveDeferredMessages(r.ctx, []int64{number}, nil); err != nil {
				t.Error(err)
			}
		}},
	})
}

func (r *rig) deferOne() (*azservicebus.Receiver, int64) {
	r.t.Helper()
	r.send("deferred")
	receiver := r.receiver()
	m := r.receiveOne(receiver)
	must(r.t, receiver.DeferMessage(r.ctx, m, &azservicebus.DeferMessageOptions{PropertiesToModify: map[string]any{"why": "later"}}))
	r.state(servicebustest.QueueState{Deferred: 1})
	return receiver, *m.SequenceNumber
}
