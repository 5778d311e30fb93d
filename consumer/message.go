package consumer

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/uuid"

	"github.com/worklist-relay/worklist-relay/relay"
)

// The queue's wire contract. A producer sets the body (the action as JSON) and
// the first two application properties; the rest are ours and travel on the
// scheduled copies, since a copy starts with a new sequence number, a new
// enqueue time and a delivery count of one.
const (
	propertyProviderID = "provider_id" // string, 1 to 64 characters
	propertySettingID  = "setting_id"  // string, 1 to 64 characters; absent: the provider's default relay

	propertyOriginalSequence = "original_sequence_number"    // long: the first message's sequence number
	propertyOriginalEnqueued = "original_enqueued_at"        // timestamp: when the first message was enqueued
	propertyOriginalExpiry   = "original_expires_at"         // timestamp: when the first message's time to live ends
	propertyCopiedFrom       = "copied_from_sequence_number" // long: the message this one is a copy of
	propertyStandsFor        = "stands_for_sequence_number"  // long: the message in whose place this one is, unknown to SQL
	propertyPostponements    = "postponements"               // long: postponements in a row
)

const (
	maxBodyBytes  = 1 << 20 // the gateway closes with 1009 above this
	maxIDLength   = 64      // characters of provider_id and setting_id
	maxFaultsTold = 20      // faults listed in a dead-letter description
)

// Encode makes the message that asks for one action at the gateway of a
// provider: what a producer sends to the queue. The body is the action as JSON
// and is sent as it stands; [CreateItem] and [UpdateStatus] build one. settingID is
// nil for the provider's default relay. The message's id is the action's; its
// session is [SessionID]'s, which a queue without sessions ignores. The caller may
// add application properties, such as traceparent: they are passed on unchanged.
//
// The error is an [*InvalidError] when the consumer would dead-letter the message;
// it names fields, never their values. Encode is safe for concurrent use.
func Encode(providerID string, settingID *string, action []byte) (*azservicebus.Message, error) {
	properties := map[string]any{propertyProviderID: providerID}
	if settingID != nil {
		properties[propertySettingID] = *settingID
	}
	in, err := decodeContent(action, properties)
	if err != nil {
		return nil, err
	}
	contentType, session := "application/json", SessionID(providerID, settingID)
	return &azservicebus.Message{
		MessageID:             &in.actionID,
		SessionID:             &session,
		ContentType:           &contentType,
		ApplicationProperties: properties,
		Body:                  action,
	}, nil
}

// InvalidError says why a message can never be forwarded. Its text holds field
// names and the rule that was broken, never a value.
type InvalidError struct {
	Reason Reason
	Faults []string // "parameters.worklist_item.accession_number: missing"
}

func (e *InvalidError) Error() string {
	faults := e.Faults
	more := ""
	if len(faults) > maxFaultsTold {
		more = fmt.Sprintf("; and %d more", len(faults)-maxFaultsTold)
		faults = faults[:maxFaultsTold]
	}
	return string(e.Reason) + ": " + strings.Join(faults, "; ") + more
}

// incoming is a message decoded: what it asks for, whose it is, and where it
// stands in the queue.
type incoming struct {
	actionID, actionType string
	providerID           string
	settingID            *string
	accession            string
	create               bool
	scheduled            string // YYYYMMDD, creates only
	digest               string // SHA-256 of action_type and parameters, hex
	action               relay.Action

	sequence   int64 // this message's
	standsFor  int64 // the message that SQL knows it as; most often its own
	original   int64 // the first message's
	copiedFrom int64 // the message this one is a copy of; 0: it is the first
	enqueued   time.Time
	expires    time.Time // end of the first message's time to live; zero: none
	postponed  int       // postponements in a row
}

// decode reads a received message. The incoming value is always usable as far
// as the message could be read: an invalid one still says which action it was for.
func decode(m *azservicebus.ReceivedMessage) (incoming, error) {
	in, err := decodeContent(m.Body, m.ApplicationProperties)
	if m.SequenceNumber != nil {
		in.sequence = *m.SequenceNumber
	}
	in.standsFor = longProperty(m, propertyStandsFor, in.sequence)
	in.original = longProperty(m, propertyOriginalSequence, in.sequence)
	in.copiedFrom = longProperty(m, propertyCopiedFrom, 0)
	in.postponed = int(longProperty(m, propertyPostponements, 0))
	in.enqueued = timeProperty(m, propertyOriginalEnqueued, m.EnqueuedTime)
	in.expires = timeProperty(m, propertyOriginalExpiry, expiryOf(m))
	return in, err
}

