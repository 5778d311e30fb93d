package servicebustest_test

import (
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
)

func TestLocks(t *testing.T) {
	t.Parallel()
	// lost has the locks of a minute run out.
	lost := func(r *rig) { r.server.Advance(2 * time.Minute) }
	prove(t, []behaviour{
		{name: "a lock that runs out counts a delivery", prove: func(t *testing.T, r *rig) {
			r.send("a")
			receiver := r.receiver()
			r.receiveOne(receiver)
			lost(r)
			if m := r.receiveOne(receiver); m.DeliveryCount != 2 {
				t.Errorf("delivery %d", m.DeliveryCount)
			}
		}},
		{name: "a renewed lock holds longer", prove: func(t *testing.T, r *rig) {
			r.send("a")
			receiver := r.receiver()
			m := r.receiveOne(receiver)
			first := *m.LockedUntil
			for range 3 {
				r.server.Advance(40 * time.Second)
				must(t, receiver.RenewMessageLock(r.ctx, m, nil))
			}
			if !m.LockedUntil.After(first.Add(100 * time.Second)) {
				t.Errorf("first until %s, now until %s", first, m.LockedUntil)
			}
			must(t, receiver.CompleteMessage(r.ctx, m, nil))
		}},
		{name: "a lost lock cannot be renewed", prove: func(t *testing.T, r *rig) {
			r.send("a")
			receiver := r.receiver()
			m := r.receiveOne(receiver)
			lost(r)
			r.state(servicebustest.QueueState{Active: 1})
			code(t, receiver.RenewMessageLock(r.ctx, m, nil), azservicebus.CodeLockLost)
		}},
		{name: "settling under a lost lock fails, and the message stays", prove: func(t *testing.T, r *rig) {
			r.send("a")
			receiver := r.receiver()
			m := r.receiveOne(receiver)
			lost(r)
			r.state(servicebustest.QueueState{Active: 1})
			code(t, receiver.CompleteMessage(r.ctx, m, nil), azservicebus.CodeLockLost)
			r.state(servicebustest.QueueState{Active: 1})
		}},
		{name: "a lock that ran out at its last delivery dead-letters", queue: servicebustest.Queue{MaxDeliveryCount: 1}, prove: func(t *testing.T, r *rig) {
			r.send("a")
			r.receiveOne(r.receiver())
			lost(r)
			r.state(servicebustest.QueueState{DeadLettered: 1})
		}},
		{name: "a lock outlives its link", prove: func(t *testing.T, r *rig) {
			r.send("a")
			receiver := r.receiver()
			r.receiveOne(receiver)
			must(t, receiver.Close(r.ctx))
			r.nothing(r.receiver(), 50*time.Millisecond)
			r.state(servicebustest.QueueState{Locked: 1})
		}},
		{name: "a deferred message whose lock runs out stays deferred", prove: func(t *testing.T, r *rig) {
			receiver, number := r.deferOne()
			_, err := receiver.ReceiveDeferredMessages(r.ctx, []int64{number}, nil)
			must(t, err)
			r.state(servicebustest.QueueState{Locked: 1})
			lost(r)
			r.state(servicebustest.QueueState{Deferred: 1})
			if got := r.server.Messages(queueName)[0].DeliveryCount; got != 1 {
				t.Errorf("delivery count %d", got)
			}
		}},
	})
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	// Whose messages live for a minute, also while they are locked.
	brief := servicebustest.Queue{DefaultTTL: time.Minute, LockDuration: 5 * time.Minute}
	briefly := brief
	briefly.DeadLetteringOnExpiration = true
	prove(t, []behaviour{
		{name: "a message that expires vanishes", prove: func(t *testing.T, r *rig) {
			r.sendMessage(&azservicebus.Message{TimeToLive: ptr(50 * time.Millisecond)})
			r.state(servicebustest.QueueState{})
		}},
		{name: "a message that expires is dead-lettered if the queue says so", queue: servicebustest.Queue{DeadLetteringOnExpiration: true}, prove: func(t *testing.T, r *rig) {
			r.sendMessage(&azservicebus.Message{TimeToLive: ptr(50 * time.Millisecond)})
			r.state(servicebustest.QueueState{DeadLettered: 1})
			if m := r.receiveOne(r.deadReceiver()); *m.DeadLetterReason != "TTLExpiredException" {
				t.Errorf("reason %s", *m.DeadLetterReason)
			}
		}},
		{name: "the queue's time to live bounds a message's", queue: brief, prove: func(t *testing.T, r *rig) {
			r.sendMessage(&azservicebus.Message{TimeToLive: ptr(time.Hour)})
			r.sendMessage(&azservicebus.Message{})
			if m := r.receiveOne(r.receiver()); *m.TimeToLive != time.Minute {
				t.Errorf("time to live %s", *m.TimeToLive)
			}
			r.server.Advance(2 * time.Minute)
			r.state(servicebustest.QueueState{Locked: 1})
		}},
		{name: "a message's time to live may be shorter than the queue's", queue: servicebustest.Queue{DefaultTTL: time.Hour}, prove: func(t *testing.T, r *rig) {
			r.sendMessage(&azservicebus.Message{TimeToLive: ptr(50 * time.Millisecond)})
			r.state(servicebustest.QueueState{})
		}},
		{name: "a locked message expires once it is given back", queue: brief, prove: func(t *testing.T, r *rig) {
			r.send("a")
			receiver := r.receiver()
			m := r.receiveOne(receiver)
			r.server.Advance(2 * time.Minute)
			r.state(servicebustest.QueueState{Locked: 1})
			must(t, receiver.AbandonMessage(r.ctx, m, nil))
			r.state(servicebustest.QueueState{})
		}},
		{name: "a locked message can be completed after its time", queue: briefly, prove: func(t *testing.T, r *rig) {
			r.send("a")
			receiver := r.receiver()
			m := r.receiveOne(receiver)
			r.server.Advance(2 * time.Minute)
			must(t, receiver.CompleteMessage(r.ctx, m, nil))
			r.state(servicebustest.QueueState{})
		}},
		{name: "dead letters do not expire", queue: brief, prove: func(t *testing.T, r *rig) {
			r.deadLetterOne("dead")
			r.send("expires")
			r.server.Advance(2 * time.Minute)
			r.state(servicebustest.QueueState{DeadLettered: 1})
		}},
	})
}

