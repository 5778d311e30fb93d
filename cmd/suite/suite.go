// Package suite is how the tests of this repository run: how many at a time, the
// flag for their long forms, and how they wait.
package suite

import (
	"flag"
	"testing"
	"time"
)

// atOnce is how many tests run at a time in each package. They wait for sockets,
// files and timers more than they compute, so it is not the number of processors.
const atOnce = "16"

// patience is how long a test waits for what must happen. It only has to end: a
// slow machine is no fault, so nothing is expected to take less.
const patience = 4 * time.Minute

// long is one flag for all packages: each that has tests imports this one, or
// `go test ./... -long` ends with "flag provided but not defined".
var long = flag.Bool("long", false, "run the long form of each test that has one")

// Tests are those of m, for TestMain: sixteen at a time, unless -parallel says
// otherwise.
func Tests(m *testing.M) *M { return &M{m} }

// M runs the tests of a package.
type M struct{ m *testing.M }

// Run is [testing.M.Run].
func (m *M) Run() int {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		if err := flag.Set("test.parallel", atOnce); err != nil {
			panic(err)
		}
	}
	return m.m.Run()
}

// Long tells whether tests run in their long form, with -long.
func Long() bool { return *long }

// OnlyLong skips a test, or a part of one, that runs with -long alone. What says why
// it takes long.
func OnlyLong(t testing.TB, what string) {
	t.Helper()
	if !*long {
		t.Skip("with -long alone: " + what)
	}
}

// Until waits until something has come true, and ends the test when it does not
// for minutes. What says what, and shown, where there is one, what there is instead.
func Until(t testing.TB, what string, true func() bool, shown ...func() string) {
	t.Helper()
	end := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !true() {
		select {
		case <-tick.C:
		case <-end:
			for _, s := range shown {
				t.Log(s())
			}
			t.Fatalf("never: %s", what)
		}
	}
}

// Receive is the next value of a channel, or its zero value once it is closed.
// A test that gets none for minutes ends.
func Receive[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(patience):
	}
	t.Fatalf("never: %s", what)
	panic("unreachable")
}
