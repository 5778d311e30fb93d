package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
)

// TestScripts runs testdata/*.txtar: terminal sessions with the program. Each
// has a Service Bus of its own in $SERVICEBUS_CONNECTION_STRING, with its counts
// at $SERVICEBUS_ADMIN_URL, an empty SQLite file in $DATABASE_URL, actions with
// canaries in canaries.ndjson and invalid.ndjson, and a key in $LEEDS_KEY. A script
// that asks for a gateway has a relay of its own, at $RELAY. Nothing that the
// program prints may hold a canary. With exec the program is a process of its own,
// which it has to be to run on while other commands do, or to have an input.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			broker, err := servicebustest.NewServer(servicebustest.Config{
				HTTPAddr: "127.0.0.1:0", Queues: []servicebustest.Queue{
					// A short lock, since what was on its way to a program that stops comes again when it has run out.
					{Name: "worklist-commands", LockDuration: 10 * time.Second}, {Name: "worklist-outcomes"},
				}, KeyName: "test", Key: leaktest.BrokerKey,
			})
			if err != nil {
				return err
			}
			e.Defer(func() {
				if err := broker.Close(); err != nil {
					t.Error(err)
				}
			})
			e.Setenv("SERVICEBUS_CONNECTION_STRING", broker.ConnectionString())
			e.Setenv("SERVICEBUS_ADMIN_URL", "http://"+broker.HTTPAddr())
			e.Setenv("DATABASE_URL", "sqlite:"+e.WorkDir+"/worklist.db")
			e.Setenv("LEEDS_KEY", leaktest.RelayKey)
			e.Setenv("TZ", "UTC")
			said := filepath.Join(e.WorkDir, ".said")
			e.Setenv(saidVariable, said)
			e.Defer(func() {
				text, err := os.ReadFile(said)
				if err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Error(err)
				}
				leaktest.Check(t, "the output of "+filepath.Base(e.WorkDir), string(text))
			})
			e.Values["broker"], e.Values["hospitals"] = broker, &hospitals{}
			return writeCanaries(e.WorkDir)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			Program: typed, "queued": checkQueued, "exits": exits,
			"dead-letter": deadLetter, "strand": strand, "await-failed": awaitFailed, "audited": audited, "invalid-message": invalidMessage,
			"gateway": changeGateway, "until": untilOutput,
		},
	})
}

// writeCanaries writes requests for enqueue: good ones, and one for each field
// of a create that is not what it must be.
func writeCanaries(dir string) error {
	create := func(n int) map[string]any {
		return leaktest.Create(fmt.Sprintf("0f0f0f0f-0000-4000-8000-%012d", n), fmt.Sprintf("SYN%d", n), "20300506")
	}
	good := []any{create(1), leaktest.Update("0f0f0f0f-0000-4000-8000-000000000002", "SYN1", "COMPLETED")}
	var bad []any
	for i, field := range []string{"action_id", "action_type", "schema_version", "parameters"} {
		a := create(i)
		a[field] = leaktest.Name + leaktest.NHSNumber
		bad = append(bad, a)
	}
	for name, actions := range map[string][]any{"canaries.ndjson": good, "invalid.ndjson": bad} {
		var lines bytes.Buffer
		for _, a := range actions {
			if err := json.NewEncoder(&lines).Encode(map[string]any{"provider_id": "leeds", "action": a}); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), lines.Bytes(), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// checkQueued checks how many messages wait in the queue, or in the one named.
func checkQueued(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: queued N [QUEUE]")
	}
	name := append(args, "worklist-commands")[1]
	for _, q := range ts.Value("broker").(*servicebustest.Server).Queues() {
		switch {
		case q.Name != name:
			continue
		case args[0] != strconv.Itoa(q.Active):
			ts.Fatalf("%d messages are queued in %s, want %s", q.Active, name, args[0])
		}
		return
	}
	ts.Fatalf("there is no queue %s", name)
}

// typed runs the program in a terminal.
func typed(ts *testscript.TestScript, neg bool, args []string) {
	if code := commandLine(ts, args...).show(ts).Code; (code != 0) != neg {
		ts.Fatalf("%v exited with %d", args, code)
	}
}

// exits runs the program in a terminal. It must end with this exit code, above 0.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || args[1] != Program {
		ts.Fatalf("usage: exits CODE worklist-relay ...")
	}
	if code := strconv.Itoa(commandLine(ts, args[2:]...).show(ts).Code); code != args[0] {
		ts.Fatalf("%v exited with %s, want %s", args[1:], code, args[0])
	}
}

// commandLine is how the program ends with these arguments, in the environment of
// a script. Nothing that it prints may hold a canary.
func commandLine(ts *testscript.TestScript, args ...string) Outcome {
	env := reflect.ValueOf(ts).Elem().FieldByName("env") // it lets nobody have them all
	line := CommandLine{Args: args, Dir: ts.MkAbs("."), Env: make([]string, env.Len())}
	for i := range line.Env {
		line.Env[i] = env.Index(i).String()
	}
	o, err := line.Run()
	ts.Check(err)
	if found := leaktest.Find(o.Out + o.Errs); len(found) > 0 {
		ts.Fatalf("%v tells %v of a participant", args, found)
	}
	return o
}

// show makes what a command printed the script's latest output.
func (o Outcome) show(ts *testscript.TestScript) Outcome {
	_, _ = io.WriteString(ts.Stdout(), o.Out) // into memory
	_, _ = io.WriteString(ts.Stderr(), o.Errs)
	return o
}