func TestScheduling(t *testing.T) {
	t.Parallel()
	prove(t, []behaviour{
		{name: "a scheduled message becomes active with a new sequence number", prove: func(t *testing.T, r *rig) {
			due := time.Now().Add(time.Hour)
			numbers, err := r.sender().ScheduleMessages(r.ctx, []*azservicebus.Message{{Body: []byte("scheduled")}}, due, nil)
			must(t, err)
			r.state(servicebustest.QueueState{Scheduled: 1})
			r.send("sent later")
			receiver := r.receiver()
			first := r.receiveOne(receiver)
			must(t, receiver.CompleteMessage(r.ctx, first, nil))
			r.server.Advance(time.Hour)
			second := r.receiveOne(receiver)
			if diff := cmp.Diff([]string{"sent later", "scheduled"}, []string{string(first.Body), string(second.Body)}); diff != "" {
				t.Error(diff)
			}
			if *second.SequenceNumber <= *first.SequenceNumber || *second.EnqueuedSequenceNumber != numbers[0] {
				t.Errorf("sequence number %d after %d, enqueued as %d, scheduled as %d",
					*second.SequenceNumber, *first.SequenceNumber, *second.EnqueuedSequenceNumber, numbers[0])
			}
			if second.EnqueuedTime.Before(due.Truncate(time.Millisecond)) || !second.ScheduledEnqueueTime.Equal(due.Truncate(time.Millisecond)) {
				t.Errorf("enqueued %s, scheduled %s, due %s", second.EnqueuedTime, second.ScheduledEnqueueTime, due)
			}
		}},
		{name: "a message sent with a time is scheduled too", prove: func(t *testing.T, r *rig) {
			r.sendMessage(&azservicebus.Message{ScheduledEnqueueTime: ptr(time.Now().Add(100 * time.Millisecond))})
			r.receiveOne(r.receiver())
		}},
		{name: "a time that is past schedules nothing", prove: func(t *testing.T, r *rig) {
			r.sendMessage(&azservicebus.Message{ScheduledEnqueueTime: ptr(time.Now().Add(-time.Hour))})
			if m := r.receiveOne(r.receiver()); *m.SequenceNumber != 1 {
				t.Errorf("sequence number %d", *m.SequenceNumber)
			}
		}},
		{name: "time to live runs from the activation", prove: func(t *testing.T, r *rig) {
			r.sendMessage(&azservicebus.Message{TimeToLive: ptr(time.Minute), ScheduledEnqueueTime: ptr(time.Now().Add(50 * time.Millisecond))})
			m := r.receiveOne(r.receiver())
			if !m.ExpiresAt.Equal(m.EnqueuedTime.Add(time.Minute)) || m.EnqueuedTime.Before(*m.ScheduledEnqueueTime) {
				t.Errorf("scheduled %s, enqueued %s, expires %s", m.ScheduledEnqueueTime, m.EnqueuedTime, m.ExpiresAt)
			}
		}},
		{name: "several are scheduled at once and canceled one by one", prove: func(t *testing.T, r *rig) {
			sender := r.sender()
			numbers, err := sender.ScheduleMessages(r.ctx, []*azservicebus.Message{{}, {}, {}}, time.Now().Add(time.Hour), nil)
			must(t, err)
			if diff := cmp.Diff([]int64{1, 2, 3}, numbers); diff != "" {
				t.Error(diff)
			}
			must(t, sender.CancelScheduledMessages(r.ctx, numbers[1:2], nil))
			r.state(servicebustest.QueueState{Scheduled: 2})
			code(t, sender.CancelScheduledMessages(r.ctx, numbers[1:], nil), azservicebus.CodeNotFound)
			r.state(servicebustest.QueueState{Scheduled: 2})
		}},
		{name: "an active message cannot be canceled", prove: func(t *testing.T, r *rig) {
			r.send("a")
			code(t, r.sender().CancelScheduledMessages(r.ctx, []int64{1}, nil), azservicebus.CodeNotFound)
			r.state(servicebustest.QueueState{Active: 1})
		}},
	})
}

