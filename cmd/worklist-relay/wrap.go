package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

const terminalWidth = 80 // columns that everything for people fits in

// hanging writes text behind head, broken between words so that it fits a
// terminal; what follows the first line stands below the text, not the head. A
// longer word, such as a path, is left whole: it is there to be copied.
func hanging(w io.Writer, head, text string) {
	indent := strings.Repeat(" ", utf8.RuneCountInString(head))
	line := head
	empty := true
	for word := range strings.FieldsSeq(text) {
		if !empty && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > terminalWidth {
			fmt.Fprintln(w, line)
			line, empty = indent, true
		}
		if !empty {
			line += " "
		}
		line += word
		empty = false
	}
	fmt.Fprintln(w, strings.TrimRight(line, " "))
}
