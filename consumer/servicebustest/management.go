package servicebustest

import (
	"time"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

// call is one request to a queue's management node.
type call struct {
	queue *queue
	args  amqp.Map
	now   time.Time
	named bool      // the request names a link
	link  *consumer // that link; nil if it is not attached to the queue on this connection
}

// operation is one operation of a management node. It returns the body of the answer, nil for none.
type operation func(call) (amqp.Map, error)

var operations = map[string]operation{
	"com.microsoft:peek-message":               peekMessage,
	"com.microsoft:receive-by-sequence-number": receiveBySequenceNumber,
	"com.microsoft:renew-lock":                 renewLock,
	"com.microsoft:update-disposition":         updateDisposition,
	"com.microsoft:schedule-message":           scheduleMessage,
	"com.microsoft:cancel-scheduled-message":   cancelScheduledMessage,
	"com.microsoft:renew-session-lock":         renewSessionLock,
	"com.microsoft:get-session-state":          getSessionState,
	"com.microsoft:set-session-state":          setSessionState,
	"com.microsoft:get-message-sessions":       getMessageSessions,
}

// mostPeeked bounds one answer to a peek, in messages; maxPeekedBytes bounds it in bytes, the first message excepted.
const (
	mostPeeked     = 250
	maxPeekedBytes = 256 << 10
)

func peekMessage(c call) (amqp.Map, error) {
	from, ok := c.args.Get("from-sequence-number").(int64)
	count, ok2 := c.args.Get("message-count").(int32)
	if !ok || !ok2 || count < 1 {
		return nil, errBadRequest("peek-message needs a from-sequence-number and a message-count above 0")
	}
	holder, err := c.session()
	if err != nil {
		return nil, err
	}
	seen, err := c.queue.peek(holder, c.now, from, min(int(count), mostPeeked), maxPeekedBytes)
	return encoded(seen, false), err
}

func receiveBySequenceNumber(c call) (amqp.Map, error) {
	sequences, ok := elements[int64](c.args.Get("sequence-numbers"))
	mode, ok2 := c.args.Get("receiver-settle-mode").(uint32)
	if !ok || !ok2 || len(sequences) == 0 {
		return nil, errBadRequest("receive-by-sequence-number needs sequence-numbers and a receiver-settle-mode")
	}
	holder, err := c.session()
	if err != nil {
		return nil, err
	}
	settled := mode == uint32(amqp.ReceiverFirst)
	taken, err := c.queue.takeDeferred(holder, sequences, c.now, settled)
	if err != nil {
		return nil, err
	}
	return encoded(taken, !settled), nil
}

// encoded is the body of an answer that brings messages, nil if there are none.
func encoded(deliveries []delivery, withToken bool) amqp.Map {
	if len(deliveries) == 0 {
		return nil
	}
	messages := make(amqp.List, len(deliveries))
	for i := range deliveries {
		entry := amqp.Map{{Key: "message", Value: deliveries[i].append(nil, withToken)}}
		if withToken {
			entry = entry.Set("lock-token", swapToken(deliveries[i].token))
		}
		messages[i] = entry
	}
	return amqp.Map{{Key: "messages", Value: messages}}
}

func renewLock(c call) (amqp.Map, error) {
	tokens, err := lockTokens(c.args)
	if err != nil {
		return nil, err
	}
	until, err := c.queue.renew(tokens, c.now)
	if err != nil {
		return nil, err
	}
	expirations := make(amqp.Array, len(until))
	for i, t := range until {
		expirations[i] = t
	}
	return amqp.Map{{Key: "expirations", Value: expirations}}, nil
}

// lockTokens returns the locks that a request is about, in the byte order of delivery tags.
func lockTokens(args amqp.Map) ([]amqp.UUID, error) {
	tokens, ok := elements[amqp.UUID](args.Get("lock-tokens"))
	if !ok || len(tokens) == 0 {
		return nil, errBadRequest("the request needs lock-tokens")
	}
	for i := range tokens {
		tokens[i] = swapToken(tokens[i])
	}
	return tokens, nil
}

// dispositions maps the statuses of update-disposition, with the spelling that clients use.
var dispositions = map[string]settlement{
	"completed": settleComplete,
	"abandoned": settleAbandon,
	"defered":   settleDefer,
	"suspended": settleDeadLetter,
}

func updateDisposition(c call) (amqp.Map, error) {
	tokens, err := lockTokens(c.args)
	if err != nil {
		return nil, err
	}
	status, _ := amqp.Text(c.args.Get("disposition-status"))
	how, known := dispositions[status]
	if !known {
		return nil, errBadRequest("disposition-status " + status + " is not known")
	}
	properties, _ := c.args.Get("properties-to-modify").(amqp.Map)
	if how == settleDeadLetter {
		for key, argument := range map[string]string{propertyReason: "deadletter-reason", propertyDescription: "deadletter-description"} {
			if text, _ := amqp.Text(c.args.Get(argument)); text != "" {
				properties = properties.Set(key, text)
			}
		}
	}
	for _, token := range tokens {
		if err := c.queue.settle(token, how, properties, c.now); err != nil {
			return nil, err
		}
	}
	return amqp.Map{}, nil
}

func scheduleMessage(c call) (amqp.Map, error) {
	entries, _ := c.args.Get("messages").(amqp.List)
	messages := make([]*message, len(entries))
	total := 0
	for i, e := range entries {
		entry, _ := e.(amqp.Map)
		bytes, ok := entry.Get("message").([]byte)
		if !ok {
			return nil, errBadRequest("a message to schedule is missing")
		}
		m, err := parse(bytes)
		if err != nil {
			return nil, err
		}
		if total += len(bytes); total > c.queue.settings.MaxMessageBytes {
			return nil, errTooLarge(total, c.queue.settings.MaxMessageBytes)
		}
		messages[i] = m
	}
	if len(messages) == 0 || c.queue.dead == nil {
		return nil, errBadRequest("schedule-message needs messages, and a queue that is no dead-letter queue")
	}
	if err := c.queue.admit(messages); err != nil {
		return nil, err
	}
	sequences := make(amqp.Array, len(messages))
	for i, sequence := range c.queue.send(c.now, messages...) {
		sequences[i] = sequence
	}
	return amqp.Map{{Key: "sequence-numbers", Value: sequences}}, nil
}

func cancelScheduledMessage(c call) (amqp.Map, error) {
	sequences, ok := elements[int64](c.args.Get("sequence-numbers"))
	if !ok {
		return nil, errBadRequest("cancel-scheduled-message needs sequence-numbers")
	}
	if err := c.queue.cancel(sequences); err != nil {
		return nil, err
	}
	return amqp.Map{}, nil
}

// elements returns the elements of an array or list if all are of type T.
func elements[T any](v any) ([]T, bool) {
	var values []any
	switch v := v.(type) {
	case amqp.Array:
		values = v
	case amqp.List:
		values = v
	default:
		return nil, false
	}
	all := make([]T, len(values))
	for i, value := range values {
		var ok bool
		if all[i], ok = value.(T); !ok {
			return nil, false
		}
	}
	return all, true
}
