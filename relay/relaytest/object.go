package relaytest

import (
	"bytes"
	"encoding/json"
)

// object is a JSON object with its keys' exact case, which matters to the
// gateway and not to encoding/json's structs.
type object map[string]json.RawMessage

// descend follows keys; what is missing on the way counts as an empty object.
// The text is the gateway's complaint of anything else that is not one.
func (o object) descend(keys ...string) (object, string) {
	for _, key := range keys {
		raw, ok := o[key]
		if !ok {
			return object{}, ""
		}
		next := object(nil)
		if json.Unmarshal(raw, &next) != nil || next == nil {
			return nil, "'" + pythonType(raw) + "' object has no attribute 'get'"
		}
		o = next
	}
	return o, ""
}

// pythonType names a JSON value's type as the gateway's error texts do.
func pythonType(raw json.RawMessage) string {
	if isNull(raw) {
		return "NoneType"
	}
	switch c := raw[0]; {
	case c == '"':
		return "str"
	case c == '{':
		return "dict"
	case c == '[':
		return "list"
	case c == 't' || c == 'f':
		return "bool"
	case bytes.ContainsAny(raw, ".eE"):
		return "float"
	default:
		return "int"
	}
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// truthy follows the gateway's idea of an empty value.
func truthy(raw json.RawMessage) bool {
	switch string(raw) {
	case "", "null", "false", `""`, "0", "0.0", "-0", "{}", "[]":
		return false
	}
	return true
}

// scalar is a value as text: a string's own, or the JSON of anything else.
func scalar(raw json.RawMessage, missing string) string {
	if isNull(raw) {
		return missing
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(raw)
}
