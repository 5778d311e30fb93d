package servicebustest

import (
	"time"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

// What a client that wants a session puts into its attach, and what it finds in the answer.
const (
	sessionFilter      = "com.microsoft:session-filter"   // of the source: the session's id; null asks for the next one
	sessionTimeout     = "com.microsoft:timeout"          // link property: how long to wait for the next one, milliseconds
	sessionLockedUntil = "com.microsoft:locked-until-utc" // link property of the answer, in .NET ticks
	sessionFilterCode  = uint64(0x00000137000000C)        // descriptor of the filter
	ticksTo1970        = int64(621355968000000000)        // 100 ns each, from the year 1 on
)

// wish is the session that an attach asks for.
type wish struct {
	id        *string   // nil: the next available one
	until     time.Time // how long to wait for the next one
	described bool      // the filter came as a described value, and is answered as one
}

// parseWish returns the session that an attach asks for, nil if it asks for none. A filter should be a described value or null
// (section 3.5.8), but clients send a bare string too, and read nothing else in the answer.
func parseWish(p *amqp.Attach, now time.Time) (*wish, *fault) {
	if p.Role != amqp.RoleReceiver || p.Source == nil {
		return nil, nil
	}
	raw, asks := p.Source.Filter.Get(sessionFilter).(amqp.Raw)
	if !asks {
		return nil, nil
	}
	w := &wish{until: now.Add(sessionWait)}
	value := amqp.NewDecoder(raw).Value()
	if d, ok := value.(amqp.Described); ok {
		value, w.described = d.Value, true
	}
	switch id := value.(type) {
	case nil:
	case string:
		w.id = &id
	default:
		return nil, errBadRequest("the session filter is neither a string nor null")
	}
	if raw, ok := p.Properties.Get(sessionTimeout).(amqp.Raw); ok {
		if ms, ok := amqp.NewDecoder(raw).Value().(uint32); ok {
			w.until = now.Add(time.Duration(ms) * time.Millisecond)
		}
	}
	return w, nil
}

// askSession asks for the session that the link is to receive from, and answers its attach once there is one, or never will be.
func (l *outbound) askSession(answer *amqp.Attach, w *wish, now time.Time) {
	l.inSession, l.answer, l.described = true, answer, w.described
	l.node.queue.accept(&l.consumer, w.id, now, w.until)
	l.checkSession(now)
}

// checkSession answers the attach if it can be answered by now, and detaches the link if it has lost its session. It reports
// whether the link has a session.
func (l *outbound) checkSession(now time.Time) bool {
	if l.answer != nil {
		switch got := l.node.queue.accepted(&l.consumer); {
		case got.refused != nil:
			l.session.expel(l.handle, got.refused)
			return false
		case !got.granted:
			return false
		default:
			l.sendAnswer(got)
		}
	}
	if !l.node.queue.stillHolds(&l.consumer, now) {
		l.session.expel(l.handle, errSessionLockLost)
		return false
	}
	return true
}

func (l *outbound) sendAnswer(got acceptance) {
	answer := l.answer
	l.answer = nil
	var filter any = got.id
	if l.described {
		filter = amqp.Described{Descriptor: sessionFilterCode, Value: got.id}
	}
	answer.Source = &amqp.Source{Address: answer.Source.Address, Filter: amqp.Map{{Key: amqp.Symbol(sessionFilter), Value: filter}}}
	ticks := got.until.Unix()*1e7 + int64(got.until.Nanosecond()/100) + ticksTo1970
	answer.Properties = amqp.Map{{Key: amqp.Symbol(sessionLockedUntil), Value: ticks}}
	l.session.send(answer)
}

// declineAnswer answers an attach that still waits for a session, for a link that is about to be detached.
func (l *outbound) declineAnswer() {
	if l.answer != nil {
		l.session.send(withoutTerminus(l.answer, amqp.RoleSender))
		l.answer = nil
	}
}
