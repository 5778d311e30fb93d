package relay

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// redacted stands for what was taken out of a text.
	redacted = "[...]"
	// textRunes is how much of a peer's text is kept.
	textRunes = 200
)

var (
	// opaquePattern is what base64, percent-encoding and hexadecimal make of a secret.
	opaquePattern = regexp.MustCompile(`[A-Za-z0-9+/=_%-]{32,}`)
	// trackingPattern is the relay's id of a dial: a GUID, "_G" and the number of a gateway.
	trackingPattern = regexp.MustCompile(`^[0-9a-fA-F-]{36}(_[A-Z]{1,2}[0-9]{0,4})?$`)
	// quotedPattern takes an apostrophe inside a word for a letter, and an unclosed quotation for one up to the end.
	quotedPattern = regexp.MustCompile(`(?s)\B'.*?(?:'\B|$)|".*?(?:"|$)|` + "`.*?(?:`|$)")
	// foreignPattern is a word that is not plain ASCII or holds an escape, which no message of a gateway's own does.
	foreignPattern = regexp.MustCompile(`\S*(?:[^\x00-\x7f]|\\)\S*`)
	wordPattern    = regexp.MustCompile(`[A-Za-z0-9]+`)
	// digitsPattern is a number of four digits or more, grouped or not: dates, times, health numbers.
	digitsPattern = regexp.MustCompile(`[0-9](?:[ ./:-]?[0-9]){3,}`)
)

// redactText makes text from a gateway safe to store: nothing that stands in the action's body is left, nor anything quoted, any long
// number or anything opaque, since a gateway may echo what it was sent in a form of its own.
func redactText(text string, a Action) string {
	text = foreignPattern.ReplaceAllString(text, redacted)
	text = dropValues(text, a)
	for _, pattern := range []*regexp.Regexp{quotedPattern, digitsPattern, opaquePattern} {
		text = pattern.ReplaceAllString(text, redacted)
	}
	return cutText(text)
}

// dropValues takes every value of the action's body, and every word of one, out of text, in either case. What has one or two characters
// counts as a whole word only: a sex of "F" is not the F of "full". The action's type is no secret.
func dropValues(text string, a Action) string {
	var body any
	decoder := json.NewDecoder(bytes.NewReader(a.body()))
	decoder.UseNumber()
	if decoder.Decode(&body) != nil {
		return text
	}
	short := make(map[string]bool)
	var long []string
	for _, v := range bodyValues(body, a.kind, nil) {
		if utf8.RuneCountInString(v) < 3 {
			short[strings.ToLower(v)] = true
		} else if len(v) <= len(text) && strings.ContainsFunc(v, isWordRune) {
			long = append(long, regexp.QuoteMeta(v))
		}
	}
	// The longest first: a match must not leave the rest of a longer one behind.
	slices.SortFunc(long, func(a, b string) int { return len(b) - len(a) })
	if len(long) > 0 {
		text = regexp.MustCompile(`(?i)`+strings.Join(long, "|")).ReplaceAllString(text, redacted)
	}
	return wordPattern.ReplaceAllStringFunc(text, func(word string) string {
		if short[strings.ToLower(word)] {
			return redacted
		}
		return word
	})
}

// bodyValues appends every string and number below v, and the words of each, other than public.
func bodyValues(v any, public string, values []string) []string {
	switch v := v.(type) {
	case map[string]any:
		for _, member := range v {
			values = bodyValues(member, public, values)
		}
	case []any:
		for _, element := range v {
			values = bodyValues(element, public, values)
		}
	case json.Number:
		values = append(values, v.String())
	case string:
		if v == public {
			break
		}
		values = append(values, v)
		values = append(values, strings.FieldsFunc(v, func(r rune) bool { return !isWordRune(r) })...)
	}
	return values
}

func isWordRune(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// cutText keeps the first 200 runes, on one line.
func cutText(text string) string {
	var cut strings.Builder
	left := textRunes
	for _, r := range text {
		if left--; left < 0 {
			break
		}
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			r = ' '
		}
		cut.WriteRune(r)
	}
	return cut.String()
}
