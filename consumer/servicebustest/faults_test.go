package servicebustest_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	prove(t, []behaviour{
		{name: "dropped connections: the client dials again and messages stay locked", prove: func(t *testing.T, r *rig) {
			r.send("a", "b")
			receiver := r.receiver()
			r.receiveOne(receiver)
			r.server.DropConnections()
			m := r.receiveOne(receiver)
			if string(m.Body) != "b" {
				t.Errorf("received %s", m.Body)
			}
			must(t, receiver.CompleteMessage(r.ctx, m, nil))
			r.state(servicebustest.QueueState{Locked: 1})
		}},
		{name: "dropped connections: a sender goes on", prove: func(t *testing.T, r *rig) {
			sender := r.sender()
			must(t, sender.SendMessage(r.ctx, &azservicebus.Message{}, nil))
			r.server.DropConnections()
			must(t, sender.SendMessage(r.ctx, &azservicebus.Message{}, nil))
			r.state(servicebustest.QueueState{Active: 2})
		}},
		{name: "detached links: receiver and sender attach again", prove: func(t *testing.T, r *rig) {
			sender, receiver := r.sender(), r.receiver()
			for _, body := range []string{"a", "b"} {
				must(t, sender.SendMessage(r.ctx, &azservicebus.Message{Body: []byte(body)}, nil))
				m := r.receiveOne(receiver)
				if string(m.Body) != body {
					t.Errorf("received %s, want %s", m.Body, body)
				}
				must(t, receiver.CompleteMessage(r.ctx, m, nil))
				r.server.DetachLinks()
			}
		}},
		{name: "detached links tell why", prove: func(t *testing.T, r *rig) {
			receiver, err := r.rawSession().NewReceiver(r.ctx, queueName, nil)
			must(t, err)
			r.server.DetachLinks()
			_, err = receiver.Receive(r.ctx, nil)
			var link *amqp.LinkError
			if !errors.As(err, &link) || link.RemoteErr == nil || link.RemoteErr.Condition != amqp.ErrCondDetachForced {
				t.Errorf("error %v", err)
			}
		}},
		{name: "expired locks: messages come again, counted, and the old lock is lost", prove: func(t *testing.T, r *rig) {
			r.send("a")
			receiver := r.receiver()
			m := r.receiveOne(receiver)
			r.server.ExpireLocks()
			code(t, receiver.CompleteMessage(r.ctx, m, nil), azservicebus.CodeLockLost)
			if again := r.receiveOne(receiver); again.DeliveryCount != 2 {
				t.Errorf("delivery %d", again.DeliveryCount)
			}
		}},
		{name: "throttling: sends and requests are refused, links stay, all goes on after it", prove: throttling},
		{name: "throttling: a new link is refused", prove: func(t *testing.T, r *rig) {
			r.server.Throttle(time.Minute)
			_, err := r.rawSession().NewSender(r.ctx, queueName, nil)
			condition(t, err, "com.microsoft:server-busy")
		}},
		{name: "throttling: the SDK's retries outlast it", prove: func(t *testing.T, r *rig) {
			sender := r.sender()
			must(t, sender.SendMessage(r.ctx, &azservicebus.Message{}, nil))
			r.server.Throttle(50 * time.Millisecond)
			must(t, sender.SendMessage(r.ctx, &azservicebus.Message{}, nil))
			r.state(servicebustest.QueueState{Active: 2})
		}},
		{name: "refused tokens: no new link, then one", prove: func(t *testing.T, r *rig) {
			r.server.RefuseTokens(time.Minute)
			sender := r.sender()
			code(t, sender.SendMessage(r.ctx, &azservicebus.Message{}, nil), azservicebus.CodeUnauthorizedAccess)
			r.server.RefuseTokens(time.Nanosecond)
			must(t, sender.SendMessage(r.ctx, &azservicebus.Message{}, nil))
		}},
		{name: "delay: answers come later, in order, and nothing is lost", prove: delayed},
		{name: "away: nobody listens, then the messages are there again", queue: servicebustest.Queue{LockDuration: 5 * time.Minute}, prove: away},
		{name: "a disabled queue detaches and refuses, an enabled one serves", prove: disabled},
		{name: "faults go by name", prove: faultNames},
	})
}

