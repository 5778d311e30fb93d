package consumer_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

const (
	create = "worklist.create_item"
	update = "worklist.update_status"
	item   = "parameters.worklist_item."

	removed = "(removed)" // stands for no such key
	spaces  = "\t\n\v\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)

// valid is a good body of an action type.
func valid(actionType string) map[string]any {
	var document map[string]any
	body := `{"schema_version":1,"action_id":"0f0f0f0f-0000-4000-8000-00000000000a","parameters":{"worklist_item":{"accession_number":"SYN1",
		"participant":{"nhs_number":"9990000018","name":"SYNTHETIC^PATIENT","birth_date":"19700101","sex":"F"},
		"scheduled":{"date":"20300506","time":"093000"},"procedure":{"modality":"MG"},"status":"COMPLETED"}}}`
	if err := json.Unmarshal([]byte(body), &document); err != nil {
		panic(err)
	}
	document["action_type"] = actionType
	return document
}

// with sets what is at a dotted path of a document, where its parent is an object.
func with(document map[string]any, path string, value any) map[string]any {
	object := document
	keys := strings.Split(path, ".")
	for _, key := range keys[:len(keys)-1] {
		next, ok := object[key].(map[string]any)
		if !ok {
			return document
		}
		object = next
	}
	last := keys[len(keys)-1]
	if object[last] = value; value == removed {
		delete(object, last)
	}
	return document
}

// texts are the fields of limited length.
var texts = map[string]int{
	item + "accession_number": 16, item + "participant.nhs_number": 64, item + "participant.name": 64, item + "procedure.modality": 16,
}

// required are the fields of each action type. Objects are fields too.
var required = map[string][]string{
	create: append(slices.Collect(maps.Keys(texts)), "schema_version", "action_id", "action_type", "parameters", "parameters.worklist_item",
		item+"participant", item+"scheduled", item+"procedure", item+"participant.birth_date", item+"scheduled.date", item+"scheduled.time"),
	update: {"schema_version", "action_id", "action_type", "parameters", "parameters.worklist_item", item + "accession_number", item + "status"},
}

// schemaCase is one field with one value.
type schemaCase struct {
	actionType, path string
	value            any
	good             bool
}

func schemaCases() (cases []schemaCase) {
	add := func(actionType, path string, good bool, values ...any) {
		for _, v := range values {
			cases = append(cases, schemaCase{actionType, path, v, good})
		}
	}
	for actionType, like := range map[string]string{create: create, "worklist.create_test_item": create, update: update, "worklist.update_item_status": update} {
		fields := required[like]
		for _, path := range fields {
			add(actionType, path, false, removed, nil, true, 7, "", " ", []any{}, []any{"A"}, map[string]any{}, map[string]any{"A": "B"})
		}
		add(actionType, "schema_version", true, json.RawMessage("1"), json.RawMessage("1.0"), json.RawMessage("10e-1"), json.RawMessage("0.1E1"))
		add(actionType, "schema_version", false, json.RawMessage("0"), json.RawMessage("2"), json.RawMessage("-1"), json.RawMessage("1.01"), "1", json.RawMessage("1e400"))
		add(actionType, "action_id", true, "5E0F3D3A-0C5F-4A53-9D6C-0F6A3B0C7A11", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-FFFFFFFFFFFF")
		add(actionType, "action_id", false, "5E0F3D3A0C5F4A539D6C0F6A3B0C7A11", "{5E0F3D3A-0C5F-4A53-9D6C-0F6A3B0C7A11}", "urn:uuid:5E0F3D3A-0C5F-4A53-9D6C-0F6A3B0C7A11",
			"5E0F3D3A-0C5F-4A53-9D6C-0F6A3B0C7A1G", "5E0F3D3A-0C5F-4A53-9D6C-0F6A3B0C7A11\n", " 5E0F3D3A-0C5F-4A53-9D6C-0F6A3B0C7A1", "5E0F3D3A-0C5F-4A53-9D6C00F6A3B0C7A11", "5E0F3D3A-0C5F-4A53-9D6C-0F6A3B0C7A1é")
		add(actionType, "action_type", false, "worklist.delete_item", "WORKLIST.CREATE_ITEM", "worklist.create_item ", "echo")
		for _, free := range []string{"timestamp", "source_system", "source_reference", "note", "parameters.note", item + "note", item + "participant", item + "status"} {
			if like == create && free == item+"participant" || like == update && free == item+"status" {
				continue
			}
			add(actionType, free, true, removed, nil, true, 7, "", []any{"A"}, map[string]any{"A": nil})
		}
	}
	add(create, item+"participant.sex", true, removed, nil, "", "female", 7)
	add(create, item+"procedure.study_description", true, removed, nil, "", strings.Repeat("x", 100), 7)
	add(create, "action_type", true, create, "worklist.create_test_item")
	add(update, "action_type", true, update, "worklist.update_item_status")
	addTexts(add)
	addTimes(add)
	add(update, item+"status", true, "IN PROGRESS", "COMPLETED", "DISCONTINUED", "in progress", "Completed", "dIsCoNtInUeD",
		"\u0131n progress", "in progre\u017f\u017f", "d\u0131\u017fcont\u0131nued")
	add(update, item+"status", false, "SCHEDULED", "IN  PROGRESS", "INPROGRESS", " COMPLETED", "COMPLETED ", "COMPLETED\n", "İN PROGRESS", "COMPLETED,DISCONTINUED", "IN\u00a0PROGRESS")
	return cases
}

func addTexts(add func(string, string, bool, ...any)) {
	for path, most := range texts {
		add(create, path, true, "A", strings.Repeat("A", most), strings.Repeat("é", most), strings.Repeat("\U0001d5d5", most),
			" A", "A ", "\u00a0A\u3000", "A B", strings.Repeat(" ", most-1)+"A", "\u200b", "\ufeff", "\u0080", `A\B`, "A^B=C", "\U0010ffff", "\ufffd", "\u2029A")
		add(create, path, false, strings.Repeat("A", most+1), strings.Repeat("\U0001d5d5", most+1), strings.Repeat(" ", most)+"A",
			"A\n", "\tA", "A\x00", "\x1f", "A\x7fB", spaces, "\u00a0", "\u0085", " \u2003 ")
		for _, space := range spaces {
			add(create, path, false, string(space))
			if space > ' ' {
				add(create, path, true, string(space)+"A")
			}
		}
	}
}

func addTimes(add func(string, string, bool, ...any)) {
	for _, path := range []string{item + "participant.birth_date", item + "scheduled.date"} {
		add(create, path, true, "20240229", "20000229", "00000101", "00000229", "19700101", "99981231", "20301231", "20300430", "04000229", "99960229")
		add(create, path, false, "20230229", "21000229", "19000229", "99990101", "99991231", "20301301", "20300001", "20300100", "20300132", "20300431", "20300631",
			"20300931", "20301131", "20240230", "2030-05-06", "203005", "2030050", "203005061", "20300506 ", " 20300506", "20300506\n", "2030050a", "+2030506", "-0010101", "٢٠٣٠٠٥٠٦", "2030 5 6", "00000000")
	}
	add(create, item+"scheduled.time", true, "000000", "235959", "093000", "200000", "195959")
	add(create, item+"scheduled.time", false, "240000", "235960", "236000", "0930", "09:30", "09:30:00", "09300", "0930000", "093000.5", "0930.5", " 93000", "93000 ", "093000\n", "-93000", "09300a", "٠٩٣٠٠٠")
}
