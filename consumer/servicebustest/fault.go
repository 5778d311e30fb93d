package servicebustest

import (
	"fmt"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

// fault is a refusal as the service words it: an AMQP condition on links and dispositions, a status code in answers to requests.
type fault struct {
	condition amqp.Symbol
	code      int32
	text      string
}

func (f *fault) Error() string { return fmt.Sprintf("%s: %s", f.condition, f.text) }

func (f *fault) wire() *amqp.Error {
	return &amqp.Error{Condition: f.condition, Description: f.text}
}

var (
	errMessageLockLost = &fault{"com.microsoft:message-lock-lost", 410, "the lock supplied is invalid: it expired, or the message was already removed from the queue"}
	errMessageNotFound = &fault{"com.microsoft:message-not-found", 404, "a message with that sequence number and state does not exist in the queue"}
	errServerBusy      = &fault{"com.microsoft:server-busy", 503, "the request was terminated because the entity is being throttled; wait 10 seconds and try again"}
	errDisabled        = &fault{"com.microsoft:entity-disabled", 403, "the messaging entity is currently disabled"}
	errDeadLetterTwice = &fault{"amqp:not-allowed", 400, "a message cannot be dead-lettered from a dead-letter queue"}
	errPropertyTooLong = &fault{"com.microsoft:argument-error", 400, "an application property is longer than 32767 bytes"}
	errSessionRequired = &fault{"amqp:not-allowed", 400, "the entity requires sessions: a receiver without a session cannot be created on it"}
	errNotSessionful   = &fault{"amqp:not-allowed", 400, "the entity does not require sessions: a session receiver cannot be created on it"}
	errSessionMissing  = &fault{"amqp:not-allowed", 400, "the message has no session id: an entity that requires sessions takes only messages that have one"}
	errSessionTooLong  = &fault{"com.microsoft:argument-error", 400, "the session id is longer than 128 characters"}
	errSessionMessage  = &fault{"amqp:not-allowed", 400, "a message of a session is locked with its session: renew the session lock"}
	errSessionLockLost = &fault{"com.microsoft:session-lock-lost", 410, "the session lock has expired or was never held: accept the session again"}
	errSessionLocked   = &fault{"com.microsoft:session-cannot-be-locked", 409, "the requested session cannot be accepted: another receiver has locked it"}
	errNoSession       = &fault{"com.microsoft:timeout", 408, "no session became available within the time allotted"}
	errUnauthorized    = &fault{"amqp:unauthorized-access", 401, "unauthorized access: the connection has no valid token for the entity"}
)

func errEntityNotFound(name string) *fault {
	return &fault{"amqp:not-found", 404, fmt.Sprintf("the messaging entity %q could not be found", name)}
}

func errTooLarge(size, limit int) *fault {
	return &fault{"amqp:link:message-size-exceeded", 413, fmt.Sprintf("the message of %d bytes exceeds the limit of %d bytes on the link", size, limit)}
}

func errNotImplemented(what string) *fault {
	return &fault{"amqp:not-implemented", 501, what + " is not implemented"}
}

func errBadRequest(what string) *fault {
	return &fault{"com.microsoft:argument-error", 400, what}
}