func TestDuplicates(t *testing.T) {
	t.Parallel()
	named := func(id string) *azservicebus.Message {
		return &azservicebus.Message{Body: []byte(id), MessageID: ptr(id)}
	}
	prove(t, []behaviour{
		{name: "a message id seen before is swallowed", queue: servicebustest.Queue{RequiresDuplicateDetection: true}, prove: func(t *testing.T, r *rig) {
			r.sendMessage(named("one"))
			r.sendMessage(named("one"))
			r.sendMessage(named("two"))
			r.state(servicebustest.QueueState{Active: 2})
			receiver := r.receiver()
			for _, m := range r.receive(receiver, 2) {
				must(t, receiver.CompleteMessage(r.ctx, m, nil))
			}
			r.sendMessage(named("one"))
			r.state(servicebustest.QueueState{})
		}},
		{name: "a scheduled copy with the same id is swallowed", queue: servicebustest.Queue{RequiresDuplicateDetection: true}, prove: func(t *testing.T, r *rig) {
			r.sendMessage(named("one"))
			_, err := r.sender().ScheduleMessages(r.ctx, []*azservicebus.Message{named("one")}, time.Now().Add(time.Hour), nil)
			must(t, err)
			r.state(servicebustest.QueueState{Active: 1})
		}},
		{name: "an id is forgotten after the window", queue: servicebustest.Queue{RequiresDuplicateDetection: true, DuplicateDetectionWindow: time.Minute}, prove: func(t *testing.T, r *rig) {
			r.sendMessage(named("one"))
			r.server.Advance(2 * time.Minute)
			r.sendMessage(named("one"))
			r.state(servicebustest.QueueState{Active: 2})
		}},
		{name: "messages without an id are no duplicates", queue: servicebustest.Queue{RequiresDuplicateDetection: true}, prove: func(t *testing.T, r *rig) {
			r.rawSend(amqp.NewMessage([]byte("x")))
			r.rawSend(amqp.NewMessage([]byte("x")))
			r.state(servicebustest.QueueState{Active: 2})
		}},
		{name: "without detection the same id is another message", prove: func(t *testing.T, r *rig) {
			r.sendMessage(named("one"))
			r.sendMessage(named("one"))
			r.state(servicebustest.QueueState{Active: 2})
		}},
	})
}
