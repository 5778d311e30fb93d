package servicebustest_test

import (
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

func TestFrames(t *testing.T) {
	t.Parallel()
	prove(t, []behaviour{
		{name: "a message in many small frames waits for the window", prove: smallWindow},
		{name: "a message of several frames can be given up", prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.attachSender(0)
			w.send(
				&amqp.Transfer{Handle: 0, DeliveryID: amqp.Some(0), Tag: []byte{0}, More: true, Payload: []byte("rubbish")},
				&amqp.Transfer{Handle: 0, Aborted: true},
				&amqp.Transfer{Handle: 0, DeliveryID: amqp.Some(1), Tag: []byte{1}, Payload: message(1)},
			)
			if p := expect[*amqp.Disposition](w); p.First != 1 || p.State.Kind != amqp.StateAccepted {
				t.Errorf("answered %+v", p)
			}
		}},
		{name: "draining ends credit that is left", prove: func(t *testing.T, r *rig) {
			r.send("a", "b")
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.attachReceiver(0)
			flow := &amqp.Flow{NextIncomingID: amqp.Some(0), IncomingWindow: 100, Handle: amqp.Some(0), DeliveryCount: amqp.Some(0), LinkCredit: amqp.Some(5), Drain: true}
			w.send(flow)
			expect[*amqp.Transfer](w)
			expect[*amqp.Transfer](w)
			if p := expect[*amqp.Flow](w); !p.Drain || p.DeliveryCount != amqp.Some(5) || p.LinkCredit != amqp.Some(0) {
				t.Errorf("flow %+v", p)
			}
			r.send("c")
			w.send(&amqp.Flow{NextIncomingID: amqp.Some(2), IncomingWindow: 100, Handle: amqp.Some(0), Echo: true})
			expect[*amqp.Flow](w)
			r.state(servicebustest.QueueState{Active: 1, Locked: 2})
		}},
		{name: "a sender that settles second is asked to confirm", prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.send(&amqp.Attach{Name: "s", Role: amqp.RoleSender, ReceiverSettle: amqp.ReceiverSecond, Target: &amqp.Target{Address: queueName}})
			expect[*amqp.Attach](w)
			w.send(&amqp.Transfer{DeliveryID: amqp.Some(0), Tag: []byte{0}, Payload: message(1)})
			if p := expect[*amqp.Disposition](w); p.Settled || p.State.Kind != amqp.StateAccepted {
				t.Errorf("answered %+v", p)
			}
		}},
		{name: "a client hears of a new window in the middle of a long message", prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.attachSender(0)
			if p := expect[*amqp.Flow](w); !p.LinkCredit.Set {
				t.Errorf("flow %+v", p)
			}
			part := &amqp.Transfer{DeliveryID: amqp.Some(0), Tag: []byte{0}, More: true, Payload: []byte{0}}
			for range 4999 {
				w.send(part)
			}
			if p := expect[*amqp.Flow](w); p.Handle.Set || p.IncomingWindow == 0 || p.NextIncomingID.Value < 2000 {
				t.Errorf("flow %+v", p)
			}
		}},
		{name: "answers that are held back are not mixed up", prove: heldAnswers},
		{name: "a message that cannot be decoded is rejected", prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.attachSender(0)
			for i, format := range []uint32{0, 0x80013700} {
				w.send(&amqp.Transfer{Handle: 0, DeliveryID: amqp.Some(uint32(i)), Tag: []byte{0}, Format: amqp.Some(format), Payload: []byte("rubbish")})
				if p := expect[*amqp.Disposition](w); p.State.Kind != amqp.StateRejected {
					t.Errorf("answered %+v", p)
				}
			}
			r.state(servicebustest.QueueState{})
		}},
		{name: "a client whose window is shut does not keep a message from others", prove: shutWindow},
		{name: "a client that does not read is not sent everything", prove: deafPeer},
		{name: "one disposition settles a range", prove: settleRange},
		{name: "a client that asks is told the state of the session and the link", prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.attachReceiver(3)
			w.send(&amqp.Flow{Handle: amqp.Some(3), LinkCredit: amqp.Some(8), DeliveryCount: amqp.Some(0), Echo: true})
			if p := expect[*amqp.Flow](w); p.LinkCredit != amqp.Some(8) {
				t.Errorf("flow %+v", p)
			}
			w.send(&amqp.Flow{Echo: true})
			if p := expect[*amqp.Flow](w); p.Handle.Set {
				t.Errorf("flow %+v", p)
			}
		}},
		{name: "a peer that asks for heartbeats gets them", prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.open(&amqp.Open{ContainerID: "test", MaxFrameSize: 1 << 20, IdleTimeout: 40 * time.Millisecond}, &amqp.Begin{})
			for range 3 {
				frame, err := w.frames.Read()
				must(t, err)
				if len(frame.Body) != 0 {
					t.Errorf("received %x", frame.Body)
				}
			}
		}},
		{name: "a peer that falls silent is cut off", config: func(config *servicebustest.Config) { config.IdleTimeout = 500 * time.Millisecond }, prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.ended()
		}},
	})
}

