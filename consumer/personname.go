package consumer

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// PersonName is a participant's name in DICOM's five components. Only the family
// name is required. White space around a component is dropped, and white space
// inside it becomes one space.
type PersonName struct {
	Family string // or several, as "GARCIA LORCA"
	Given  string // first names
	Middle string // middle names
	Prefix string // "DR", "REV"
	Suffix string // "JR", "MA BSC"
}

// DICOM is the name as a worklist item carries it: DICOM's PN (PS3.5, section
// 6.2), FAMILY^GIVEN^MIDDLE^PREFIX^SUFFIX, without the carets that nothing
// follows. Case and accents stay as they are.
//
// The error is an [*InvalidError] that lists every fault by component and never
// quotes the name: no family name, a character that DICOM has no way to write
// (its delimiters ^ = \ and control characters), text that is not UTF-8, or more
// than 64 characters in all, carets included. A name is never cut short: the
// person at the machine compares it with the one that is asked for.
func (n PersonName) DICOM() (string, error) {
	name, faults := n.dicom()
	if len(faults) > 0 {
		return "", invalid(ReasonInvalidMessage, faults...)
	}
	return name, nil
}

func (n PersonName) dicom() (name string, faults []string) {
	parts := []struct{ what, text string }{
		{"family name", n.Family}, {"given name", n.Given}, {"middle name", n.Middle},
		{"name prefix", n.Prefix}, {"name suffix", n.Suffix},
	}
	texts := make([]string, len(parts))
	for i, part := range parts {
		texts[i] = strings.Join(strings.Fields(part.text), " ")
		if fault := nameFault(texts[i]); fault != "" {
			faults = append(faults, part.what+": "+fault)
		}
	}
	if texts[0] == "" {
		faults = append(faults, parts[0].what+": missing")
	}
	name = strings.TrimRight(strings.Join(texts, "^"), "^")
	if utf8.RuneCountInString(name) > maxName {
		faults = append(faults, "name: longer than 64 characters in all")
	}
	return name, faults
}

// nameFault is why DICOM cannot hold a component; "" for none.
func nameFault(component string) string {
	switch {
	case !utf8.ValidString(component):
		return "not UTF-8"
	case strings.ContainsAny(component, `^=\`):
		return `holds ^, = or \, which delimit parts of a name in DICOM`
	case strings.ContainsFunc(component, unicode.IsControl):
		return "holds a control character"
	}
	return ""
}