func throttling(t *testing.T, r *rig) {
	session := r.rawSession()
	sender, err := session.NewSender(r.ctx, queueName, nil)
	must(t, err)
	receiver, err := session.NewReceiver(r.ctx, queueName, &amqp.ReceiverOptions{Credit: -1, SettlementMode: amqp.ReceiverSettleModeSecond.Ptr()})
	must(t, err)
	must(t, sender.Send(r.ctx, amqp.NewMessage([]byte("a")), nil))
	must(t, sender.Send(r.ctx, amqp.NewMessage([]byte("b")), nil))
	must(t, receiver.IssueCredit(2))
	m, err := receiver.Receive(r.ctx, nil)
	must(t, err)
	_, err = receiver.Receive(r.ctx, nil)
	must(t, err)
	sdk := r.receiver()
	_, err = sdk.PeekMessages(r.ctx, 1, nil)
	must(t, err)

	r.server.Throttle(time.Minute)
	condition(t, sender.Send(r.ctx, amqp.NewMessage([]byte("c")), nil), "com.microsoft:server-busy")
	condition(t, receiver.AcceptMessage(r.ctx, m), "com.microsoft:server-busy")
	r.state(servicebustest.QueueState{Locked: 2})
	must(t, receiver.IssueCredit(1))
	r.server.ExpireLocks()
	r.state(servicebustest.QueueState{Active: 2}) // there is credit for one of them
	r.server.Advance(time.Minute)
	if _, err := receiver.Receive(r.ctx, nil); err != nil {
		t.Error(err)
	}
	must(t, sender.Send(r.ctx, amqp.NewMessage([]byte("d")), nil))
	_, err = sdk.PeekMessages(r.ctx, 1, nil)
	must(t, err)
}

func delayed(t *testing.T, r *rig) {
	sender, receiver := r.sender(), r.receiver()
	must(t, sender.SendMessage(r.ctx, &azservicebus.Message{Body: []byte("before")}, nil))
	must(t, receiver.CompleteMessage(r.ctx, r.receiveOne(receiver), nil))
	const per = 80 * time.Millisecond
	r.server.Delay(per, 10*time.Second)
	for _, body := range []string{"a", "b"} {
		start := time.Now()
		must(t, sender.SendMessage(r.ctx, &azservicebus.Message{Body: []byte(body)}, nil))
		if took := time.Since(start); took < per {
			t.Errorf("the send was answered after %s", took)
		}
	}
	for _, body := range []string{"a", "b"} {
		if m := r.receiveOne(receiver); string(m.Body) != body {
			t.Errorf("received %s, want %s", m.Body, body)
		} else {
			must(t, receiver.CompleteMessage(r.ctx, m, nil))
		}
	}
	r.state(servicebustest.QueueState{})
}

func away(t *testing.T, r *rig) {
	r.send("a", "b")
	receiver := r.receiver()
	r.receiveOne(receiver)
	r.server.Away(time.Minute)
	r.server.Away(time.Millisecond) // changes nothing: it is away
	r.after(time.Now().Add(50 * time.Millisecond))
	if conn, err := net.Dial("tcp", r.server.Addr()); err == nil {
		conn.Close()
		t.Error("the server listens while it is away")
	}
	r.server.Advance(time.Minute)
	r.eventually(func() bool {
		ctx, cancel := context.WithTimeout(r.ctx, 5*time.Second)
		defer cancel()
		messages, err := receiver.ReceiveMessages(ctx, 1, nil)
		return err == nil && len(messages) == 1 && string(messages[0].Body) == "b"
	}, func() any { return r.server.Queues() })
	r.state(servicebustest.QueueState{Locked: 2})
}

func disabled(t *testing.T, r *rig) {
	sender, receiver := r.sender(), r.receiver()
	must(t, sender.SendMessage(r.ctx, &azservicebus.Message{}, nil))
	_, err := receiver.PeekMessages(r.ctx, 1, nil)
	must(t, err)
	r.server.Disable("elsewhere", true)
	r.server.Disable(strings.ToUpper(queueName), true)
	condition(t, sender.SendMessage(r.ctx, &azservicebus.Message{}, nil), "com.microsoft:entity-disabled")
	_, err = receiver.ReceiveMessages(r.ctx, 1, nil)
	if err == nil {
		_, err = receiver.ReceiveMessages(r.ctx, 1, nil) // the first call only finds its link detached
	}
	condition(t, err, "com.microsoft:entity-disabled")
	_, err = r.deadReceiver().PeekMessages(r.ctx, 1, nil)
	condition(t, err, "com.microsoft:entity-disabled")
	r.server.Disable(queueName, false)
	r.send("enabled") // on new links: the SDK does not replace one that it lost for this reason
	r.receive(r.receiver(), 2)
}

func faultNames(t *testing.T, r *rig) {
	for _, name := range []string{"drop-connections", "detach-links", "expire-locks", "expire-tokens", "throttle", "refuse-tokens", "delay", "away"} {
		if err := r.server.Fault(name, time.Millisecond); err != nil {
			t.Error(err)
		}
	}
	err := r.server.Fault("flood", time.Second)
	if err == nil || !strings.Contains(err.Error(), `"flood"`) || !strings.Contains(err.Error(), "away, delay, detach-links") {
		t.Errorf("error %v", err)
	}
	r.eventually(func() bool {
		conn, err := net.Dial("tcp", r.server.Addr())
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, func() any { return "still away" })
	r.send("after all of them")
}
