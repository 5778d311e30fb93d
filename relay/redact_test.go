package relay_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/worklist-relay/worklist-relay/relay"
)

func TestRedactText(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, want string }{
		{"row 12 of items is odd", "row 12 of items is odd"},
		{"Testperson, Synthetic (F)", "[...], [...] ([...])"},
		{"full of TESTPERSONS", "full of [...]S"},
		{"nhs 999 000 0001", "nhs [...]"},
		{"born 31/01/1970 at 0900", "born [...] at [...]"},
		{`can't open 'C:\x' or "y z" or ` + "`q`", "can't open [...] or [...] or [...]"},
		{"unclosed 'Jane Doe", "unclosed [...]"},
		{"O'Brien isn't", "O'Brien isn't"},
		{"José and Jos\\u00e9", "[...] and [...]"},
		{"accession acc202601150001 twice", "accession [...] twice"},
		{"a key of ZGVhZGJlZWZkZWFkYmVlZmRlYWRiZWVm", "a key of [...]"},
		{"two\nlines\x00", "two lines "},
		{strings.Repeat("word ", 50), strings.Repeat("word ", 40)},
	} {
		if got := relay.RedactText(test.text, create(1)); got != test.want {
			t.Errorf("%q: got %q, want %q", test.text, got, test.want)
		}
	}
	body := []byte(`{"parameters":["Mary","MaryAnn",172,{"x":["an"]}]}`)
	got := relay.RedactText("maryann of 172 cm (1720 mm), mary, an and not Ann", relay.NewAction(body, "", createItem, ""))
	if want := "[...] of [...] cm ([...]0 mm), [...], [...] and not Ann"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestNoValueOfTheBodySurvives makes bodies and error texts that repeat them in many ways.
func TestNoValueOfTheBodySurvives(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.OneOf(
			rapid.StringMatching(`[A-Za-z]{1,10}(\^[A-Z]{1,8}){0,3}`),
			rapid.StringMatching(`[0-9]{1,12}`),
			rapid.StringMatching(`[A-Z]{2}[0-9]{3,10}[0-9A-F]{4}`),
			rapid.StringMatching(`[a-zA-Z' .-]{1,20}`),
			rapid.String(),
		), 1, 8).Draw(t, "values")
		body, err := json.Marshal(map[string]any{"parameters": map[string]any{"worklist_item": values, "number": 123}})
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for range rapid.IntRange(1, 6).Draw(t, "parts") {
			value := rapid.SampledFrom(values).Draw(t, "value")
			echo := rapid.SampledFrom([]func(string) string{
				func(s string) string { return s }, strings.ToLower, strings.ToUpper,
				func(s string) string { return fmt.Sprintf("%q", s) },
				func(s string) string { return fmt.Sprintf("%+q", s) },
				func(s string) string { return "x" + s + "x" },
				func(s string) string { return strings.ReplaceAll(s, "^", ", ") },
			}).Draw(t, "echo")
			text.WriteString(rapid.SampledFrom([]string{"", " ", "bad: ", "'", "\"", "(", "-", "["}).Draw(t, "before"))
			text.WriteString(echo(value))
		}
		noneSurvives(t, body, createItem, relay.RedactText(text.String(), relay.NewAction(body, "", createItem, "")))
	})
}

// noneSurvives fails if text holds a value of body, or a word of one. Those of one or two characters count as whole words only, and
// the action's type does not count.
func noneSurvives(t interface{ Errorf(string, ...any) }, body []byte, actionType, text string) {
	if utf8.RuneCountInString(text) > 200 {
		t.Errorf("%d runes are left", utf8.RuneCountInString(text))
	}
	var parsed any
	if json.Unmarshal(body, &parsed) != nil {
		return
	}
	words := map[string]bool{}
	for _, word := range regexp.MustCompile(`[\pL\pN]+`).FindAllString(strings.ToLower(text), -1) {
		words[word] = true
	}
	for _, value := range stringsOf(parsed, actionType) {
		word := strings.ContainsFunc(value, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) })
		switch {
		case !word: // nothing but punctuation
		case utf8.RuneCountInString(value) < 3 && words[strings.ToLower(value)],
			utf8.RuneCountInString(value) >= 3 && strings.Contains(strings.ToLower(text), strings.ToLower(value)):
			t.Errorf("%q is left in %q", value, text)
		}
	}
}

func stringsOf(v any, public string) (found []string) {
	switch v := v.(type) {
	case map[string]any:
		for _, member := range v {
			found = append(found, stringsOf(member, public)...)
		}
	case []any:
		for _, element := range v {
			found = append(found, stringsOf(element, public)...)
		}
	case string:
		if v == public {
			break
		}
		found = append(found, v)
		found = append(found, regexp.MustCompile(`[\pL\pN]+`).FindAllString(v, -1)...)
	}
	return found
}

// FuzzAck reads answers of every kind to an action of every kind: nothing of the action's body may be left in what is stored.
func FuzzAck(f *testing.F) {
	body := `{"parameters":{"worklist_item":{"participant":{"name":"TESTPERSON^SYNTHETIC","sex":"F","nhs_number":"9990000001"}}}}`
	for _, reply := range []string{
		`{"status":"created"}`, `{"status":"error","message":"TESTPERSON^SYNTHETIC is odd"}`, `{"status":"error","error":"UNIQUE constraint F"}`,
		`{"status":"updated","accession_number":"TESTPERSON"}`, `[]`, `{"status":"error","message":"9990 000 001 F \u0130 \\u00e9"}`,
	} {
		f.Add([]byte(reply), []byte(body), createItem, "ACC1")
		f.Add([]byte(reply), []byte(body), updateItem, "")
	}
	f.Fuzz(func(t *testing.T, reply, body []byte, actionType, accession string) {
		ack, err := relay.DecodeAck(reply, relay.NewAction(body, "the-id", actionType, accession))
		if err != nil {
			if ack != (relay.Ack{}) || len(err.Error()) > 60 {
				t.Errorf("got %+v with %v", ack, err)
			}
			return
		}
		switch ack.Status {
		case "created", "processed", "updated", "exists", "duplicate", "error", "echo":
		default:
			t.Errorf("status %q", ack.Status)
		}
		if ack.Kind == 0 || ack.ActionID != "" && ack.ActionID != "the-id" || ack.AccessionNumber != "" && ack.AccessionNumber != accession {
			t.Errorf("got %+v", ack)
		}
		if ack.Kind == relay.AckUnknown {
			noneSurvives(t, body, actionType, ack.Text)
		}
	})
}
