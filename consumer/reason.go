package consumer

// Reason is why a message was dead-lettered: the DeadLetterReason property of
// the message and the reason column of the action's row. The list is closed.
type Reason string

// The reasons this service gives. The broker adds its own
// (MaxDeliveryCountExceeded, TTLExpiredException) when it dead-letters by itself.
const (
	ReasonInvalidMessage     Reason = "InvalidMessage"     // the body or a property is not what the contract says
	ReasonUnsupportedSchema  Reason = "UnsupportedSchema"  // schema_version is not 1
	ReasonUnsupportedAction  Reason = "UnsupportedAction"  // action_type is not known
	ReasonPayloadTooLarge    Reason = "PayloadTooLarge"    // over 1 MiB, or the gateway closed with 1009
	ReasonNoRelay            Reason = "NoRelay"            // no relay for the provider and setting, or its host is not allowed
	ReasonActionConflict     Reason = "ActionConflict"     // the action id is taken, by other content or another provider
	ReasonAccessionConflict  Reason = "AccessionConflict"  // another action holds the accession number; a person must look
	ReasonExpired            Reason = "Expired"            // the clinic day or the time limit had passed before it was sent
	ReasonRetriesExhausted   Reason = "RetriesExhausted"   // tried until the bound; the description names the last phase
	ReasonListenerRejected   Reason = "ListenerRejected"   // the listener refused the rendezvous with a code of its own
	ReasonGatewayRejected    Reason = "GatewayRejected"    // the gateway answered with an error
	ReasonItemNotFound       Reason = "ItemNotFound"       // an update for an item the gateway does not have
	ReasonOutcomeAmbiguous   Reason = "OutcomeAmbiguous"   // an update whose ack was lost may have been applied; a person must look
	ReasonClosedWithoutReply Reason = "ClosedWithoutReply" // the gateway closed cleanly and said nothing
	ReasonBadAck             Reason = "BadAck"             // the gateway's reply was no ack for this action
	ReasonInternalError      Reason = "InternalError"      // this service panicked on the message three times
)

// Reasons lists every [Reason], in the order of a message's path.
func Reasons() []Reason {
	return []Reason{
		ReasonInvalidMessage, ReasonUnsupportedSchema, ReasonUnsupportedAction, ReasonPayloadTooLarge,
		ReasonNoRelay, ReasonActionConflict, ReasonAccessionConflict, ReasonExpired, ReasonRetriesExhausted,
		ReasonListenerRejected, ReasonGatewayRejected, ReasonItemNotFound, ReasonOutcomeAmbiguous,
		ReasonClosedWithoutReply, ReasonBadAck, ReasonInternalError,
	}
}
