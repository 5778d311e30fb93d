package servicebustest

import (
	"time"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

// incomingWindow is how many transfer frames a client may send before it hears of a new window (section 2.5.6).
const incomingWindow = 5000

// session is one session of a connection; conn.mu guards it. Both ends use the client's channel number, and both ends of a link
// use the client's handle.
type session struct {
	conn    *conn
	channel uint16
	ended   bool // we have ended it; what comes before the peer's end is ignored

	nextIncoming uint32 // transfer id that the peer's next transfer has
	incomingUsed uint32 // transfers since the peer was last told the window
	nextOutgoing uint32 // transfer id of our next transfer
	window       uint32 // transfers that the peer still takes

	in       map[uint32]*inbound
	out      map[uint32]*outbound
	detached map[uint32]bool // handles that we have detached and whose detach by the peer is still to come

	nextDelivery uint32
	unsettled    map[uint32]unsettled // by delivery id
}

// unsettled is a locked message that was delivered on this session.
type unsettled struct {
	link  *outbound
	token amqp.UUID
}

func beginSession(c *conn, channel uint16, p *amqp.Begin) *session {
	s := &session{
		conn: c, channel: channel, nextIncoming: p.NextOutgoingID, window: p.IncomingWindow,
		in: make(map[uint32]*inbound), out: make(map[uint32]*outbound), detached: make(map[uint32]bool),
		unsettled: make(map[uint32]unsettled),
	}
	c.send(channel, &amqp.Begin{
		RemoteChannel: amqp.Some(uint32(channel)), IncomingWindow: incomingWindow, OutgoingWindow: incomingWindow,
		HandleMax: p.HandleMax,
	})
	return s
}

// end forgets the session's links. Locks of messages that were taken through them run on; told says whether the peer knows of the
// end, see outbound.leave.
func (s *session) end(told bool) {
	s.ended = true
	for _, l := range s.out {
		l.leave(told)
	}
	s.in, s.out, s.unsettled, s.detached = nil, nil, nil, nil
}

// handle answers one performative. A returned error ends the session.
func (s *session) handle(p amqp.Performative) *amqp.Error {
	switch p := p.(type) {
	case *amqp.Attach:
		return s.attach(p)
	case *amqp.Flow:
		return s.flow(p)
	case *amqp.Transfer:
		return s.transfer(p)
	case *amqp.Disposition:
		if p.Role == amqp.RoleReceiver {
			s.dispose(p)
		}
		return nil
	case *amqp.Detach:
		return s.detach(p)
	}
	return &amqp.Error{Condition: "amqp:not-allowed", Description: "the performative has no place in a session"}
}

func (s *session) send(p amqp.Performative) { s.conn.send(s.channel, p) }

var errUnattached = &amqp.Error{Condition: "amqp:session:unattached-handle", Description: "there is no link with the handle"}

func (s *session) detach(p *amqp.Detach) *amqp.Error {
	switch {
	case s.detached[p.Handle]:
		delete(s.detached, p.Handle)
		return nil
	case s.in[p.Handle] != nil:
		delete(s.in, p.Handle)
	case s.out[p.Handle] != nil:
		s.out[p.Handle].declineAnswer()
		s.out[p.Handle].leave(true)
		s.forget(s.out[p.Handle])
	default:
		return errUnattached
	}
	s.send(&amqp.Detach{Handle: p.Handle, Closed: true})
	return nil
}

// forget drops a link and what was delivered on it: from now on that can be settled by request only.
func (s *session) forget(l *outbound) {
	delete(s.out, l.handle)
	for id, u := range s.unsettled {
		if u.link == l {
			delete(s.unsettled, id)
		}
	}
}

// expel detaches a link for a reason.
func (s *session) expel(handle uint32, reason *fault) {
	if l := s.out[handle]; l != nil {
		l.declineAnswer()
		l.leave(true)
		s.forget(l)
	}
	delete(s.in, handle)
	s.detached[handle] = true
	s.send(&amqp.Detach{Handle: handle, Closed: true, Err: reason.wire()})
}

func (s *session) detachLinks(q *queue, reason *fault) {
	for handle, l := range s.in {
		if q == nil || l.node.queue == q {
			s.expel(handle, reason)
		}
	}
	for handle, l := range s.out {
		if q == nil || l.node.queue == q {
			s.expel(handle, reason)
		}
	}
}

// flow takes over the peer's windows (section 2.5.6) and a link's credit (section 2.6.7).
func (s *session) flow(p *amqp.Flow) *amqp.Error {
	s.nextIncoming = p.NextOutgoingID
	next := p.NextIncomingID.Value // absent before the peer has our begin: then it has seen no transfer
	s.window = next + p.IncomingWindow - s.nextOutgoing
	for _, l := range s.out {
		if l.stalled {
			l.stalled = false
			s.conn.markDue(l)
		}
	}
	if !p.Handle.Set {
		if p.Echo {
			s.sendFlow(amqp.Flow{})
		}
		return nil
	}
	handle := p.Handle.Value
	switch {
	case s.out[handle] != nil:
		s.out[handle].flow(p)
	case s.in[handle] != nil:
		if p.Echo {
			s.in[handle].sendCredit()
		}
	case !s.detached[handle]:
		return errUnattached
	}
	return nil
}

// sendFlow completes a flow with the session's windows.
func (s *session) sendFlow(f amqp.Flow) {
	s.incomingUsed = 0
	f.NextIncomingID = amqp.Some(s.nextIncoming)
	f.IncomingWindow = incomingWindow
	f.NextOutgoingID = s.nextOutgoing
	f.OutgoingWindow = incomingWindow
	s.send(&f)
}

func (s *session) transfer(p *amqp.Transfer) *amqp.Error {
	s.nextIncoming++
	if s.incomingUsed++; s.incomingUsed >= incomingWindow/2 {
		s.sendFlow(amqp.Flow{})
	}
	l := s.in[p.Handle]
	switch {
	case l != nil:
		return l.transfer(p)
	case s.detached[p.Handle]:
		return nil
	}
	return errUnattached
}

// dispose settles deliveries as the client decides. It answers each with what became of it, unless the client settled it alone.
func (s *session) dispose(p *amqp.Disposition) {
	now := s.conn.server.clock.now()
	count := p.Last - p.First // serial numbers: they wrap around (RFC 1982)
	if int64(count) > int64(len(s.unsettled)) {
		s.disposeSparse(p, count, now)
		return
	}
	for i := range count + 1 {
		s.disposeOne(p, p.First+i, now)
	}
}

// disposeSparse serves a range that spans more ids than there are deliveries.
func (s *session) disposeSparse(p *amqp.Disposition, count uint32, now time.Time) {
	for id := range s.unsettled {
		if id-p.First <= count {
			s.disposeOne(p, id, now)
		}
	}
}

func (s *session) disposeOne(p *amqp.Disposition, id uint32, now time.Time) {
	u, known := s.unsettled[id]
	if !known {
		return
	}
	how, properties, ok := outcome(&p.State)
	if !ok && !p.Settled {
		return // only a provisional state
	}
	delete(s.unsettled, id)
	state := p.State
	state.Err = nil // in an answer, an error says that the rejection itself failed
	if err := s.settle(u, how, properties, now); err != nil {
		state = rejection(err)
	}
	if !p.Settled {
		s.send(&amqp.Disposition{Role: amqp.RoleSender, First: id, Last: id, Settled: true, State: state})
	}
}

func (s *session) settle(u unsettled, how settlement, properties amqp.Map, now time.Time) error {
	if s.conn.server.faults.throttled.is(now) {
		return errServerBusy
	}
	return u.link.node.queue.settle(u.token, how, properties, now)
}

// outcome reads a delivery state as Service Bus does: a modification abandons, or defers if it is undeliverable here, whatever it
// says about failure. Settling without a state releases.
func outcome(state *amqp.State) (how settlement, properties amqp.Map, ok bool) {
	switch state.Kind {
	case amqp.StateAccepted:
		return settleComplete, nil, true
	case amqp.StateReleased:
		return settleRelease, nil, true
	case amqp.StateModified:
		if state.UndeliverableHere {
			return settleDefer, state.Annotations, true
		}
		return settleAbandon, state.Annotations, true
	case amqp.StateRejected:
		if state.Err != nil {
			properties = state.Err.Info
		}
		return settleDeadLetter, withoutEmpty(properties), true
	}
	return settleRelease, nil, false
}

// withoutEmpty drops a dead-letter reason or description that is empty: the client had none to give.
func withoutEmpty(properties amqp.Map) amqp.Map {
	var kept amqp.Map
	for _, e := range properties {
		name, _ := amqp.Text(e.Key)
		if text, ok := amqp.Text(e.Value); ok && text == "" && (name == propertyReason || name == propertyDescription) {
			continue
		}
		kept = append(kept, e)
	}
	return kept
}

// Application properties that tell why a message was dead-lettered.
const (
	propertyReason      = "DeadLetterReason"
	propertyDescription = "DeadLetterErrorDescription"
)

func rejection(err error) amqp.State {
	f, ok := err.(*fault)
	if !ok {
		f = &fault{condition: "amqp:internal-error", text: err.Error()}
	}
	return amqp.State{Kind: amqp.StateRejected, Err: f.wire()}
}
