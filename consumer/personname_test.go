package consumer_test

import (
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/worklist-relay/worklist-relay/consumer"
)

func TestPersonName(t *testing.T) {
	t.Parallel()
	for want, name := range map[string]consumer.PersonName{
		"SYNTHETIC":                         {Family: "SYNTHETIC"},
		"SYNTHETIC^PATIENT":                 {Family: "SYNTHETIC", Given: "PATIENT"},
		"SYNTHETIC^PATIENT^ONE TWO^DR^JR":   {"SYNTHETIC", "PATIENT", "ONE TWO", "DR", "JR"},
		"SYNTHETIC^^^DR":                    {Family: "SYNTHETIC", Prefix: "DR"},
		"van der Synthetic^Zoë":             {Family: "  van \t der\u00a0Synthetic\n", Given: " Zoë "},
		"O'SYNTHETIC-SMITH^PATIENT":         {Family: "O'SYNTHETIC-SMITH", Given: "PATIENT", Middle: "  "},
		strings.Repeat("é", 62) + "^P":      {Family: strings.Repeat("é", 62), Given: "P"},
		strings.Repeat("\U0001d5d5", 64):    {Family: strings.Repeat("\U0001d5d5", 64)},
		strings.Repeat("A", 31) + "^" + "B": {Family: strings.Repeat("A", 31), Given: "B"},
	} {
		if got, err := name.DICOM(); err != nil || got != want {
			t.Errorf("%+v is %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestPersonNameRefuses(t *testing.T) {
	t.Parallel()
	delimits := ` holds ^, = or \, which delimit parts of a name in DICOM`
	for _, c := range []struct {
		name consumer.PersonName
		want []string
	}{
		{consumer.PersonName{}, []string{"family name: missing"}},
		{consumer.PersonName{Family: " \u3000", Given: "SECRET"}, []string{"family name: missing"}},
		{consumer.PersonName{Family: "SECRET^A"}, []string{"family name:" + delimits}},
		{consumer.PersonName{Family: "A", Given: `SEC\RET`, Suffix: "SEC=RET"}, []string{"given name:" + delimits, "name suffix:" + delimits}},
		{consumer.PersonName{Family: "A", Middle: "SEC\x1bRET"}, []string{"middle name: holds a control character"}},
		{consumer.PersonName{Family: "A", Prefix: "SEC\u009fRET"}, []string{"name prefix: holds a control character"}},
		{consumer.PersonName{Family: "SECRET\xff"}, []string{"family name: not UTF-8"}},
		{consumer.PersonName{Family: strings.Repeat("A", 63), Given: "B"}, []string{"name: longer than 64 characters in all"}},
		{consumer.PersonName{Family: strings.Repeat("A", 65)}, []string{"name: longer than 64 characters in all"}},
	} {
		name, err := c.name.DICOM()
		var bad *consumer.InvalidError
		if !errors.As(err, &bad) || name != "" {
			t.Errorf("%+v is %q, %v, want an InvalidError", c.name, name, err)
			continue
		}
		if diff := cmp.Diff(c.want, bad.Faults); diff != "" {
			t.Errorf("%+v: %s", c.name, diff)
		}
		if strings.Contains(err.Error(), "SEC") {
			t.Errorf("the error quotes the name: %v", err)
		}
	}
}

// Whatever the components are, the name is DICOM's or refused, and its parts are
// the components again, white space apart.
func TestPersonNameProperty(t *testing.T) {
	t.Parallel()
	component := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ A-Zé'\-]{0,30}`))
	rapid.Check(t, func(t *rapid.T) {
		n := consumer.PersonName{
			Family: component.Draw(t, "family"), Given: component.Draw(t, "given"), Middle: component.Draw(t, "middle"),
			Prefix: component.Draw(t, "prefix"), Suffix: component.Draw(t, "suffix"),
		}
		name, err := n.DICOM()
		if err != nil {
			return
		}
		if name == "" || utf8.RuneCountInString(name) > 64 || strings.HasSuffix(name, "^") ||
			strings.ContainsAny(name, `=\`) || strings.ContainsFunc(name, unicode.IsControl) {
			t.Fatalf("%q is no name in DICOM", name)
		}
		parts := append(strings.Split(name, "^"), "", "", "", "")[:5]
		for i, part := range []string{n.Family, n.Given, n.Middle, n.Prefix, n.Suffix} {
			if want := strings.Join(strings.Fields(part), " "); parts[i] != want {
				t.Fatalf("part %d is %q, want %q", i, parts[i], want)
			}
		}
	})
}
