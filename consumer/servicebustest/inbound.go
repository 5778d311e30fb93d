package servicebustest

import (
	"time"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

const (
	// inboundCredit is how many messages a client may send before it hears of new credit.
	inboundCredit = 1000

	// formatBatch marks a message whose data sections are encoded messages; Service Bus enqueues each by itself.
	formatBatch = 0x80013700
)

// inbound is a link on which the client sends; conn.mu guards it.
type inbound struct {
	session *session
	name    string
	handle  uint32
	node    node
	confirm bool // the client settles second: it wants to confirm our decision

	received   uint32 // the link's delivery-count
	creditUsed uint32
	partial    *amqp.Transfer // first frame of a message that is not complete, with the payload so far
}

func newInbound(s *session, p *amqp.Attach, n node) *inbound {
	return &inbound{
		session: s, name: p.Name, handle: p.Handle, node: n, received: p.InitialDeliveryCount,
		confirm: p.ReceiverSettle == amqp.ReceiverSecond,
	}
}

func (l *inbound) sendCredit() {
	l.creditUsed = 0
	l.session.sendFlow(amqp.Flow{
		Handle: amqp.Some(l.handle), DeliveryCount: amqp.Some(l.received), LinkCredit: amqp.Some(inboundCredit),
	})
}

// transfer takes one frame of a message; with the last one the message is accepted or refused (section 2.6.14).
func (l *inbound) transfer(p *amqp.Transfer) *amqp.Error {
	whole := p
	if l.partial != nil {
		whole = l.partial
		whole.Payload = append(whole.Payload, p.Payload...)
		whole.Settled = whole.Settled || p.Settled
	} else if !p.DeliveryID.Set {
		return &amqp.Error{Condition: "amqp:not-allowed", Description: "the first transfer of a delivery has no delivery-id"}
	}
	if limit := l.node.maxMessageBytes(); len(whole.Payload) > limit && !p.Aborted {
		l.session.expel(l.handle, errTooLarge(len(whole.Payload), limit))
		return nil
	}
	if p.Aborted || p.More {
		l.keep(whole, p)
		return nil
	}
	l.partial = nil
	l.received++
	l.decide(whole)
	// The link is gone if the message was a reason to detach it.
	if l.creditUsed++; l.creditUsed >= inboundCredit/2 && l.session.in[l.handle] == l {
		l.sendCredit()
	}
	return nil
}

// keep remembers an incomplete message, or forgets one that the client has given up.
func (l *inbound) keep(whole, p *amqp.Transfer) {
	switch {
	case p.Aborted:
		l.partial = nil
		l.received++
	case l.partial == nil:
		first := *whole
		first.Payload = append([]byte(nil), whole.Payload...) // the frame's buffer is used again
		l.partial = &first
	}
}

func (l *inbound) decide(p *amqp.Transfer) {
	state := amqp.State{Kind: amqp.StateAccepted}
	if err := l.accept(p.Payload, p.Format.Value, l.session.conn.server.clock.now()); err != nil {
		state = rejection(err)
	}
	if !p.Settled {
		id := p.DeliveryID.Value
		l.session.send(&amqp.Disposition{Role: amqp.RoleReceiver, First: id, Last: id, Settled: !l.confirm, State: state})
	}
}

// accept brings a message where the link leads.
func (l *inbound) accept(payload []byte, format uint32, now time.Time) error {
	c := l.session.conn
	switch {
	case l.node.queue == nil:
		return c.answerToken(payload, now)
	case l.node.management:
		return c.answerRequest(l.node.queue, payload, now)
	case c.server.faults.throttled.is(now):
		return errServerBusy
	}
	messages, err := unpack(payload, format)
	if err == nil {
		err = l.node.queue.admit(messages)
	}
	if err != nil {
		return err
	}
	l.node.queue.send(now, messages...)
	return nil
}

// unpack reads one message, or the messages of a batch. They share no memory with payload, nor with each other: a message that
// is settled leaves nothing behind.
func unpack(payload []byte, format uint32) ([]*message, error) {
	if format != formatBatch {
		m, err := parse(payload)
		return []*message{m}, err
	}
	content, err := amqp.ParseMessage(payload)
	if err != nil {
		return nil, errBadRequest(err.Error())
	}
	parts := content.Data()
	messages := make([]*message, len(parts))
	for i, part := range parts {
		if messages[i], err = parse(part); err != nil {
			return nil, err
		}
	}
	return messages, nil
}

func parse(encoded []byte) (*message, error) {
	content, err := amqp.ParseMessage(append([]byte(nil), encoded...))
	if err != nil {
		return nil, errBadRequest(err.Error())
	}
	return newMessage(content, len(encoded)), nil
}
