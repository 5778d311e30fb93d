package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
)

// Whatever a body holds, and wherever, no detail of a participant is shown.
func TestMasked(t *testing.T) {
	t.Parallel()
	const id = "0f0f0f0f-0000-4000-8000-000000000001"
	encode := func(change func(map[string]any)) []byte {
		action := leaktest.Create(id, "SYN1", "20300506")
		change(action)
		body, err := json.Marshal(action)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	for name, body := range map[string][]byte{
		"as it should be":              encode(func(map[string]any) {}),
		"a name where an id belongs":   encode(func(a map[string]any) { a["action_id"], a["action_type"] = leaktest.Name, leaktest.Name }),
		"a number where a one belongs": encode(func(a map[string]any) { a["schema_version"] = 9990000018 }),
		"a name as a field's name":     encode(func(a map[string]any) { a[leaktest.Name] = "x" }),
		"a text where an object is":    encode(func(a map[string]any) { a["parameters"] = leaktest.Name }),
		"a list":                       []byte(`["` + leaktest.Name + `"]`),
		"no JSON":                      []byte(leaktest.Name),
	} {
		shown := string(shownBody(consumer.DeadLetter{Body: body}, false))
		leaktest.Check(t, name, shown)
		if !json.Valid([]byte(shown)) {
			t.Errorf("%s: no JSON: %s", name, shown)
		}
	}
	shown := string(shownBody(consumer.DeadLetter{Body: encode(func(map[string]any) {})}, false))
	for _, kept := range []string{`"action_id":"` + id + `"`, `"accession_number":"SYN1"`, `"date":"20300506"`, `"schema_version":1`, `"nhs_number":"***"`} {
		if !strings.Contains(shown, kept) {
			t.Errorf("%s is not in %s", kept, shown)
		}
	}
	if shown := shownBody(consumer.DeadLetter{Body: []byte("no JSON")}, true); string(shown) != `"no JSON"` {
		t.Errorf("revealed: %s", shown)
	}
}
