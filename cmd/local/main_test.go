package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
)

func TestMain(m *testing.M) {
	// A slow machine is no fault. What is only sat out is short.
	for _, limit := range []*time.Duration{
		&usual.demo, &usual.read, &usual.closing, &usual.header, &usual.database, &usual.drop,
		&usual.idleMost, &usual.quietMost, &usual.interrupt, &usual.stop,
	} {
		*limit = testLimit
	}
	usual.exchange = 100 * time.Millisecond
	quickShare = 500
	testscript.Main(suite.Tests(m), map[string]func(){"local": main})
}

// TestScripts runs the command as a person or a shell script would.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await":     awaitFile,
			"request":   askControl,
			"terminate": terminate,
		},
	})
}

// testLimit is for what must happen, however slow the machine is.
const testLimit = 4 * time.Minute

// awaitFile is the script command `await FILE`: it waits until there is one.
func awaitFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await FILE")
	}
	end := time.After(testLimit)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			ts.Fatalf("no file %s", args[0])
		}
	}
}

// askControl is the script command `request ENVFILE METHOD PATH STATUS [BODY]`: it
// asks the control address of a running serve, and prints the answer.
func askControl(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 || len(args) > 5 {
		ts.Fatalf("usage: request ENVFILE METHOD PATH STATUS [BODY]")
	}
	env := parseEnv(ts.ReadFile(args[0]))
	body := ""
	if len(args) == 5 {
		body = args[4]
	}
	status, answer, err := ask(env["LOCAL_HTTP_ADDR"], args[1], args[2], body)
	ts.Check(err)
	if _, err := io.WriteString(ts.Stdout(), answer); err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(status) != args[3] {
		ts.Fatalf("%s %s: %d, not %s: %s", args[1], args[2], status, args[3], answer)
	}
}

// terminate is the script command `terminate`: it sends SIGTERM to everything
// in the background, which the built-in kill cannot.
func terminate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: terminate")
	}
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(syscall.SIGTERM))
	}
}

// ask makes one request to a control address.
func ask(addr, method, path, body string) (status int, answer string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), testLimit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	r.Close = true // no connection, and none of its goroutines, is left behind
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer w.Body.Close()
	text, err := io.ReadAll(w.Body)
	return w.StatusCode, string(text), err
}

// parseEnv reads KEY=value lines.
func parseEnv(text string) map[string]string {
	env := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		env[key] = value
	}
	return env
}

// noLeak waits until no goroutine is left but those of before.
func noLeak(t *testing.T, before goleak.Option) {
	t.Helper()
	var left error
	suite.Until(t, "all goroutines have ended", func() bool {
		left = goleak.Find(before)
		return left == nil
	}, func() string { return fmt.Sprint(left) })
}

