package main

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"worklist-relay": func() { os.Exit(execute(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs testdata/*.txtar: terminal sessions with the program. Each
// has a Service Bus of its own in $SERVICEBUS_CONNECTION_STRING and an empty
// SQLite file in $DATABASE_URL.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			broker, err := servicebustest.NewServer(servicebustest.Config{Queues: []servicebustest.Queue{{Name: "worklist-commands"}}})
			if err != nil {
				return err
			}
			e.Defer(func() {
				if err := broker.Close(); err != nil {
					t.Error(err)
				}
			})
			e.Setenv("SERVICEBUS_CONNECTION_STRING", broker.ConnectionString())
			e.Setenv("DATABASE_URL", "sqlite:"+e.WorkDir+"/worklist.db")
			e.Setenv("TZ", "UTC")
			e.Values["broker"] = broker
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"queued": checkQueued, "exits": exits},
	})
}

// checkQueued checks how many messages wait in the queue.
func checkQueued(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: queued N")
	}
	broker := ts.Value("broker").(*servicebustest.Server)
	if got := broker.Queues()[0].Active; args[0] != strconv.Itoa(got) {
		ts.Fatalf("%d messages are queued, want %s", got, args[0])
	}
}

// exits runs a command that must end with this exit code, above 0.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ...")
	}
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		ts.Fatalf("%v ended with %v, want exit code %s", args[1:], err, args[0])
	}
	if code := strconv.Itoa(exit.ExitCode()); code != args[0] {
		ts.Fatalf("%v exited with %s, want %s", args[1:], code, args[0])
	}
}
