//go:build unix

package consumer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
)

// TestJavaScript runs the JavaScript SDK of Service Bus against the broker in the
// process: as a producer does, by the README's example, and in all that the SDK
// can do with a queue. It needs node and npm, and installs the SDK for itself
// alone. Without them, or where no registry is within reach, it is skipped; with
// REQUIRE_NPM=1 it fails instead.
func TestJavaScript(t *testing.T) {
	t.Parallel()
	suite.OnlyLong(t, "npm installs an SDK, and four scripts run on it")
	sdk := installJavaScript(t)
	for name, test := range map[string]func(*testing.T, javascript){
		"producer":             func(t *testing.T, js javascript) { testProducer(t, js) },
		"producer in sessions": func(t *testing.T, js javascript) { testProducer(t, js, inSessions) },
		"queue":                testJavaScriptQueue,
		"session queue":        testJavaScriptSessions,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, sdk)
		})
	}
}

const (
	oldestNode     = 18 // what the SDK asks for
	installTime    = 5 * time.Minute
	javascriptTime = 5 * time.Minute // of one script
)

// npmCode finds what went wrong in npm's output, in the words of versions 9 and later.
var npmCode = regexp.MustCompile(`npm (?:error|ERR!) code (\w+)`)

// javascript is a folder with the scripts of testdata/js and the SDK.
type javascript string

// installJavaScript makes that folder; it goes with the test.
func installJavaScript(t *testing.T) javascript {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			withoutJavaScript(t, "%v", err)
		}
	}
	version, err := exec.Command("node", "--version").Output()
	if err != nil {
		withoutJavaScript(t, "node --version: %v", err)
	}
	major, _, _ := strings.Cut(strings.TrimPrefix(string(version), "v"), ".")
	if n, _ := strconv.Atoi(major); n < oldestNode {
		withoutJavaScript(t, "node is %s, the SDK needs %d", strings.TrimSpace(string(version)), oldestNode)
	}
	folder := t.TempDir()
	if err := os.CopyFS(folder, os.DirFS("testdata/js")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), installTime)
	defer cancel()
	npm := command(ctx, folder, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund",
		"--prefer-offline", "--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000")
	if out, err := npm.CombinedOutput(); err != nil {
		var code string
		if found := npmCode.FindSubmatch(out); found != nil {
			code = string(found[1])
		}
		if slices.Contains([]string{"EUSAGE", "EINTEGRITY", "EJSONPARSE"}, code) { // our files are wrong
			t.Fatalf("npm ci: %v\n%s", err, out)
		}
		withoutJavaScript(t, "npm ci cannot install it: %s, %v", code, err)
	}
	return javascript(folder)
}

// withoutJavaScript ends a test that cannot have the SDK.
func withoutJavaScript(t *testing.T, why string, args ...any) {
	t.Helper()
	if os.Getenv("REQUIRE_NPM") == "1" {
		t.Fatalf("REQUIRE_NPM=1, but "+why, args...)
	}
	t.Skipf("not tested with the JavaScript SDK: "+why, args...)
}

// command is a program in a process group of its own, which ends with ctx.
func command(ctx context.Context, folder, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = folder
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// node is a script that is about to run on the world's queue.
func (js javascript) node(ctx context.Context, w *world, args ...string) *exec.Cmd {
	cmd := command(ctx, string(js), "node", args...)
	cmd.Env = append(os.Environ(), "SERVICEBUS_CONNECTION_STRING="+w.broker.ConnectionString(), "SERVICEBUS_QUEUE="+queue)
	return cmd
}

// run runs a script to its end, which must be a good one. No participant's details
// may be in what it prints.
func (js javascript) run(w *world, stdin []byte, args ...string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), javascriptTime)
	defer cancel()
	cmd := js.node(ctx, w, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	leaktest.Check(w.t, "the script's output", string(out))
	if err != nil {
		w.t.Fatalf("node %v: %v\n%s", args, err, out)
	}
}

// dialogue is a script that tells of each step, and waits to be let go on.
type dialogue struct {
	w    *world
	in   io.Writer
	out  *json.Decoder
	errs *logBuffer
	at   string // the step that the script waits after; "": it has not begun

	until time.Time // until when a lock holds, if the step told that
}

// talk starts a script. When the test ends it must have come to its own end.
func (js javascript) talk(w *world, args ...string) *dialogue {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), javascriptTime)
	d := &dialogue{w: w, errs: &logBuffer{}}
	cmd := js.node(ctx, w, args...)
	cmd.Stderr = d.errs
	in, err := cmd.StdinPipe()
	w.must(err)
	out, err := cmd.StdoutPipe()
	w.must(err)
	d.in, d.out = in, json.NewDecoder(out)
	w.must(cmd.Start())
	w.t.Cleanup(func() {
		defer cancel()
		w.check(in.Close()) // a script that is let go on has no more to wait for
		if err := cmd.Wait(); err != nil {
			w.t.Errorf("node %v after step %q: %v\n%s", args, d.at, err, d.errs)
		}
	})
	return d
}

// step lets the script go on to the end of its next step, and compares what it
// tells of that with want, as JSON.
func (d *dialogue) step(name, want string) {
	d.w.t.Helper()
	if d.at != "" {
		_, err := io.WriteString(d.in, "\n")
		d.w.check(err)
	}
	var told map[string]any
	if err := d.out.Decode(&told); err != nil {
		d.w.t.Fatalf("after step %q: %v\n%s", d.at, err, d.errs)
	}
	if d.at, _ = told["step"].(string); d.at != name {
		d.w.t.Fatalf("step %q, want %q", d.at, name)
	}
	until, _ := told["until"].(string)
	d.until, _ = time.Parse(time.RFC3339, until)
	delete(told, "step")
	delete(told, "until")
	if diff := cmp.Diff(fromJSON[map[string]any](d.w, []byte(want)), told); diff != "" {
		d.w.t.Errorf("step %q: %s", name, diff)
	}
}

func fromJSON[T any](w *world, text []byte) (value T) {
	w.t.Helper()
	w.must(json.Unmarshal(text, &value))
	return value
}
