// Package leaktest hunts for what must be in message bodies and nowhere else: a
// participant's details, tokens and keys.
//
// A test sends actions made by [Create] and [Update], which hold a canary in
// every field, uses the keys named here, and then holds what the program left
// behind against them with [Check], [Database] and [Properties].
//
// The package knows nothing of the code that it is used to test and must not be
// part of a production binary. Nobody can take its participant for real.
package leaktest

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// Values of the participant's fields. A sex is too short to be found again, and
// neither times nor the scheduled date are details: the program keeps times of
// its own that may look the same.
const (
	NHSNumber        = "9990000018"
	Name             = "SYNTHETIC-KINGFISHER^ÉLODIE"
	BirthDate        = "19640229"
	StudyDescription = "SYN WAGTAIL"
	Modality         = "LAPWING"
	AppointmentID    = "SYN-APP-NIGHTJAR"
	ParticipantID    = "SYN-PAR-GOLDCREST"
	SourceSystem     = "BULLFINCH"
	Address          = "7 FIELDFARE ROW"   // a field that no contract names, of the participant
	Note             = "call WHEATEAR now" // a field that no contract names, of the envelope
)

// PropertyName and Property are an application property of the producer's own.
// It may travel on messages and be nowhere else.
const (
	PropertyName = "synthetic_property"
	Property     = "REDSTART"
)

// Secrets, for a test to configure. A token made with a key is found by its form.
const (
	RelayKey    = "c3ludGhldGljIHN0b25lY2hhdCBrZXk="
	BrokerKey   = "c3ludGhldGljIHdhcmJsZXIga2V5IQ=="
	BearerToken = "eyJzeW50aGV0aWMi.eyJkdW5ub2NrIn0.c3ludGhldGlj" // also with more behind it

	IdentityHeader = "header-of-the-sandpiper" // what a container asks for its identity's tokens with
)

// Canary is one value that must not be found.
type Canary struct {
	Field string // as a leak is reported
	Value string
	Whole bool // only whole; else each of its words, of five letters or more, is looked for too
}

// Canaries are all of them.
var Canaries = []Canary{
	{Field: "participant.nhs_number", Value: NHSNumber},
	{Field: "participant.nhs_number", Value: NHSNumber[:3] + " " + NHSNumber[3:6] + " " + NHSNumber[6:], Whole: true},
	{Field: "participant.name", Value: Name},
	{Field: "participant.birth_date", Value: BirthDate},
	{Field: "participant.birth_date", Value: BirthDate[:4] + "-" + BirthDate[4:6] + "-" + BirthDate[6:], Whole: true},
	{Field: "participant.address", Value: Address},
	{Field: "procedure.study_description", Value: StudyDescription},
	{Field: "procedure.modality", Value: Modality},
	{Field: "source_reference.appointment_id", Value: AppointmentID},
	{Field: "source_reference.participant_id", Value: ParticipantID},
	{Field: "source_system", Value: SourceSystem},
	{Field: "note", Value: Note},
	{Field: "application property", Value: Property},
	{Field: "relay key", Value: RelayKey, Whole: true},
	{Field: "broker key", Value: BrokerKey, Whole: true},
	{Field: "bearer token", Value: BearerToken, Whole: true},
	{Field: "identity header", Value: IdentityHeader, Whole: true},
}

// signed is the signature of a shared access token, also inside a URL.
var signed = regexp.MustCompile(`(?i)(^|[^a-z])sig(=|%(25)*3d)[a-z0-9%+/]{8}`)

// Find returns the fields of the canaries that are in text, in their order and
// each once: in either case, in pieces such as the family name alone, and
// escaped for JSON or a URL, in base64, in hexadecimal, or as a list of bytes.
func Find(text string) (fields []string) { return find([]byte(text)) }

func find(text []byte) (fields []string) {
	found := make(map[string]bool)
	for at := range len(text) - 1 {
		for _, n := range byStart[start(text[at], text[at+1])] {
			if len(text)-at < len(n.form) {
				continue
			}
			here := string(text[at : at+len(n.form)])
			if here == n.form || n.folds && strings.EqualFold(here, n.form) {
				found[n.field] = true
			}
		}
	}
	for _, c := range Canaries {
		if found[c.Field] && !slices.Contains(fields, c.Field) {
			fields = append(fields, c.Field)
		}
	}
	if isSigned(text) {
		fields = append(fields, "signature of a token")
	}
	return fields
}

