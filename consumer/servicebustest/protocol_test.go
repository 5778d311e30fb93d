package servicebustest_test

import (
	"testing"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

func TestProtocolErrors(t *testing.T) {
	t.Parallel()
	end := func(condition amqp.Symbol, bad ...amqp.Performative) func(*testing.T, *rig) {
		return func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.attachSender(0)
			w.send(bad...)
			if p := expect[*amqp.End](w); p.Err == nil || p.Err.Condition != condition {
				t.Errorf("ended with %v, want %s", p.Err, condition)
			}
			// The connection lives: the peer ends its side, and begins another session on the channel.
			late := &amqp.Attach{Name: "late", Handle: 5, Role: amqp.RoleSender, Target: &amqp.Target{Address: queueName}}
			w.send(late, &amqp.End{}, &amqp.Begin{})
			expect[*amqp.Begin](w)
		}
	}
	closing := func(condition amqp.Symbol, bad []byte) func(*testing.T, *rig) {
		return func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.write(bad)
			if p := expect[*amqp.Close](w); p.Err == nil || p.Err.Condition != condition {
				t.Errorf("closed with %v, want %s", p.Err, condition)
			}
			w.ended()
		}
	}
	prove(t, []behaviour{
		{name: "a wrong protocol header is answered with the right one", prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.write([]byte("AMQP\x00\x00\x09\x01"))
			w.header(amqp.HeaderAMQP)
			w.ended()
		}},
		{name: "an unknown SASL mechanism is refused", prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.write([]byte(amqp.HeaderSASL))
			w.header(amqp.HeaderSASL)
			mechanisms := expect[*amqp.Mechanisms](w)
			if len(mechanisms.Names) != 4 {
				t.Errorf("mechanisms %v", mechanisms.Names)
			}
			w.write(amqp.AppendFrame(nil, amqp.FrameSASL, 0, &amqp.Init{Mechanism: "GSSAPI"}))
			if outcome := expect[*amqp.Outcome](w); outcome.Code != amqp.SASLAuth {
				t.Errorf("outcome %d", outcome.Code)
			}
			w.ended()
		}},
		{name: "a transfer on an unknown handle ends the session", prove: end("amqp:session:unattached-handle", &amqp.Transfer{Handle: 9})},
		{name: "a flow on an unknown handle ends the session", prove: end("amqp:session:unattached-handle", &amqp.Flow{Handle: amqp.Some(9)})},
		{name: "a detach of an unknown handle ends the session", prove: end("amqp:session:unattached-handle", &amqp.Detach{Handle: 9})},
		{name: "a handle that is in use ends the session", prove: end("amqp:session:handle-in-use", &amqp.Attach{Name: "x", Handle: 0})},
		{name: "a delivery without an id ends the session", prove: end("amqp:not-allowed", &amqp.Transfer{Handle: 0, Payload: message(1)})},
		{name: "a frame on an unknown channel closes the connection", prove: closing("amqp:illegal-state", amqp.AppendFrame(nil, amqp.FrameAMQP, 7, &amqp.End{}))},
		{name: "a second begin on a channel closes the connection", prove: closing("amqp:not-allowed", amqp.AppendFrame(nil, amqp.FrameAMQP, 0, &amqp.Begin{}))},
		{name: "a frame that is too large closes the connection", prove: closing("amqp:connection:framing-error", []byte{0x7f, 0, 0, 0, 2, 0, 0, 0})},
		{name: "a frame that cannot be decoded closes the connection", prove: closing("amqp:decode-error", []byte{0, 0, 0, 12, 2, 0, 0, 0, 1, 2, 3, 4})},
		{name: "a close is answered", prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.send(&amqp.Close{})
			if p := expect[*amqp.Close](w); p.Err != nil {
				t.Errorf("closed with %v", p.Err)
			}
			w.ended()
		}},
		{name: "a transaction coordinator is refused", prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.send(&amqp.Attach{Name: "coordinator", Role: amqp.RoleSender, Target: &amqp.Target{Coordinator: true}})
			if answer := expect[*amqp.Attach](w); answer.Target != nil || answer.Source != nil {
				t.Errorf("attached %+v", answer)
			}
			if p := expect[*amqp.Detach](w); p.Err == nil || p.Err.Condition != "amqp:not-implemented" {
				t.Errorf("detached with %v", p.Err)
			}
		}},
		{name: "a message over the limit detaches the link", queue: servicebustest.Queue{MaxMessageBytes: 1000}, prove: tooLarge},
		{name: "a link of the same name takes the place of the first", prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			w.attachSender(0)
			w.send(&amqp.Attach{Name: "sender", Handle: 1, Role: amqp.RoleSender, Target: &amqp.Target{Address: queueName}})
			if p := expect[*amqp.Detach](w); p.Handle != 0 || p.Err.Condition != "amqp:link:stolen" {
				t.Errorf("detached %d with %v", p.Handle, p.Err)
			}
			expect[*amqp.Attach](w)
		}},
	})
}

func tooLarge(t *testing.T, r *rig) {
	w := dialWire(t, r.server)
	w.openAsUsual()
	w.attachSender(0)
	first := &amqp.Transfer{Handle: 0, DeliveryID: amqp.Some(0), Tag: []byte{0}, More: true, Payload: message(900)}
	w.send(first, &amqp.Transfer{Handle: 0, Payload: message(900)}, &amqp.Transfer{Handle: 0, Payload: message(900)})
	if p := expect[*amqp.Detach](w); p.Err == nil || p.Err.Condition != "amqp:link:message-size-exceeded" {
		t.Errorf("detached with %v", p.Err)
	}
	w.send(&amqp.Detach{Handle: 0, Closed: true})
	w.attachSender(0) // the handle is free again
	r.state(servicebustest.QueueState{})
}
