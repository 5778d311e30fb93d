package main

import (
	"encoding/json"
	"regexp"
	"strings"

	"github.com/google/uuid"

	"github.com/worklist-relay/worklist-relay/consumer"
)

// mask stands for what may be a participant's detail.
const mask = "***"

// shownBody is the body of a dead letter as JSON: as it is where it is to be
// revealed (a JSON string, if it is no JSON itself), else masked.
func shownBody(l consumer.DeadLetter, reveal bool) json.RawMessage {
	switch {
	case l.Unreadable:
		return json.RawMessage("null")
	case reveal && json.Valid(l.Body):
		return l.Body
	case reveal:
		return encoded(string(l.Body))
	}
	var doc any
	if json.Unmarshal(l.Body, &doc) != nil {
		return encoded(mask)
	}
	return encoded(masked(doc, ""))
}

func encoded(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic("marshal of what was just unmarshalled: " + err.Error())
	}
	return text
}

// masked keeps the shape of the contract's fields, and the values that are no
// details, if they look as they must: a name may stand where an id belongs. Of
// other fields even the names are masked.
func masked(value any, path string) any {
	object, isObject := value.(map[string]any)
	if !isObject {
		text, isText := value.(string)
		if looks := shownFields[path]; isText && looks != nil && looks(text) {
			return text
		}
		if path == "schema_version" && value == float64(1) {
			return value
		}
		return mask
	}
	kept := map[string]any{}
	for key, inner := range object {
		at := strings.TrimPrefix(path+"."+key, ".")
		if !contractFields[at] {
			kept[mask] = mask
			continue
		}
		kept[key] = masked(inner, at)
	}
	return kept
}

const item = "parameters.worklist_item"

// shownFields are fields whose values may be shown, and how they must look.
var shownFields = map[string]func(string) bool{
	"action_id":                isActionID,
	"action_type":              regexp.MustCompile(`^worklist\.(create_item|create_test_item|update_status|update_item_status)$`).MatchString,
	item + ".accession_number": regexp.MustCompile(`^[A-Za-z0-9._/-]{1,16}$`).MatchString,
	item + ".scheduled.date":   regexp.MustCompile(`^[0-9]{8}$`).MatchString,
	item + ".scheduled.time":   regexp.MustCompile(`^[0-9]{6}$`).MatchString,
	item + ".status":           regexp.MustCompile(`(?i)^(IN PROGRESS|COMPLETED|DISCONTINUED)$`).MatchString,
}

// contractFields are the fields whose names may be shown.
var contractFields = func() map[string]bool {
	known := map[string]bool{}
	for _, path := range []string{
		"schema_version", "action_id", "action_type", "timestamp", "source_system",
		"source_reference", "source_reference.appointment_id", "source_reference.participant_id", "parameters", item,
		item + ".accession_number", item + ".status", item + ".participant", item + ".participant.nhs_number",
		item + ".participant.name", item + ".participant.birth_date", item + ".participant.sex", item + ".scheduled",
		item + ".scheduled.date", item + ".scheduled.time", item + ".procedure", item + ".procedure.modality", item + ".procedure.study_description",
	} {
		known[path] = true
	}
	return known
}()

// isActionID accepts the form that a message must have.
func isActionID(s string) bool { return len(s) == 36 && uuid.Validate(s) == nil }
