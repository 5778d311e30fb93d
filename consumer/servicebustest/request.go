package servicebustest

import (
	"time"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

// request is a message sent to a management or token node: an operation by name, with arguments. Its answer goes to the link whose
// address the request names, marked with the request's message id.
type request struct {
	id         amqp.Raw
	replyTo    string
	properties amqp.Map
	body       any
}

func parseRequest(payload []byte) (request, error) {
	m, err := amqp.ParseMessage(payload)
	if err != nil {
		return request{}, errBadRequest(err.Error())
	}
	r := request{id: m.Property(amqp.PropertyMessageID), body: m.Value()}
	r.replyTo, _ = amqp.Text(m.Property(amqp.PropertyReplyTo))
	if m.ApplicationProperties != nil {
		r.properties = amqp.NewDecoder(m.ApplicationProperties).Map()
	}
	if r.id == nil || r.replyTo == "" {
		return request{}, errBadRequest("a request needs a message-id and a reply-to")
	}
	return r, nil
}

func (r *request) text(property string) string {
	text, _ := amqp.Text(r.properties.Get(property))
	return text
}

// statusKeys are the application properties of an answer; the two kinds of node spell them differently.
type statusKeys struct{ code, description, condition string }

var (
	tokenStatus      = statusKeys{"status-code", "status-description", "error-condition"}
	managementStatus = statusKeys{"statusCode", "statusDescription", "errorCondition"}
)

// answer sends the outcome of a request. A body that is nil with no error is 202 at the token node and 204, nothing found, at a
// management node.
func (c *conn) answer(r request, keys statusKeys, body amqp.Map, err error) error {
	link := c.replyLink(r.replyTo)
	if link == nil {
		return errBadRequest("the connection has no link to answer on")
	}
	status := amqp.Map{}.Set(keys.code, int32(200)).Set(keys.description, "OK")
	f, failed := err.(*fault)
	switch {
	case failed:
		status = amqp.Map{}.Set(keys.code, f.code).Set(keys.description, f.text).Set(keys.condition, f.condition)
	case err != nil:
		return err
	case body == nil && keys == tokenStatus:
		status = status.Set(keys.code, int32(202)).Set(keys.description, "Accepted")
	case body == nil:
		status = status.Set(keys.code, int32(204)).Set(keys.description, "No Content")
	}
	reply := amqp.Message{
		Properties:            amqp.AppendValue(nil, amqp.List{nil, nil, nil, nil, nil, r.id}), // correlation-id
		ApplicationProperties: amqp.AppendMap(nil, status),
		Body:                  amqp.ValueBody(body),
	}
	link.answers = append(link.answers, reply.AppendBare(nil))
	c.markDue(link)
	return nil
}

// replyLink returns the link that a request wants its answer on: the one with that target address (section 3.2.4), or, for clients
// that attach theirs without one and write its name into the request, with that name.
func (c *conn) replyLink(replyTo string) *outbound {
	var named *outbound
	for _, s := range c.sessions {
		for _, l := range s.out {
			switch {
			case l.serves():
			case l.address == replyTo:
				return l
			case l.address == "" && l.name == replyTo:
				named = l
			}
		}
	}
	return named
}

// answerRequest carries out a request to a queue's management node.
func (c *conn) answerRequest(q *queue, payload []byte, now time.Time) error {
	r, err := parseRequest(payload)
	if err != nil {
		return err
	}
	args, _ := r.body.(amqp.Map)
	body, err := c.perform(r.text("operation"), call{
		queue: q, args: args, now: now, named: r.text(associatedLink) != "", link: c.consumerNamed(r.text(associatedLink), q),
	})
	return c.answer(r, managementStatus, body, err)
}

func (c *conn) perform(operation string, call call) (amqp.Map, error) {
	run, known := operations[operation]
	switch {
	case c.server.faults.throttled.is(call.now):
		return nil, errServerBusy
	case !known:
		return nil, errNotImplemented("operation " + operation)
	}
	return run(call)
}

// associatedLink is the property of a request that names the receiving link that it is about.
const associatedLink = "associated-link-name"

// consumerNamed returns the link of the connection that receives from q under a name, nil if there is none.
func (c *conn) consumerNamed(name string, q *queue) *consumer {
	for _, s := range c.sessions {
		for _, l := range s.out {
			if l.serves() && l.node.queue == q && l.name == name {
				return &l.consumer
			}
		}
	}
	return nil
}