// smallWindow receives a message of 2000 bytes in frames of 512, three at a time.
func smallWindow(t *testing.T, r *rig) {
	r.send("before", string(make([]byte, 2000)), "after")
	w := dialWire(t, r.server)
	w.open(&amqp.Open{ContainerID: "test", MaxFrameSize: 512}, &amqp.Begin{IncomingWindow: 3})
	w.attachReceiver(0)
	window := func(next uint32) *amqp.Flow {
		return &amqp.Flow{NextIncomingID: amqp.Some(next), IncomingWindow: 3, Handle: amqp.Some(0), DeliveryCount: amqp.Some(0), LinkCredit: amqp.Some(3)}
	}
	w.send(window(0))
	var received uint32
	var messages int
	for messages < 3 {
		p := expect[*amqp.Transfer](w)
		received++
		if !p.More {
			messages++
		}
		if received%3 == 0 {
			// Written when one frame was still on its way: the window for one more is taken already.
			w.send(&amqp.Flow{NextIncomingID: amqp.Some(received - 1), IncomingWindow: 1, Echo: true})
			expect[*amqp.Flow](w) // and no transfer while the window is shut
			w.send(window(received))
		}
	}
	if received < 7 {
		t.Errorf("received 3 messages in %d frames", received)
	}
	r.state(servicebustest.QueueState{Locked: 3})
}

// shutWindow has two receivers wait; the first shuts its window, so that the message that wakes it must go to the second.
func shutWindow(t *testing.T, r *rig) {
	waiting := func() *wire {
		w := dialWire(t, r.server)
		w.openAsUsual()
		w.attachReceiver(0)
		// The answer leaves with the round in which the server looks for messages: after it, the link waits in the queue.
		w.send(&amqp.Flow{
			NextIncomingID: amqp.Some(0), IncomingWindow: 9, Handle: amqp.Some(0), DeliveryCount: amqp.Some(0), LinkCredit: amqp.Some(1), Echo: true,
		})
		expect[*amqp.Flow](w)
		return w
	}
	first, second := waiting(), waiting()
	first.send(&amqp.Flow{NextIncomingID: amqp.Some(0), Echo: true})
	expect[*amqp.Flow](first)
	r.send("a")
	expect[*amqp.Transfer](second)
}

// deafPeer gives credit for 24 MB and does not read: what the server locks for it is bounded by what it may leave unsent.
func deafPeer(t *testing.T, r *rig) {
	const count, size = 120, 200 << 10
	sender := r.sender()
	for range count {
		must(t, sender.SendMessage(r.ctx, &azservicebus.Message{Body: make([]byte, size)}, nil))
	}
	w := dialWire(t, r.server)
	w.open(&amqp.Open{ContainerID: "test", MaxFrameSize: 1 << 20}, &amqp.Begin{IncomingWindow: 1 << 20})
	w.attachReceiver(0)
	w.send(&amqp.Flow{
		NextIncomingID: amqp.Some(0), IncomingWindow: 1 << 20, Handle: amqp.Some(0), DeliveryCount: amqp.Some(0), LinkCredit: amqp.Some(count),
	})
	r.eventually(func() bool { return r.server.Queues()[0].Locked > 0 }, func() any { return r.server.Queues() })
	r.after(time.Now().Add(300 * time.Millisecond))
	if locked := r.server.Queues()[0].Locked; locked == count {
		t.Errorf("%d of %d messages are locked for a peer that does not read", locked, count)
	}
	for received := 0; received < count; {
		if p := expect[*amqp.Transfer](w); !p.More {
			received++
		}
	}
	r.state(servicebustest.QueueState{Locked: count})
}

// heldAnswers asks for more while the first answer is held back.
func heldAnswers(t *testing.T, r *rig) {
	w := dialWire(t, r.server)
	w.openAsUsual()
	attach := func(name string, handle int) {
		w.send(&amqp.Attach{Name: name, Handle: uint32(handle), Role: amqp.RoleSender, Target: &amqp.Target{Address: queueName}})
	}
	// First some of the same size that are not held back, so that the server has buffers that are large enough to be used again.
	for i, name := range []string{"abc", "def", "ghi"} {
		attach(name, 10+i)
		expect[*amqp.Attach](w)
	}
	r.server.Delay(300*time.Millisecond, time.Minute)
	names := []string{"one", "two", "six"}
	for handle, name := range names {
		attach(name, handle)
		r.after(time.Now().Add(50 * time.Millisecond))
	}
	for handle, name := range names {
		if p := expect[*amqp.Attach](w); p.Name != name || p.Handle != uint32(handle) {
			t.Errorf("answered %+v, want %s", p, name)
		}
	}
}

func settleRange(t *testing.T, r *rig) {
	r.send("a", "b", "c", "d")
	w := dialWire(t, r.server)
	w.openAsUsual()
	w.attachReceiver(0)
	w.send(&amqp.Flow{NextIncomingID: amqp.Some(0), IncomingWindow: 100, Handle: amqp.Some(0), DeliveryCount: amqp.Some(0), LinkCredit: amqp.Some(4)})
	for range 4 {
		expect[*amqp.Transfer](w)
	}
	w.send(&amqp.Disposition{Role: amqp.RoleReceiver, First: 0, Last: 1, State: amqp.State{Kind: amqp.StateAccepted}})
	for range 2 {
		if p := expect[*amqp.Disposition](w); !p.Settled || p.State.Kind != amqp.StateAccepted {
			t.Errorf("answered %+v", p)
		}
	}
	r.state(servicebustest.QueueState{Locked: 2})
	w.send(
		&amqp.Disposition{Role: amqp.RoleReceiver, First: 3, Last: 1 << 31, Settled: true, State: amqp.State{Kind: amqp.StateReleased}},
		&amqp.Flow{NextIncomingID: amqp.Some(4), Echo: true},
	)
	expect[*amqp.Flow](w) // what the client settles alone is not answered
	r.state(servicebustest.QueueState{Active: 1, Locked: 1})
}