// queueConfig is a Config.json with one queue.
func queueConfig(name, properties string) string {
	return `{"UserConfig":{"Namespaces":[{"Name":"sbemulatorns","Queues":[{"Name":"` + name + `","Properties":{` + properties + `}}],"Topics":[]}],"Logging":{"Type":"File"}}}`
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	absent := filepath.Join(folder, "absent")
	other := write("other.json", queueConfig("other", ""))
	session := write("session.json", queueConfig(queueName, `"RequiresSession":true`))
	broken := write("broken.json", `{"UserConfig":`)

	tests := []struct {
		args []string
		code int
		want string // a part of the one sentence on stderr
	}{
		{[]string{"--nonsense"}, 2, "unknown flag: --nonsense"},
		{[]string{"nonsense"}, 2, `local takes no argument "nonsense"`},
		{[]string{"serve", "now"}, 2, `local serve takes no argument "now"`},
		{[]string{"serve", "--nonsense"}, 2, "unknown flag: --nonsense"},
		{[]string{"serve", "--consumer=perhaps"}, 2, `invalid argument "perhaps"`},
		{[]string{"serve", "--gateways", "leeds"}, 2, `serve: --gateways: "leeds": no mode`},
		{[]string{"serve", "--gateways", ""}, 2, "serve: --gateways: no gateways"},
		{[]string{"serve", "--http-addr", "0.0.0.0:0"}, 2, `serve: --http-addr: "0.0.0.0:0" is not on loopback`},
		{[]string{"serve", "--http-addr", ":8080"}, 2, `--http-addr: ":8080" is not on loopback`},
		{[]string{"serve", "--http-addr", "localhost"}, 2, `--http-addr: "localhost" is not HOST:PORT`},
		{[]string{"serve", "--broker-addr", "192.0.2.1:5672"}, 2, `--broker-addr: "192.0.2.1:5672" is not on loopback`},
		{[]string{"serve", "--relay-addr", "example.invalid:80"}, 2, `--relay-addr: "example.invalid:80" is not on loopback`},
		{[]string{"serve", "--broker-addr", "127.0.0.1:99999"}, 3, "serve: start broker: "},
		{[]string{"serve", "--relay-addr", "127.0.0.1:99999"}, 3, "serve: start relay: "},
		{[]string{"serve", "--http-addr", "127.0.0.1:99999"}, 3, "serve: control address: "},
		{[]string{"serve", "--config", absent}, 3, "serve: --config " + absent + ": no such file or directory"},
		{[]string{"serve", "--config", broken}, 3, "serve: --config " + broken + ": "},
		{[]string{"serve", "--config", other}, 3, "no queue worklist-commands"},
		{[]string{"serve", "--lock", "soon"}, 2, `invalid argument "soon"`},
		{[]string{"serve", "--lock", "6m"}, 3, "start broker: queue worklist-commands: LockDuration 6m0s"},
		{[]string{"serve", "--lock", "-1s"}, 3, "start broker: queue worklist-commands: LockDuration -1s"},
		{[]string{"serve", "--max-delivery", "x"}, 2, `invalid argument "x"`},
		{[]string{"serve", "--max-delivery", "2001"}, 3, "start broker: queue worklist-commands: MaxDeliveryCount 2001"},
		{[]string{"serve", "--config", session, "--lock", "6m"}, 3, "start broker: queue worklist-commands: LockDuration 6m0s"},
		{[]string{"serve", "--database-url", "mysql://x"}, 3, "serve: open database"},
		{[]string{"serve", "--database-url", "sqlite:" + filepath.Join(absent, "x")}, 3, "serve: open database"},
		{[]string{"serve", "--database-url", "postgres://u:s3cret@127.0.0.1:1/x?sslmode=disable"}, 3, "serve: open database"},
		{[]string{"serve", "--database-url", "sqlite:" + filepath.Join(folder, "a b.sqlite")}, 3, "DATABASE_URL: its value has a space"},
		{[]string{"serve", "--env-file", filepath.Join(absent, "e")}, 3, "no such file or directory"},
		{[]string{"sample", "--count", "0"}, 2, "sample: --count is a number from 1 to 1000000"},
		{[]string{"sample", "--count", "x"}, 2, `invalid argument "x"`},
		{[]string{"sample", "--gateways", "0"}, 2, "sample: --gateways: a count is a number from 1 to 1000"},
		{[]string{"sample", "--gateways", "a,,b"}, 2, `sample: --gateways: "" is no name`},
		{[]string{"sample", "--seed", "-1"}, 2, `invalid argument "-1"`},
		{[]string{"sample", "x"}, 2, `local sample takes no argument "x"`},
	}
	for _, test := range tests {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			t.Parallel()
			var stdout, stderr strings.Builder
			// A command that is not refused would run until then.
			ctx, cancel := context.WithTimeout(t.Context(), testLimit)
			defer cancel()
			code := run(ctx, test.args, &stdout, &stderr)
			if code != test.code {
				t.Errorf("exit code %d, not %d", code, test.code)
			}
			text := stderr.String()
			if !strings.HasPrefix(text, "local: ") || strings.Count(text, "\n") != 1 || !strings.Contains(text, test.want) {
				t.Errorf("stderr is not one sentence with %q:\n%s", test.want, text)
			}
			if strings.Contains(text, "s3cret") {
				t.Error("stderr holds the password")
			}
			if stdout.String() != "" {
				t.Errorf("stdout: %s", &stdout)
			}
		})
	}
}
