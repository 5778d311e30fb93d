package main

import (
	"bytes"
	"os"
	"testing"
)

// Colours are for terminals, and for people who did not say that they want none.
func TestPaint(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	defer terminal.Close()
	t.Setenv("NO_COLOR", "")
	if got := paint(terminal, red, "open"); got != "\x1b[31mopen\x1b[0m" {
		t.Errorf("%q on a terminal", got)
	}
	if got := paint(&bytes.Buffer{}, red, "open"); got != "open" {
		t.Errorf("%q in a file", got)
	}
	t.Setenv("NO_COLOR", "1")
	if got := paint(terminal, red, "open"); got != "open" {
		t.Errorf("%q with NO_COLOR", got)
	}
}
