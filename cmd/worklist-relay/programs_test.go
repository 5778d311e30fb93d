package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
)

// Program is the name under which the test binary is the program, and not its tests.
const Program = "worklist-relay"

// Patience is how long a test waits for what must happen: suite's, where suite.Until
// does not fit.
const Patience = 4 * time.Minute

// Of the environment of a program that is the test binary.
const (
	saidVariable     = "LEAKTEST_SAID"     // names the file that keeps all that it prints
	terminalVariable = "TEST_TERMINAL"     // set: it runs the command lines that it is given
	PatientVariable  = "TEST_PATIENT_ENDS" // set: what it does at its end may take minutes
)

// TestMain is the program where it is called by its name. Programs are not
// linked for tests: what they start is this binary.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == Program {
		os.Exit(asProgram())
	}
	os.Exit(asTests(suite.Tests(m)))
}

// asTests runs the tests with the program in PATH.
func asTests(m *suite.M) int {
	bin, err := os.MkdirTemp("", Program)
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(bin)
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(bin, Program))
	}
	if err != nil {
		panic(err)
	}
	os.Setenv("PATH", bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
	defer closeTerminals()
	return m.Run()
}

// asProgram is main, with what it prints in a file too where one is named.
func asProgram() int {
	if os.Getenv(terminalVariable) != "" {
		return serveTerminal(os.Stdin, os.Stdout)
	}
	if os.Getenv(PatientVariable) != "" {
		usual.flush, usual.lastMoments = Patience, 3*Patience
	}
	name := os.Getenv(saidVariable)
	if name == "" {
		return execute(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	}
	said, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer said.Close()
	return execute(os.Args[1:], os.Stdin, io.MultiWriter(os.Stdout, said), io.MultiWriter(os.Stderr, said))
}

// CommandLine is one for a terminal: a process that runs one after the other, each
// as if it were a process of its own. To start one costs more than most commands do.
type CommandLine struct {
	Args, Env []string
	Dir       string // "": that of the tests
	In        string
}

// Outcome is how a command line ended.
type Outcome struct {
	Code      int
	Out, Errs string
}

// terminal is such a process.
type terminal struct {
	cmd     *exec.Cmd
	lines   *json.Encoder
	answers *json.Decoder
	hangUp  io.Closer
}

// idle are those that nobody uses.
var idle = make(chan *terminal, 64)

// Run runs a command line in a process of the program.
func (c CommandLine) Run() (o Outcome, err error) {
	// A process reads the system's authorities once.
	alone := slices.ContainsFunc(c.Env, func(v string) bool { return strings.HasPrefix(v, "SSL_CERT_FILE=") })
	others := idle
	if alone {
		others = nil
	}
	var t *terminal
	select {
	case t = <-others:
	case <-time.After(100 * time.Millisecond): // some commands take long
		if t, err = startTerminal(); err != nil {
			return o, err
		}
	}
	late := time.AfterFunc(Patience, func() { _ = t.cmd.Process.Kill() })
	defer late.Stop()
	err = errors.Join(t.lines.Encode(c), t.answers.Decode(&o))
	if alone || err != nil {
		return o, errors.Join(err, t.close())
	}
	idle <- t
	return o, nil
}

func startTerminal() (*terminal, error) {
	cmd := exec.Command(Program)
	cmd.Env, cmd.Stderr = append(os.Environ(), terminalVariable+"=1"), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &terminal{cmd, json.NewEncoder(in), json.NewDecoder(out), in}, cmd.Start()
}

func closeTerminals() {
	close(idle)
	for t := range idle {
		if err := t.close(); err != nil {
			panic(err)
		}
	}
}

func (t *terminal) close() error {
	return errors.Join(t.hangUp.Close(), t.cmd.Wait())
}

// serveTerminal runs command lines until there are no more.
func serveTerminal(in io.Reader, out io.Writer) int {
	lines, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var c CommandLine
		if err := lines.Decode(&c); errors.Is(err, io.EOF) {
			return 0
		} else if err != nil {
			panic(err)
		}
		if err := answers.Encode(c.here()); err != nil {
			panic(err)
		}
	}
}

// here runs the command line in this process, which has become the one for it.
func (c CommandLine) here() Outcome {
	os.Clearenv()
	for _, variable := range c.Env {
		name, value, _ := strings.Cut(variable, "=")
		os.Setenv(name, value)
	}
	zone, err := time.LoadLocation(os.Getenv("TZ"))
	if err == nil && c.Dir != "" {
		err = os.Chdir(c.Dir)
	}
	if err != nil {
		panic(err)
	}
	time.Local = zone
	var out, errs bytes.Buffer
	code := execute(c.Args, strings.NewReader(c.In), &out, &errs)
	return Outcome{code, out.String(), errs.String()}
}
