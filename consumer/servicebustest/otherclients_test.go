package servicebustest_test

import (
	"testing"

	"github.com/Azure/go-amqp"
	wireamqp "github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

// Clients for other languages than Go attach their links in other ways.
func TestOtherClients(t *testing.T) {
	t.Parallel()
	prove(t, []behaviour{
		{name: "an answer goes to the link that the request names, where it has no address", prove: answerByName},
		{name: "an answer goes to the link with the address before one of that name", prove: answerByAddress},
		{name: "a bare session filter is answered with a bare one", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendTo("b", "b1")
			w := dialWire(t, r.server)
			w.openAsUsual()
			for handle, filter := range []any{"a", nil} {
				if got, want := w.acceptSession(uint32(handle), filter), []any{"a", "b"}[handle]; got != want {
					t.Errorf("asked for %v: the answer's filter is %#v, want %#v", filter, got, want)
				}
			}
			r.sessions(held("a", 0), held("b", 1))
		}},
		{name: "a described session filter is answered with a described one", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			w := dialWire(t, r.server)
			w.openAsUsual()
			asked := wireamqp.Described{Descriptor: uint64(0x137000000C), Value: "a"}
			if got := w.acceptSession(0, asked); got != asked {
				t.Errorf("the answer's filter is %#v, want %#v", got, asked)
			}
		}},
	})
}

// acceptSession attaches a receiver with a session filter and returns that of the answer.
func (w *wire) acceptSession(handle uint32, filter any) any {
	w.t.Helper()
	const name = "com.microsoft:session-filter"
	w.send(&wireamqp.Attach{
		Name: string(rune('a' + handle)), Handle: handle, Role: wireamqp.RoleReceiver,
		Source: &wireamqp.Source{Address: queueName, Filter: wireamqp.Map{{Key: wireamqp.Symbol(name), Value: filter}}},
	})
	answer := expect[*wireamqp.Attach](w)
	if answer.Source == nil {
		w.t.Fatal("refused")
	}
	got, _ := answer.Source.Filter.Get(name).(wireamqp.Raw)
	return wireamqp.NewDecoder(got).Value()
}

// answerByName asks as a client does whose receiving link has no target address.
func answerByName(t *testing.T, r *rig) {
	session := r.rawSession()
	r.asked(session, r.answers(session, &amqp.ReceiverOptions{Name: "answers"}))
}

func answerByAddress(t *testing.T, r *rig) {
	session := r.rawSession()
	r.answers(session, &amqp.ReceiverOptions{Name: "answers"})
	r.asked(session, r.answers(session, &amqp.ReceiverOptions{Name: "other", TargetAddress: "answers"}))
}

func (r *rig) answers(session *amqp.Session, options *amqp.ReceiverOptions) *amqp.Receiver {
	r.t.Helper()
	receiver, err := session.NewReceiver(r.ctx, queueName+"/$management", options)
	must(r.t, err)
	return receiver
}

// asked sends a request that is to be answered at "answers", and checks that the answer comes to a receiver.
func (r *rig) asked(session *amqp.Session, receiver *amqp.Receiver) {
	r.t.Helper()
	sender, err := session.NewSender(r.ctx, queueName+"/$management", nil)
	must(r.t, err)
	must(r.t, sender.Send(r.ctx, &amqp.Message{
		Properties:            &amqp.MessageProperties{MessageID: "1", ReplyTo: ptr("answers")},
		ApplicationProperties: map[string]any{"operation": "com.microsoft:no-such-thing"},
	}, nil))
	_, err = receiver.Receive(r.ctx, nil)
	must(r.t, err)
}
