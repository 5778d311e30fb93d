package consumer

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// CreateItem asks a gateway for a worklist item. Its Body is the action.
//
// Where ActionID or AccessionNumber is empty, each call of Body makes another
// action. To send an action again, keep its body, or give both as they were: the
// gateway matches images to the numbers that it stored first.
type CreateItem struct {
	ActionID      string    // UUID; "": a new one
	Timestamp     time.Time // when the action was made; zero: now
	SourceSystem  string    // who asks; "": left out
	AppointmentID string    // in the source system; "": left out
	ParticipantID string    // in the source system; "": left out

	AccessionNumber string // at most 16 characters; "": NewAccessionNumber's
	NHSNumber       string // at most 64 characters
	Name            PersonName
	BirthDate       time.Time // its date counts, in its own location
	Sex             string    // F, M or O (DICOM PS3.3, C.7.1.1); "": left out

	// Scheduled is date and time to the second, as the clinic's clocks show them:
	// in its own location, since nothing on the way converts it.
	Scheduled        time.Time
	Modality         string // at most 16 of A to Z, 0 to 9, space and underscore: "MG"
	StudyDescription string // at most 64 characters; "": left out

	Test bool // a worklist.create_test_item: the gateway plays the modality too
}

// Body is the action as JSON, for [Encode]. What it returns, Encode accepts.
//
// The error is an [*InvalidError] that lists every fault by field, never with a
// value. Body is stricter than the consumer, by what DICOM can hold.
func (c CreateItem) Body() ([]byte, error) {
	name, nameFaults := c.Name.dicom()
	for i := range nameFaults {
		nameFaults[i] = pathItem + ".participant.name" + ": " + nameFaults[i]
	}
	if c.AccessionNumber == "" {
		c.AccessionNumber = NewAccessionNumber()
	}
	actionType := "worklist.create_item"
	if c.Test {
		actionType = "worklist.create_test_item"
	}
	item := given("accession_number", c.AccessionNumber)
	item["participant"] = given("nhs_number", c.NHSNumber, "name", name, "sex", c.Sex, "birth_date", formatted(c.BirthDate, "20060102"))
	item["scheduled"] = given("date", formatted(c.Scheduled, "20060102"), "time", formatted(c.Scheduled, "150405"))
	item["procedure"] = given("modality", c.Modality, "study_description", c.StudyDescription)
	doc := envelope(actionType, c.ActionID, c.Timestamp, c.SourceSystem, c.AppointmentID, c.ParticipantID, item)
	return doc.body(createRules, nameFaults)
}

// UpdateStatus asks a gateway to move a worklist item to another status. Its
// Body is the action.
type UpdateStatus struct {
	ActionID      string    // UUID, not the create's; "": a new one for each call of Body
	Timestamp     time.Time // when the action was made; zero: now
	SourceSystem  string    // who asks; "": left out
	AppointmentID string    // in the source system; "": left out
	ParticipantID string    // in the source system; "": left out

	AccessionNumber string // the create's
	Status          string // IN PROGRESS, COMPLETED or DISCONTINUED, in either case
}

// Body is the action as JSON, for [Encode], and has the errors of [CreateItem.Body].
func (u UpdateStatus) Body() ([]byte, error) {
	item := given("accession_number", u.AccessionNumber, "status", u.Status)
	doc := envelope("worklist.update_status", u.ActionID, u.Timestamp, u.SourceSystem, u.AppointmentID, u.ParticipantID, item)
	return doc.body(updateRules, nil)
}

// envelope is a document around a worklist item.
func envelope(actionType, actionID string, timestamp time.Time, sourceSystem, appointmentID, participantID string, item map[string]any) document {
	if actionID == "" {
		actionID = uuid.NewString()
	}
	if timestamp.IsZero() {
		timestamp = time.Now()
	}
	doc := document(given("action_id", actionID, "action_type", actionType, "source_system", sourceSystem,
		"timestamp", timestamp.UTC().Format(time.RFC3339)))
	doc["schema_version"] = json.Number("1")
	doc["parameters"] = map[string]any{"worklist_item": item}
	if reference := given("appointment_id", appointmentID, "participant_id", participantID); len(reference) > 0 {
		doc["source_reference"] = reference
	}
	return doc
}

// given is an object of the pairs of key and value whose value is not empty.
func given(pairs ...string) map[string]any {
	object := map[string]any{}
	for pair := range slices.Chunk(pairs, 2) {
		if pair[1] != "" {
			object[pair[0]] = pair[1]
		}
	}
	return object
}

// formatted is t in layout; "" for the zero time.
func formatted(t time.Time, layout string) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(layout)
}

// body checks the document and writes it. faults are those known before; a field
// has one kind of fault only.
func (d document) body(rules []rule, faults []string) ([]byte, error) {
	add := func(more []string) {
		known := slices.Clone(faults)
		for _, fault := range more {
			path, _, _ := strings.Cut(fault, ": ")
			if !slices.ContainsFunc(known, func(k string) bool { return strings.HasPrefix(k, path+": ") }) {
				faults = append(faults, fault)
			}
		}
	}
	add(envelopeFaults(d))
	add(d.broken(rules))
	add(d.broken(slices.DeleteFunc(slices.Clone(builtRules), func(r rule) bool {
		_, present := d.at(r.path)
		return !present
	})))
	if len(faults) > 0 {
		return nil, invalid(ReasonInvalidMessage, faults...)
	}
	body, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	if _, err := decodeContent(body, map[string]any{propertyProviderID: "any"}); err != nil {
		return nil, err // it is too large: nothing else is left
	}
	return body, nil
}

// builtRules are what a body that is built here must satisfy beyond what the
// consumer asks for, in the fields it has. They are those of DICOM's value
// representations (PS3.5, section 6.2), where a backslash separates values.
var builtRules = []rule{
	{"source_system", isPlain, "text without control characters"},
	{"source_reference.appointment_id", isPlain, "text without control characters"},
	{"source_reference.participant_id", isPlain, "text without control characters"},
	{pathAccession, isDICOM(maxAccession), `1 to 16 characters without a backslash or control character`},
	{pathItem + ".participant.nhs_number", isDICOM(maxName), `1 to 64 characters without a backslash or control character`},
	{pathItem + ".participant.sex", oneOf("F", "M", "O"), "F, M or O"},
	{pathItem + ".procedure.modality", isCode, "1 to 16 of A to Z, 0 to 9, space and underscore"},
	{pathItem + ".procedure.study_description", isDICOM(maxName), `1 to 64 characters without a backslash or control character`},
}

func isPlain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// isDICOM accepts SH and LO, which differ in length only.
func isDICOM(most int) func(string) bool {
	return func(s string) bool {
		return fits(s, most) && isPlain(s) && !strings.Contains(s, `\`)
	}
}

// isCode accepts CS.
func isCode(s string) bool {
	return fits(s, maxAccession) && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _") == ""
}

func oneOf(list ...string) func(string) bool {
	return func(s string) bool { return slices.Contains(list, s) }
}
