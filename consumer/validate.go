package consumer

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	pathItem      = "parameters.worklist_item"
	pathAccession = pathItem + ".accession_number"

	maxAccession = 16 // characters; DICOM's SH
	maxName      = 64 // characters; DICOM's PN component group
)

// actionType says how an action of one type must look.
type actionType struct {
	create bool
	faults func(document) []string
}

// actionTypes are the actions a gateway knows. worklist.update_item_status is
// what the first gateways called worklist.update_status.
var actionTypes = map[string]actionType{
	"worklist.create_item":        {create: true, faults: createFaults},
	"worklist.create_test_item":   {create: true, faults: createFaults},
	"worklist.update_status":      {faults: updateFaults},
	"worklist.update_item_status": {faults: updateFaults},
}

const knownActionTypes = "worklist.create_item, worklist.create_test_item, worklist.update_status, worklist.update_item_status"

// statuses a worklist item can be moved to, in any case.
var statuses = []string{"IN PROGRESS", "COMPLETED", "DISCONTINUED"}

// document is a parsed body. Numbers keep their spelling.
type document map[string]any

// parseBody reads one JSON object; fault says why it is none, without quoting it.
func parseBody(body []byte) (doc document, fault string) {
	switch {
	case len(body) == 0:
		return nil, "empty"
	case !utf8.Valid(body):
		return nil, "not UTF-8"
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return nil, "not JSON"
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, "more than one JSON value"
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, "not a JSON object"
	}
	return object, ""
}

// at follows a dotted path of object keys.
func (d document) at(path string) (any, bool) {
	var value any = map[string]any(d)
	for key := range strings.SplitSeq(path, ".") {
		object, ok := value.(map[string]any)
		if !ok {
			return nil, false
		}
		if value, ok = object[key]; !ok {
			return nil, false
		}
	}
	return value, true
}

func (d document) text(path string) (string, bool) {
	value, _ := d.at(path)
	text, ok := value.(string)
	return text, ok
}

// rule is one field a body must have, and what its text must satisfy.
type rule struct {
	path string
	ok   func(string) bool
	want string
}

// broken lists the rules that d breaks, by path, never with a value.
func (d document) broken(rules []rule) (faults []string) {
	for _, r := range rules {
		value, present := d.at(r.path)
		text, isText := value.(string)
		switch {
		case !present || value == nil:
			faults = append(faults, r.path+": missing")
		case !isText || !r.ok(text):
			faults = append(faults, r.path+": not "+r.want)
		}
	}
	return faults
}

var envelopeRules = []rule{
	{"action_id", isUUID, "a UUID"},
	{"action_type", upTo(maxIDLength), "a string of 1 to 64 characters"},
}

var accessionRule = rule{pathAccession, upTo(maxAccession), "a string of 1 to 16 characters"}

var createRules = []rule{
	accessionRule,
	{pathItem + ".participant.nhs_number", upTo(maxName), "a string of 1 to 64 characters"},
	{pathItem + ".participant.name", upTo(maxName), "a string of 1 to 64 characters"},
	{pathItem + ".participant.birth_date", isTime("20060102"), "a date YYYYMMDD"},
	{pathItem + ".scheduled.date", isTime("20060102"), "a date YYYYMMDD"},
	{pathItem + ".scheduled.time", isTime("150405"), "a time HHMMSS"},
	{pathItem + ".procedure.modality", upTo(maxAccession), "a string of 1 to 16 characters"},
}

var updateRules = []rule{
	accessionRule,
	{pathItem + ".status", isStatus, "one of " + strings.Join(statuses, ", ")},
}

func envelopeFaults(d document) []string { return d.broken(envelopeRules) }
func createFaults(d document) []string   { return d.broken(createRules) }
func updateFaults(d document) []string   { return d.broken(updateRules) }

func upTo(most int) func(string) bool {
	return func(s string) bool { return fits(s, most) }
}

// isTime accepts what layout does, short of the year 9999: systems write it for
// "none", and the day after it is no date that a database holds.
func isTime(layout string) func(string) bool {
	return func(s string) bool {
		t, err := time.Parse(layout, s)
		return err == nil && len(s) == len(layout) && t.Year() < 9999
	}
}

func isStatus(s string) bool {
	return slices.Contains(statuses, strings.ToUpper(s))
}

// isSchemaOne accepts the JSON number 1 however it is spelt (1, 1.0).
func isSchemaOne(value any) bool {
	number, ok := value.(json.Number)
	if !ok {
		return false
	}
	version, err := number.Float64()
	return err == nil && version == 1
}

// digest identifies what an action asks for: two messages with one action id
// must agree on it. Key order, white space and the timestamp do not count,
// since a producer that sends again builds its body anew.
func digest(d document) string {
	// Marshal writes map keys in order, which makes the form canonical.
	canonical, err := json.Marshal(map[string]any{"action_type": d["action_type"], "parameters": d["parameters"]})
	if err != nil {
		panic("marshal of what was just unmarshalled: " + err.Error())
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:])
}
