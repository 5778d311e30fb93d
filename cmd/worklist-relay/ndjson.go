package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

const (
	maxLine       = 2 << 20 // bytes of one input line: a body of 1 MiB and what is around it
	maxFaultLines = 50      // faults shown in full
)

// openInput opens FILE, or standard input where none, or "-", is named. The
// name is for messages. Close it after.
func openInput(cmd *cobra.Command, args []string) (name string, in io.ReadCloser, err error) {
	if len(args) == 0 || args[0] == "-" {
		return "standard input", io.NopCloser(cmd.InOrStdin()), nil
	}
	in, err = os.Open(args[0])
	return args[0], in, err
}

// eachLine calls parse with every line that is not blank, and its number from 1.
// Where parse calls any of them wrong, the one error has all faults with their
// lines, and begins with what follows from that, such as "nothing was sent".
func eachLine(name string, in io.Reader, follows string, parse func(n int, line []byte) error) error {
	var faults []string
	fault := func(n int, err error) { faults = append(faults, fmt.Sprintf("%s line %d: %v", name, n, err)) }
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	all, n := 0, 0
	for lines.Scan() {
		n++
		line := bytes.TrimSpace(bytes.TrimPrefix(lines.Bytes(), []byte("\ufeff"))) // editors on Windows begin a file with a mark
		if len(line) == 0 {
			continue
		}
		all++
		if err := parse(n, line); err != nil {
			fault(n, err)
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		all++
		fault(n+1, fmt.Errorf("longer than %d bytes", maxLine))
	case err != nil:
		return unread(name, err)
	}
	wrong := len(faults)
	if wrong == 0 {
		return nil
	}
	if wrong > maxFaultLines {
		faults = append(faults[:maxFaultLines], fmt.Sprintf("... and %d more", wrong-maxFaultLines))
	}
	return fmt.Errorf("%s, %d of %s wrong:\n  %s", follows, wrong, several(all, "line"), strings.Join(faults, "\n  "))
}

// unread is the error of reading a file, which may name it already.
func unread(name string, err error) error {
	var known *fs.PathError
	if errors.As(err, &known) {
		err = known.Err
	}
	return fmt.Errorf("read %s: %w", name, err)
}
