package relaytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Item is one worklist item as a [Gateway] stored it, without the participant.
type Item struct {
	AccessionNumber string `json:"accession_number"`
	ActionID        string `json:"action_id"` // of the create that was first
	Status          string `json:"status"`    // SCHEDULED, IN PROGRESS, COMPLETED or DISCONTINUED
	Writes          int    `json:"writes"`    // creates and updates that were applied to it: 1 when created
}

// worklist is what a gateway stores and what it answers. It is guarded by its
// gateway.
type worklist struct {
	release Release
	started time.Time
	items   []*Item
	index   map[string]*Item // by accession number
	writes  []*Write         // in order
	last    *Write           // of the request handled last; nil: it applied nothing
}

func newWorklist(release Release) *worklist {
	return &worklist{release: release, started: time.Now(), index: map[string]*Item{}}
}

func (w *worklist) list() []Item {
	items := make([]Item, len(w.items))
	for i, item := range w.items {
		items[i] = *item
	}
	return items
}

// handle applies one request. It reports false where the gateway closes without
// a reply: the request is not a JSON object, or an old release does not know
// the action, or is tripped up by it.
func (w *worklist) handle(request []byte) ([]byte, bool) {
	w.last = nil
	var fields object
	if !utf8.Valid(request) || json.Unmarshal(request, &fields) != nil || fields == nil {
		return nil, false
	}
	action := scalar(fields["action_type"], "no-op")
	switch {
	case action == "worklist.create_item":
		return w.create(fields), true
	case action == "worklist.create_test_item":
		return w.createTest(fields)
	case action == w.updateAction():
		return w.update(fields), true
	case w.release != ReleaseCurrent:
		return nil, false
	case action == "echo":
		return fmt.Appendf(nil, `{"status":"echo","payload":%s}`, bytes.TrimSpace(request)), true
	case action == "health":
		return w.health(fields), true
	default:
		return w.refused("Unsupported action: " + action), true
	}
}

func (w *worklist) updateAction() string {
	if w.release == ReleaseCurrent {
		return "worklist.update_status"
	}
	return "worklist.update_item_status"
}

// create stores an item. Whatever the database's constraints refuse, a missing
// name as much as a known accession number, is taken for a duplicate.
func (w *worklist) create(fields object) []byte {
	id := fields["action_id"]
	if !truthy(id) {
		return w.refused("Missing action_id in payload")
	}
	accession, broken, trouble := columns(fields)
	if trouble != "" {
		return w.refused(trouble)
	}
	if broken == "" && accession != "" && w.index[accession] != nil {
		broken = "UNIQUE constraint failed: worklist_items.accession_number"
	}
	if broken != "" {
		return w.duplicate(id, broken)
	}
	item := &Item{AccessionNumber: accession, ActionID: scalar(id, ""), Status: "SCHEDULED", Writes: 1}
	w.items = append(w.items, item)
	if accession != "" { // the database's key may be null any number of times
		w.index[accession] = item
	}
	w.wrote(item.ActionID, item)
	return encode(createReply{Status: "created", ActionID: id})
}

// createTest is create, and an error after it where no name is given: the
// simulated modality has nobody to look for. That modality is not simulated.
func (w *worklist) createTest(fields object) ([]byte, bool) {
	reply := w.create(fields)
	participant, trouble := fields.descend("parameters", "worklist_item", "participant")
	if trouble != "" {
		return nil, false
	}
	if !truthy(participant["name"]) {
		return w.refused("No patient name provided for the test item"), true
	}
	return reply, true
}

type createReply struct {
	Status   string          `json:"status"`
	ActionID json.RawMessage `json:"action_id"`
}

func (w *worklist) duplicate(id json.RawMessage, constraint string) []byte {
	switch w.release {
	case ReleaseFirst:
		return encode(struct {
			Status   string          `json:"status"`
			ActionID json.RawMessage `json:"action_id"`
			Error    string          `json:"error"`
		}{"error", id, constraint})
	case ReleaseDuplicate:
		return encode(createReply{Status: "duplicate", ActionID: id})
	default:
		return encode(createReply{Status: "exists", ActionID: id})
	}
}