// isSigned looks for the expression only where it may match: files of megabytes
// are searched.
func isSigned(text []byte) bool {
	for at := range len(text) - 3 {
		if lower(text[at]) == 's' && lower(text[at+1]) == 'i' && lower(text[at+2]) == 'g' &&
			signed.Match(text[max(0, at-1):min(len(text), at+64)]) {
			return true
		}
	}
	return false
}

// Check fails the test for each canary in text, which is from where.
func Check(t testing.TB, where, text string) {
	t.Helper()
	check(t, where, []byte(text))
}

func check(t testing.TB, where string, text []byte) {
	t.Helper()
	for _, field := range find(text) {
		t.Errorf("%s holds the canary of %s: %q", where, field, around(string(text), field))
	}
}

// around is the place in a long text at which the first of field's canaries stands.
func around(text, field string) string {
	const before, after = 200, 300 // bytes
	lower := strings.ToLower(text)
	for _, n := range needles {
		at := strings.Index(text, n.form)
		if at < 0 && n.folds && len(lower) == len(text) {
			at = strings.Index(lower, strings.ToLower(n.form))
		}
		if n.field == field && at >= 0 {
			return strings.ToValidUTF8(text[max(0, at-before):min(len(text), at+after)], "?")
		}
	}
	return strings.ToValidUTF8(text[:min(len(text), before+after)], "?")
}

// needle is one form of a canary, as it is searched for.
type needle struct {
	field string
	form  string
	folds bool // it is searched for in either case
}

var needles = func() (list []needle) {
	for _, c := range Canaries {
		for _, piece := range c.pieces() {
			for _, form := range []string{piece, url.QueryEscape(piece), url.PathEscape(piece), ascii(piece), hex.EncodeToString([]byte(piece)), bytesOf(piece)} {
				list = append(list, needle{c.Field, form, true})
			}
			for _, form := range inBase64(piece) {
				list = append(list, needle{c.Field, form, false})
			}
		}
	}
	return list
}()

// byStart are the needles by their first two bytes, in lower case, so that one pass
// over a text finds them all.
var byStart = func() (by [1 << 16][]needle) {
	for _, n := range needles {
		for i, form := range []string{n.form, strings.ToLower(n.form)} {
			at := start(form[0], form[1])
			if i == 0 || at != start(n.form[0], n.form[1]) { // a letter that is not of ASCII has other bytes in lower case
				by[at] = append(by[at], n)
			}
		}
	}
	return by
}()

func start(first, second byte) int { return int(lower(first))<<8 | int(lower(second)) }

func lower(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		b += 'a' - 'A'
	}
	return b
}

// pieces is the value, and its words where they tell something alone.
func (c Canary) pieces() []string {
	pieces := []string{c.Value}
	if c.Whole {
		return pieces
	}
	for _, word := range strings.FieldsFunc(c.Value, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		if utf8.RuneCountInString(word) >= 5 && word != c.Value {
			pieces = append(pieces, word)
		}
	}
	return pieces
}

// ascii is s inside a JSON string whose writer escapes what is not ASCII, with
// the control characters that no canary has left out.
func ascii(s string) string {
	quoted := strconv.QuoteToASCII(s)
	return quoted[1 : len(quoted)-1]
}

// bytesOf is how a byte slice prints that nobody made a string of.
func bytesOf(s string) string {
	return strings.Trim(fmt.Sprint([]byte(s)), "[]")
}

// inBase64 is what s looks like inside longer base64, at each of the three
// offsets that it may have there, without the characters that it shares with
// its neighbours.
func inBase64(s string) (forms []string) {
	for offset := range 3 {
		padded := append(make([]byte, offset), s...)
		from, to := (offset*8+5)/6, len(padded)*8/6
		for _, alphabet := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			forms = append(forms, alphabet.EncodeToString(padded)[from:to])
		}
	}
	return forms
}
