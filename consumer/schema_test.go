package consumer_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/consumer"
)

// judges are Encode and the schema, which must agree.
type judges struct{ schema *jsonschema.Schema }

func newJudges(t testing.TB) judges {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(consumer.ActionSchema()))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("urn:worklist-relay:action:1", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("urn:worklist-relay:action:1")
	if err != nil {
		t.Fatal(err)
	}
	return judges{schema}
}

// accepts is their one verdict; err is where they do not agree.
func (j judges) accepts(body []byte) (bool, error) {
	_, encoded := consumer.Encode("leeds", nil, body)
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return false, fmt.Errorf("a case that is no JSON is not for the schema: %w", err)
	}
	validated := j.schema.Validate(value)
	if (encoded == nil) != (validated == nil) {
		return false, fmt.Errorf("Encode says %v, the schema says %v, of %s", encoded, validated, body)
	}
	return encoded == nil, nil
}

// Encode and the schema accept the same bodies.
func TestSchemaAgreesWithEncode(t *testing.T) {
	t.Parallel()
	j := newJudges(t)
	for _, actionType := range []string{create, update} {
		if ok, err := j.accepts(marshal(t, valid(actionType))); !ok || err != nil {
			t.Fatalf("%s: accepted %v, %v", actionType, ok, err)
		}
	}
	for _, c := range schemaCases() {
		ok, err := j.accepts(marshal(t, with(valid(c.actionType), c.path, c.value)))
		if err != nil {
			t.Errorf("%s, %s %q: %v", c.actionType, c.path, c.value, err)
		} else if ok != c.good {
			t.Errorf("%s, %s %q: accepted %v, want %v", c.actionType, c.path, c.value, ok, c.good)
		}
	}
	for _, body := range []string{`[]`, `null`, `7`, `"worklist.create_item"`, `{}`, `{"action_type":"worklist.create_item"}`} {
		if ok, err := j.accepts([]byte(body)); ok || err != nil {
			t.Errorf("%s: accepted %v, %v", body, ok, err)
		}
	}
}

func marshal(t interface{ Fatal(...any) }, document any) []byte {
	body, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// They agree on whatever a body is changed into.
func TestSchemaAgreesWithEncodeOnMutations(t *testing.T) {
	t.Parallel()
	j := newJudges(t)
	near := map[string]*rapid.Generator[string]{
		"action_id":                     rapid.StringMatching(`[0-9a-fA-Fg]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}[-0][0-9a-f]{11,12}`),
		item + "participant.birth_date": rapid.StringMatching(`[0-9]{2}[0-9][0-9][01][0-9][0-3][0-9]`),
		item + "scheduled.date":         rapid.StringMatching(`(19|20|99)[0-9][0-9]((02(28|29|30))|([01][0-9](00|01|30|31|32)))`),
		item + "scheduled.time":         rapid.StringMatching(`[0-2][0-9][0-6][0-9][0-6][0-9]?`),
		item + "status":                 rapid.StringMatching("(?i)(in progress|completed|discontinued|scheduled)"),
	}
	space := rapid.StringOfN(rapid.SampledFrom([]rune(spaces+"A\x00\x1f\x7f\u200b\U0001d5d5")), 0, 66, -1)
	paths := slices.Sorted(slices.Values(slices.Concat(required[create], required[update])))
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		document := valid(rapid.SampledFrom([]string{create, update, "worklist.create_test_item", "worklist.update_item_status"}).Draw(t, "type"))
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			path := rapid.SampledFrom(paths).Draw(t, "path")
			text := rapid.OneOf(rapid.String(), space)
			if g := near[path]; g != nil && rapid.IntRange(0, 3).Draw(t, "near") > 0 {
				text = g
			}
			var value any = text.Draw(t, "text")
			if rapid.IntRange(0, 9).Draw(t, "odd") == 0 {
				value = rapid.SampledFrom([]any{nil, removed, true, 1, 1.5, []any{}, map[string]any{}}).Draw(t, "value")
			}
			document = with(document, path, value)
		}
		ok, err := j.accepts(marshal(t, document))
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			accepted++
		}
	})
	if accepted == 0 {
		t.Error("no mutation was accepted: the comparison shows one side only")
	}
}

// Each character by itself is judged alike, in a text and in place of a letter
// whose upper case it has. Above U+3000 there is none that matters.
func TestSchemaKnowsEveryCharacter(t *testing.T) {
	t.Parallel()
	j := newJudges(t)
	agree := func(path, value string) {
		if _, err := j.accepts(marshal(t, with(valid(update), path, value))); err != nil {
			t.Errorf("%s %q: %v", path, value, err)
		}
	}
	for r := range unicode.MaxRune + 1 {
		if r <= 0x3001 {
			if r >= 0x300 && !unicode.IsSpace(r) && r%64 != 0 && !suite.Long() {
				continue
			}
			agree(item+"accession_number", string(r))
		} else if unicode.IsSpace(r) {
			t.Fatalf("%U is a space that the schema has no place for", r)
		}
		upper := strings.ToUpper(string(r))
		for _, status := range []string{"IN PROGRESS", "COMPLETED", "DISCONTINUED"} {
			if strings.Contains(status, upper) {
				agree(item+"status", strings.Replace(status, upper, string(r), 1))
				agree(item+"status", strings.ReplaceAll(status, upper, string(r)))
			}
		}
	}
}

// Each year has the February that the calendar gives it, and each month its days.
func TestSchemaKnowsTheCalendar(t *testing.T) {
	t.Parallel()
	j := newJudges(t)
	agree := func(date string) {
		if _, err := j.accepts(marshal(t, with(valid(create), item+"scheduled.date", date))); err != nil {
			t.Errorf("%s: %v", date, err)
		}
	}
	for year := range 10_000 {
		if century := year%100 == 0; !century && year/100 != 20 && !suite.Long() {
			continue
		}
		agree(fmt.Sprintf("%04d0228", year))
		agree(fmt.Sprintf("%04d0229", year))
	}
	years := []int{2023, 2024}
	if suite.Long() {
		years = []int{0, 1900, 2000, 2023, 2024, 9998}
	}
	for _, year := range years {
		for monthAndDay := range 1340 {
			agree(fmt.Sprintf("%04d%04d", year, monthAndDay))
		}
	}
}

// The schema names itself, and a caller that changes its copy changes no other.
func TestActionSchema(t *testing.T) {
	t.Parallel()
	clear(consumer.ActionSchema())
	var schema struct {
		ID, Schema string
	}
	if err := json.Unmarshal(bytes.ReplaceAll(consumer.ActionSchema(), []byte(`"$`), []byte(`"`)), &schema); err != nil {
		t.Fatal(err)
	}
	if schema.ID != "urn:worklist-relay:action:1" || schema.Schema != "https://json-schema.org/draft/2020-12/schema" {
		t.Errorf("the schema says it is %+v", schema)
	}
}