// columns gathers what a create stores: the accession number, the constraint
// that a missing value breaks, or the text of a value that cannot be stored.
func columns(fields object) (accession, broken, trouble string) {
	item, trouble := fields.descend("parameters", "worklist_item")
	if trouble != "" {
		return "", "", trouble
	}
	values := []struct {
		column, part, key string
		needed            bool
	}{
		{"accession_number", "", "accession_number", false},
		{"modality", "procedure", "modality", true},
		{"patient_birth_date", "participant", "birth_date", true},
		{"patient_id", "participant", "nhs_number", true},
		{"patient_name", "participant", "name", true},
		{"patient_sex", "participant", "sex", false},
		{"scheduled_date", "scheduled", "date", true},
		{"scheduled_time", "scheduled", "time", true},
		{"study_description", "procedure", "study_description", false},
	}
	for i, v := range values {
		from := item
		if v.part != "" {
			if from, trouble = item.descend(v.part); trouble != "" {
				return "", "", trouble
			}
		}
		value := from[v.key]
		if kind := pythonType(value); kind == "dict" || kind == "list" {
			return "", "", fmt.Sprintf("Error binding parameter %d: type '%s' is not supported", i+1, kind)
		}
		if v.needed && isNull(value) && broken == "" {
			broken = "NOT NULL constraint failed: worklist_items." + v.column
		}
	}
	return scalar(item["accession_number"], ""), broken, ""
}

// transitions says which status an item must have to get another.
var transitions = map[string]string{
	"IN PROGRESS":  "SCHEDULED",
	"COMPLETED":    "IN PROGRESS",
	"DISCONTINUED": "IN PROGRESS",
}

// update moves an item on. An item in another status is as good as none, so the
// repetition of an update that was applied is answered "not found".
func (w *worklist) update(fields object) []byte {
	at := fields
	for _, key := range []string{"parameters", "worklist_item"} {
		raw, ok := at[key]
		if !ok {
			return w.refused("Missing key: '" + key + "'")
		}
		if at = nil; json.Unmarshal(raw, &at) != nil || at == nil {
			return w.refused("'" + pythonType(raw) + "' object is not subscriptable")
		}
	}
	for _, key := range []string{"accession_number", "status"} {
		if _, ok := at[key]; !ok {
			return w.refused("Missing key: '" + key + "'")
		}
	}
	if kind := pythonType(at["status"]); kind != "str" {
		return w.refused("'" + kind + "' object has no attribute 'upper'")
	}
	accession, status := scalar(at["accession_number"], "None"), strings.ToUpper(scalar(at["status"], ""))
	from, ok := transitions[status]
	if !ok {
		return w.refused("Cannot transition to '" + status + "'")
	}
	item := w.index[accession]
	if item == nil || item.Status != from {
		return w.refused("Worklist item '" + accession + "' not found")
	}
	item.Status = status
	item.Writes++
	w.wrote(scalar(fields["action_id"], ""), item)
	return encode(struct {
		AccessionNumber json.RawMessage `json:"accession_number"`
		Status          string          `json:"status"`
	}{at["accession_number"], "updated"})
}

func (w *worklist) health(fields object) []byte {
	type health struct {
		Healthy bool              `json:"healthy"`
		Version string            `json:"version"`
		Uptime  float64           `json:"listener_uptime_seconds"`
		Checks  map[string]string `json:"checks"`
	}
	return encode(struct {
		Status   string          `json:"status"`
		ActionID json.RawMessage `json:"action_id"`
		Health   health          `json:"health"`
	}{"ok", fields["action_id"], health{
		Healthy: true,
		Version: "relaytest",
		Uptime:  time.Since(w.started).Seconds(),
		Checks:  map[string]string{"worklist": "ok"},
	}})
}

// refused is an error reply; the first release has another key for its text.
func (w *worklist) refused(text string) []byte {
	key := "message"
	if w.release == ReleaseFirst {
		key = "error"
	}
	return encode(map[string]string{"status": "error", key: text})
}

// encode never fails: what it is given came out of valid JSON.
func encode(reply any) []byte {
	text, err := json.Marshal(reply)
	if err != nil {
		panic(fmt.Errorf("relaytest: gateway reply: %w", err))
	}
	return text
}
