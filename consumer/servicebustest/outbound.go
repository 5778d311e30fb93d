package servicebustest

import (
	"encoding/binary"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

// outbound is a link on which the client receives: messages of a queue, or answers to requests. conn.mu guards it, but for isDue.
type outbound struct {
	session   *session
	name      string
	handle    uint32
	node      node
	address   string // the client's name for its end; requests name it to be answered here
	settled   bool   // messages are sent settled: receive and delete
	consumer  consumer
	inSession bool         // receives from a session, or waits for one
	answer    *amqp.Attach // to be sent once there is a session; nil: it was sent
	described bool         // the answer tells the session in a described value

	credit  uint32
	sent    uint32 // the link's delivery-count
	drain   bool
	stalled bool          // waits for the session's window
	partial amqp.Transfer // rest of a message that the window did not let through; no payload: none
	answers [][]byte      // encoded messages, for a link to a management or token node

	isDue bool // on conn.due; guarded by conn.dirtyMu
}

func newOutbound(s *session, p *amqp.Attach, n node) *outbound {
	l := &outbound{session: s, name: p.Name, handle: p.Handle, node: n, settled: p.SenderSettle == amqp.SenderSettled}
	if p.Target != nil {
		l.address = p.Target.Address
	}
	l.consumer.wake = func() { s.conn.markDue(l) }
	return l
}

// serves reports whether the link gets the messages of its queue, not answers.
func (l *outbound) serves() bool { return l.node.queue != nil && !l.node.management }

// leave ends what the link has to do with its queue. A session is given back if the client has ended the link, or has been told
// of its end; if the connection was cut, the session stays locked until its lock runs out, as in the service.
func (l *outbound) leave(told bool) {
	switch q := l.node.queue; {
	case !l.serves():
	case l.inSession && told:
		q.leaveSession(&l.consumer, q.clock.now())
	case l.inSession:
		q.quitWaiting(&l.consumer)
	default:
		q.leave(&l.consumer)
	}
}

// flow takes over the credit that the client gives (section 2.6.7).
func (l *outbound) flow(p *amqp.Flow) {
	if p.LinkCredit.Set {
		left := int32(p.DeliveryCount.Value + p.LinkCredit.Value - l.sent)
		l.credit = uint32(max(left, 0))
	}
	l.drain = p.Drain
	if p.Echo && !p.Drain {
		l.sendFlow(false)
	}
	l.session.conn.markDue(l)
}

func (l *outbound) sendFlow(drain bool) {
	l.session.sendFlow(amqp.Flow{
		Handle: amqp.Some(l.handle), DeliveryCount: amqp.Some(l.sent), LinkCredit: amqp.Some(l.credit),
		Available: amqp.Some(uint32(len(l.answers))), Drain: drain,
	})
}

// pump sends what the link has credit and window for. When nothing is left to send, a client that drains hears so.
func (l *outbound) pump(now time.Time) {
	if l.session.out[l.handle] != l {
		return // detached since it was put on the list
	}
	if l.inSession && !l.checkSession(now) {
		return
	}
	empty := false
	for !empty && l.sendPartial() && l.credit > 0 && len(l.session.conn.out) <= maxUnsent {
		empty = !l.sendNext(now)
	}
	if l.drain && (empty || l.credit == 0) && len(l.partial.Payload) == 0 {
		l.sent += l.credit
		l.credit, l.drain = 0, false
		l.sendFlow(true)
	}
	if len(l.session.conn.out) > maxUnsent {
		l.session.conn.stayDue(l)
	}
	switch {
	case !l.serves() || l.inSession:
	case l.credit == 0:
		l.node.queue.leave(&l.consumer)
	case !empty:
		l.node.queue.pass()
	}
}

// sendNext sends the next message or answer; it reports whether there was one.
func (l *outbound) sendNext(now time.Time) bool {
	if !l.serves() {
		if len(l.answers) == 0 {
			return false
		}
		answer := l.answers[0]
		l.answers = l.answers[1:]
		l.begin(binary.BigEndian.AppendUint32(nil, l.sent), true, answer)
		return true
	}
	d, ok := l.node.queue.take(&l.consumer, now, l.settled)
	if !ok {
		return false
	}
	id := l.begin(append([]byte(nil), d.token[:]...), l.settled, d.append(nil, false))
	if !l.settled {
		l.session.unsettled[id] = unsettled{link: l, token: d.token}
	}
	return true
}

// begin starts a delivery and returns its id. sendPartial does the rest.
func (l *outbound) begin(tag []byte, settled bool, payload []byte) uint32 {
	id := l.session.nextDelivery
	l.session.nextDelivery++
	l.sent++
	l.credit--
	l.partial = amqp.Transfer{
		Handle: l.handle, DeliveryID: amqp.Some(id), Tag: tag, Format: amqp.Some(0), Settled: settled, Payload: payload,
	}
	return id
}

// transferOverhead is more than the header of a frame and the fields of a transfer take.
const transferOverhead = 128

// sendPartial sends as much of the delivery in hand as the session's window lets through, in frames of the peer's size
// (section 2.6.14). It reports whether the window has room for more.
func (l *outbound) sendPartial() bool {
	s := l.session
	most := s.conn.peerMax - transferOverhead
	for len(l.partial.Payload) > 0 && s.window > 0 {
		t := l.partial
		if t.More = len(t.Payload) > most; t.More {
			t.Payload = t.Payload[:most]
		}
		s.send(&t)
		s.window--
		s.nextOutgoing++
		l.partial = amqp.Transfer{Handle: l.handle, Settled: t.Settled, Payload: l.partial.Payload[len(t.Payload):]}
	}
	l.stalled = s.window == 0
	return !l.stalled
}
