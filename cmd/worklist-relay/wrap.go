package main

import (
	"strings"
	"unicode/utf8"
)

const terminalWidth = 80 // columns of a terminal that nobody made wider

// hanging is text behind head, broken between words so that it fits a terminal;
// what follows the first line stands below the text, not the head. A longer
// word, such as a path, is left whole: it is there to be copied.
func hanging(head, text string) string {
	indent := strings.Repeat(" ", utf8.RuneCountInString(head))
	var b strings.Builder
	line := head
	empty := true
	for word := range strings.FieldsSeq(text) {
		if !empty && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > terminalWidth {
			b.WriteString(line + "\n")
			line, empty = indent, true
		}
		if !empty {
			line += " "
		}
		line += word
		empty = false
	}
	b.WriteString(strings.TrimRight(line, " "))
	return b.String()
}

// reflowed is a text of paragraphs, each broken to fit a terminal. Lines that
// begin with a space, such as those of a table, stay as they are.
func reflowed(text string) string {
	var lines, paragraph []string
	end := func() {
		if len(paragraph) > 0 {
			lines = append(lines, hanging("", strings.Join(paragraph, " ")))
		}
		paragraph = nil
	}
	for line := range strings.SplitSeq(text, "\n") {
		if line != "" && line[0] != ' ' {
			paragraph = append(paragraph, line)
			continue
		}
		end()
		lines = append(lines, line)
	}
	end()
	return strings.Join(lines, "\n")
}
