package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
)

func TestMain(m *testing.M) {
	testscript.Main(suite.Tests(m), map[string]func(){
		"worklist-relay": func() { os.Exit(overheard()) },
	})
}

// saidVariable names the file that keeps all that the program prints in a script.
const saidVariable = "LEAKTEST_SAID"

// overheard is main, with its output in that file too.
func overheard() int {
	said, err := os.OpenFile(os.Getenv(saidVariable), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer said.Close()
	return execute(os.Args[1:], os.Stdin, io.MultiWriter(os.Stdout, said), io.MultiWriter(os.Stderr, said))
}

// TestScripts runs testdata/*.txtar: terminal sessions with the program. Each
// has a Service Bus of its own in $SERVICEBUS_CONNECTION_STRING, with its counts
// at $SERVICEBUS_ADMIN_URL, an empty SQLite file in $DATABASE_URL, actions with
// canaries in canaries.ndjson and invalid.ndjson, and a key in $LEEDS_KEY. A script
// that asks for a gateway has a relay of its own, at $RELAY. Nothing that the
// program prints may hold a canary.
func TestScripts(t *testing.T) {
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
				if err != nil {
					t.Errorf("the program said nothing: %v", err)
				}
				leaktest.Check(t, "the output of "+filepath.Base(e.WorkDir), string(text))
			})
			e.Values["broker"], e.Values["hospitals"] = broker, &hospitals{}
			return writeCanaries(e.WorkDir)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"queued": checkQueued, "exits": exits,
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
