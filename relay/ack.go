package relay

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// maxAck is the size of a gateway's largest answer, in bytes. Real acks have about a hundred.
const maxAck = 64 << 10

// AckKind is what an ack means for the action.
type AckKind int

// The kinds of acks. The zero AckKind is none of them.
const (
	_           AckKind = iota
	AckDone             // created, processed or updated: the gateway has it
	AckExists           // the gateway holds an item of this accession number: this action's own, or another's
	AckRefused          // an error that sending again will not mend
	AckBusy             // an error that may mend itself: the gateway's disk or database
	AckNotFound         // the item to update is not there, or not in the state before
	AckUnknown          // an error of unknown text
	AckEcho             // an echo came back
)

// String is the kind in lower case, as in a metric's label.
func (k AckKind) String() string {
	switch k {
	case AckDone:
		return "done"
	case AckExists:
		return "exists"
	case AckRefused:
		return "refused"
	case AckBusy:
		return "busy"
	case AckNotFound:
		return "not_found"
	case AckUnknown:
		return "unknown"
	case AckEcho:
		return "echo"
	}
	return "none"
}

// An Ack is a gateway's answer to one action. All of it is safe to store.
type Ack struct {
	Kind AckKind
	// Status is the ack's own word: created, processed, updated, exists, duplicate, error or echo.
	Status string
	// Text is the gateway's reason, if the status is error: the phrase that was recognised, or up to 200 runes without anything that
	// stands in the action's body, is quoted, is a number of four digits or more, or is opaque.
	Text string
	// ActionID and AccessionNumber are the action's own if the ack repeats them, else empty.
	ActionID, AccessionNumber string
	// Unanswered reports that an earlier copy of the frame, written in this same exchange, broke with its connection and was never
	// answered. That copy may have been applied, so it is evidence that an "exists" means this very action.
	Unanswered bool
}

// decodeAck reads the answer to a. The error's text is fixed: it repeats nothing of the answer.
func decodeAck(payload []byte, a Action) (Ack, error) {
	fields, err := ackFields(payload)
	if err != nil {
		return Ack{}, err
	}
	id, accession := fields.text("action_id"), fields.text("accession_number")
	ack := Ack{Status: strings.ToLower(fields.text("status"))}
	if ack.Status == "" {
		return Ack{}, badAck("no status")
	}
	if id != "" && a.id != "" && !strings.EqualFold(id, a.id) {
		return Ack{}, badAck("another action's id")
	}
	if ack.Status == "updated" && accession != "" && a.accessionNo != "" && accession != a.accessionNo {
		return Ack{}, badAck("another accession number")
	}
	if id != "" {
		ack.ActionID = a.id
	}
	if accession == a.accessionNo {
		ack.AccessionNumber = accession
	}
	return ack.judged(fields, a)
}

// judged fills in what the status means for an action of a's type.
func (ack Ack) judged(fields members, a Action) (Ack, error) {
	switch ack.Status {
	case "processed":
		ack.Kind = AckDone
	case "updated":
		if a.creates() {
			return Ack{}, badAck("an update's status for a create")
		}
		ack.Kind = AckDone
	case "created", "exists", "duplicate":
		if a.updates() {
			return Ack{}, badAck("a create's status for an update")
		}
		ack.Kind = AckExists
		if ack.Status == "created" {
			ack.Kind = AckDone
		}
	case "echo":
		if a.kind != echoType {
			return Ack{}, badAck("an echo of an action that is none")
		}
		ack.Kind = AckEcho
	case "error":
		text := fields.text("message")
		if text == "" {
			text = fields.text("error")
		}
		ack.Kind, ack.Text = judgeText(text, a)
	default:
		return Ack{}, badAck("unknown status")
	}
	return ack, nil
}

// phrases are the errors that gateways are known to give, in the spelling that is stored. The first that occurs in the text decides.
var phrases = []struct {
	text string
	kind AckKind
}{
	{"UNIQUE constraint", AckExists},
	{"database is locked", AckBusy},
	{"disk I/O error", AckBusy},
	{"unable to open database file", AckBusy},
	{"database or disk is full", AckBusy},
	{"readonly database", AckBusy},
	{"no such table", AckBusy},
	{"Missing key", AckRefused},
	{"Unsupported action", AckRefused},
	{"Cannot transition", AckRefused},
	{"No patient name", AckRefused},
	{"Error binding parameter", AckRefused},
	{"has no attribute", AckRefused},
	{"not found", AckNotFound},
}

// judgeText finds the meaning of an error's text, and the text to keep. Only a create can exist already, and only an update can miss
// its item.
func judgeText(text string, a Action) (AckKind, string) {
	lower := strings.ToLower(text)
	for _, phrase := range phrases {
		switch {
		case phrase.kind == AckExists && a.updates(), phrase.kind == AckNotFound && !a.updates():
		case strings.Contains(lower, strings.ToLower(phrase.text)):
			return phrase.kind, phrase.text
		}
	}
	return AckUnknown, redactText(text, a)
}

// badAck is why an answer is no ack.
type badAck string

func (b badAck) Error() string { return string(b) }

// members are the members of a JSON object.
type members map[string]json.RawMessage

// ackFields tells an object from everything else.
func ackFields(payload []byte) (members, error) {
	var fields members
	if !utf8.Valid(payload) || json.Unmarshal(payload, &fields) != nil || fields == nil {
		return nil, badAck("not a JSON object")
	}
	return fields, nil
}

// text is the string called name; "" for anything that is not a string.
func (m members) text(name string) string {
	var s string
	if raw, ok := m[name]; !ok || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}