// expiryOf is when the message's own time to live ends. The SDK reports one of
// zero where the message has none.
func expiryOf(m *azservicebus.ReceivedMessage) *time.Time {
	if m.TimeToLive == nil || *m.TimeToLive == 0 {
		return nil
	}
	return m.ExpiresAt
}

// decodeContent reads what the producer wrote, and reports every fault at once.
func decodeContent(body []byte, properties map[string]any) (incoming, error) {
	var in incoming
	doc, bodyErr := parseBody(body)
	propertyFaults := in.readProperties(properties)
	if doc != nil {
		in.readEnvelope(doc)
	}
	switch {
	case len(body) > maxBodyBytes:
		return in, invalid(ReasonPayloadTooLarge, fmt.Sprintf("body: %d bytes, more than %d", len(body), maxBodyBytes))
	case bodyErr != "":
		return in, invalid(ReasonInvalidMessage, append([]string{"body: " + bodyErr}, propertyFaults...)...)
	}
	if faults := envelopeFaults(doc); len(faults) > 0 {
		return in, invalid(ReasonInvalidMessage, append(faults, propertyFaults...)...)
	}
	if !isSchemaOne(doc["schema_version"]) {
		return in, invalid(ReasonUnsupportedSchema, "schema_version: not 1")
	}
	kind, known := actionTypes[in.actionType]
	if !known {
		return in, invalid(ReasonUnsupportedAction, "action_type: not one of "+knownActionTypes)
	}
	if faults := append(kind.faults(doc), propertyFaults...); len(faults) > 0 {
		return in, invalid(ReasonInvalidMessage, faults...)
	}
	in.create = kind.create
	in.scheduled, _ = doc.text("parameters.worklist_item.scheduled.date")
	in.digest = digest(doc)
	in.action = relay.NewAction(body, in.actionID, in.actionType, in.accession)
	return in, nil
}

func invalid(reason Reason, faults ...string) error {
	return &InvalidError{Reason: reason, Faults: faults}
}

// readEnvelope takes over what names the action, as far as it can be read.
func (in *incoming) readEnvelope(doc document) {
	if id, ok := doc.text("action_id"); ok && isUUID(id) {
		in.actionID = strings.ToLower(id)
	}
	if t, _ := doc.text("action_type"); t != "" {
		if _, known := actionTypes[t]; known {
			in.actionType = t // others are not repeated in logs and rows: they could be anything
		}
	}
	if a, ok := doc.text(pathAccession); ok && fits(a, maxAccession) {
		in.accession = a
	}
}

// readProperties takes over the provider and the setting.
func (in *incoming) readProperties(properties map[string]any) (faults []string) {
	provider, present := properties[propertyProviderID]
	if text, ok := provider.(string); ok && fits(text, maxIDLength) {
		in.providerID = text
	} else if !present || provider == nil {
		faults = append(faults, "application property provider_id: missing")
	} else {
		faults = append(faults, "application property provider_id: not a string of 1 to 64 characters")
	}
	setting, present := properties[propertySettingID]
	if !present {
		return faults
	}
	// A null is a setting that got lost on the way, not the provider's default.
	if text, ok := setting.(string); ok && fits(text, maxIDLength) {
		in.settingID = &text
		return faults
	}
	return append(faults, "application property setting_id: not a string of 1 to 64 characters")
}

// isUUID accepts the 36-character form only: what a gateway echoes must compare equal.
func isUUID(s string) bool {
	return len(s) == 36 && uuid.Validate(s) == nil
}

// fits reports whether s has 1 to most characters, one of them not a space, and
// nothing that breaks a line, a log or a database.
func fits(s string, most int) bool {
	if !utf8.ValidString(s) || strings.TrimSpace(s) == "" || utf8.RuneCountInString(s) > most {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// longProperty reads one of our own properties; anything else than a positive
// integer there was not written by us and counts as absent.
func longProperty(m *azservicebus.ReceivedMessage, name string, otherwise int64) int64 {
	if n, ok := m.ApplicationProperties[name].(int64); ok && n > 0 {
		return n
	}
	return otherwise
}

func timeProperty(m *azservicebus.ReceivedMessage, name string, otherwise *time.Time) time.Time {
	if t, ok := m.ApplicationProperties[name].(time.Time); ok {
		return t.UTC()
	}
	if otherwise != nil {
		return otherwise.UTC()
	}
	return time.Time{}
}

// cloneProperties copies deeply: the SDK's own copy shares the map, and byte
// slices in it, with the message that is still to be settled.
func cloneProperties(properties map[string]any) map[string]any {
	clone := make(map[string]any, len(properties)+5)
	for name, value := range properties {
		if b, ok := value.([]byte); ok {
			value = bytes.Clone(b)
		}
		clone[name] = value
	}
	return clone
}
