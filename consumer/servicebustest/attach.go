package servicebustest

import (
	"net/url"
	"strings"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

// node is what a link is attached to: a queue, the management node of a queue, or the node for tokens, which has no queue.
type node struct {
	queue      *queue
	management bool
}

const (
	addressTokens    = "$cbs"
	managementSuffix = "/$management"
)

// attach answers a link's attach, with a refusal if there is a reason for one (section 2.6.3).
func (s *session) attach(p *amqp.Attach) *amqp.Error {
	if s.in[p.Handle] != nil || s.out[p.Handle] != nil || s.detached[p.Handle] {
		return &amqp.Error{Condition: "amqp:session:handle-in-use", Description: "the handle is in use"}
	}
	now := s.conn.server.clock.now()
	wish, reason := parseWish(p, now)
	n := node{}
	if reason == nil {
		n, reason = s.conn.resolve(p, wish != nil, now)
	}
	if reason != nil {
		s.refuse(p, reason)
		return nil
	}
	s.conn.steal(p.Name, p.Role)
	answer := &amqp.Attach{
		Name: p.Name, Handle: p.Handle, Role: !p.Role, SenderSettle: p.SenderSettle, ReceiverSettle: p.ReceiverSettle,
		Source: p.Source, Target: p.Target, MaxMessageSize: uint64(n.maxMessageBytes()),
	}
	if answer.Source == nil {
		answer.Source = &amqp.Source{}
	}
	if answer.Target == nil {
		answer.Target = &amqp.Target{}
	}
	switch {
	case p.Role == amqp.RoleSender:
		s.send(answer)
		s.in[p.Handle] = newInbound(s, p, n)
		s.in[p.Handle].sendCredit()
	case wish == nil:
		s.send(answer)
		s.out[p.Handle] = newOutbound(s, p, n)
	default:
		s.out[p.Handle] = newOutbound(s, p, n)
		s.out[p.Handle].askSession(answer, wish, now)
	}
	return nil
}

// refuse attaches a link without a terminus and detaches it at once.
func (s *session) refuse(p *amqp.Attach, reason *fault) {
	s.send(withoutTerminus(p, !p.Role))
	s.expel(p.Handle, reason)
}

// withoutTerminus is the answer to an attach that is about to be refused.
func withoutTerminus(p *amqp.Attach, role amqp.Role) *amqp.Attach {
	return &amqp.Attach{Name: p.Name, Handle: p.Handle, Role: role, SenderSettle: p.SenderSettle, ReceiverSettle: p.ReceiverSettle}
}

// steal detaches a link of the same name and direction on this connection: a name stands for one link (section 2.6.1).
func (c *conn) steal(name string, role amqp.Role) {
	stolen := &fault{condition: "amqp:link:stolen", text: "another link was attached under the name"}
	for _, s := range c.sessions {
		for handle, l := range s.in {
			if role == amqp.RoleSender && l.name == name {
				s.expel(handle, stolen)
			}
		}
		for handle, l := range s.out {
			if role == amqp.RoleReceiver && l.name == name {
				s.expel(handle, stolen)
			}
		}
	}
}

// resolve finds what a link wants to be attached to and whether it may be.
func (c *conn) resolve(p *amqp.Attach, inSession bool, now time.Time) (node, *fault) {
	address := ""
	switch {
	case p.Role == amqp.RoleSender && p.Target != nil:
		if p.Target.Coordinator {
			return node{}, errNotImplemented("a transaction")
		}
		address = p.Target.Address
	case p.Role == amqp.RoleReceiver && p.Source != nil:
		address = p.Source.Address
	}
	path := entityPath(address)
	if strings.EqualFold(path, addressTokens) {
		return node{}, nil
	}
	name, management := cutSuffixFold(path, managementSuffix)
	n := node{queue: c.server.queue(name), management: management}
	switch {
	case c.server.faults.throttled.is(now):
		return n, errServerBusy
	case !c.claims.allow(name, now):
		return n, errUnauthorized
	case n.queue == nil:
		return n, errEntityNotFound(name)
	case n.queue.isDisabled():
		return n, errDisabled
	}
	return n, n.admits(p.Role, inSession)
}

// admits checks what depends on the kind of queue.
func (n node) admits(role amqp.Role, inSession bool) *fault {
	switch {
	case n.management:
		return nil
	case role == amqp.RoleSender && n.queue.dead == nil:
		return &fault{condition: "amqp:not-allowed", code: 400, text: "messages cannot be sent to a dead-letter queue"}
	case role == amqp.RoleSender:
		return nil
	case inSession && !n.queue.sessionful():
		return errNotSessionful
	case !inSession && n.queue.sessionful():
		return errSessionRequired
	}
	return nil
}

func (n node) maxMessageBytes() int {
	if n.queue == nil {
		return defaultMaxMessageBytes
	}
	return n.queue.settings.MaxMessageBytes
}

func (q *queue) isDisabled() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.disabled
}

// entityPath returns the path of an address: clients write a path, or a URL such as amqp://host/path.
func entityPath(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		address = u.Path
	}
	return strings.Trim(address, "/")
}

func cutSuffixFold(s, suffix string) (string, bool) {
	at := len(s) - len(suffix)
	if at < 0 || !strings.EqualFold(s[at:], suffix) {
		return s, false
	}
	return s[:at], true
}
