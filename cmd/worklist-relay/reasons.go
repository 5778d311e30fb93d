package main

import (
	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/store"
)

// helps says what to do about an action that failed with a reason, the broker's
// own included. Nothing is to be done about what a person ended.
var helps = map[consumer.Reason]string{
	consumer.ReasonInvalidMessage:     "The producer must mend it. Or mend it here: `dlq export FILE --reveal`, then `dlq replay --with FILE`.",
	consumer.ReasonUnsupportedSchema:  "The producer and this program disagree on the contract: update one of them, then `dlq replay`.",
	consumer.ReasonUnsupportedAction:  "The producer and this program disagree on the contract: update one of them, then `dlq replay`.",
	consumer.ReasonPayloadTooLarge:    "The producer must send a smaller one.",
	consumer.ReasonNoRelay:            "Compare `relays list`, mend it with `relays add`, then `dlq replay`.",
	consumer.ReasonActionConflict:     "The producer must send this content under a new action id.",
	consumer.ReasonAccessionConflict:  "The item at the gateway may be another participant's: look at it, then `actions resolve`.",
	consumer.ReasonExpired:            "An update can be sent again: `dlq replay`. A create that is still wanted needs a new action for a new day.",
	consumer.ReasonRetriesExhausted:   "Once the gateway answers again (`relays ping`), `dlq replay` sends it again.",
	consumer.ReasonListenerRejected:   "Have the gateway mended, then `dlq replay` sends it again.",
	consumer.ReasonGatewayRejected:    "Have the gateway mended, then `dlq replay` sends it again.",
	consumer.ReasonItemNotFound:       "Is the item at the gateway, and in the state before? See to that first (`actions list --accession`), then `dlq replay`.",
	consumer.ReasonOutcomeAmbiguous:   "It may have been applied: look at the gateway, then `actions resolve`.",
	consumer.ReasonClosedWithoutReply: "Have the gateway mended, then `dlq replay` sends it again.",
	consumer.ReasonBadAck:             "Have the gateway mended, then `dlq replay` sends it again.",
	consumer.ReasonInternalError:      "Report it with this service's log. Once it is mended, `dlq replay` sends it again.",
	"MaxDeliveryCountExceeded":        "Did the service crash, or lose its locks? Look at its log, then `dlq replay` sends it again.",
	"TTLExpiredException":             "It waited too long in the queue: is the service up? `dlq replay` sends it again.",
	store.Withdrawn:                   "",
	store.Resolved:                    "",
}
