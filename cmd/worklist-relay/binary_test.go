package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// The books of three processes balance, also when the consumer is stopped in
// the middle and started again: every action is confirmed in SQL, at its
// gateway once, and nothing is left in the queue.
func TestProcesses(t *testing.T) {
	bin := buildBoth(t)
	for _, dialect := range storetest.Dialects {
		t.Run(dialect, func(t *testing.T) {
			const count = 300
			p := startServers(t, bin, storetest.URL(t, dialect))
			samples := p.run("local", "sample", "--count", "300", "--gateways", "10")
			first := p.start("worklist-relay", "run")
			ids := p.runWith(samples, "worklist-relay", "enqueue", "-")
			if n := bytes.Count(ids, []byte("\n")); n != count {
				t.Fatalf("enqueue printed %d ids, want %d", n, count)
			}
			p.until("some are confirmed", func() bool { return p.confirmed() > 20 })
			p.stop(first)
			p.start("worklist-relay", "run")
			p.until("all are confirmed", func() bool { return p.confirmed() == count })
			p.until("the queue is empty", func() bool { return p.left() == 0 })
			if items, twice := p.items(); items != count || twice != 0 {
				t.Errorf("%d items at the gateways, %d of them written more than once, want %d and none", items, twice, count)
			}
		})
	}
}

// processes are the programs of one test, and how they find each other.
type processes struct {
	t   *testing.T
	bin string
	env []string
	url string // of the servers' control address
}

func buildBoth(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "./cmd/local", "./cmd/worklist-relay")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// startServers brings up broker, relay and ten gateways of both kinds, unless
// flags say otherwise.
func startServers(t *testing.T, bin, databaseURL string, flags ...string) *processes {
	t.Helper()
	p := &processes{t: t, bin: bin, env: os.Environ()}
	file := filepath.Join(t.TempDir(), "env")
	p.start("local", append([]string{"serve", "--consumer=false", "--env-file", file, "--database-url", databaseURL,
		"--gateways", "5=one-shot:rtt=3ms,5=persistent:rtt=3ms"}, flags...)...)
	p.until("the servers are up", func() bool { _, err := os.Stat(file); return err == nil })
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		p.env = append(p.env, line)
		if addr, ok := strings.CutPrefix(line, "LOCAL_HTTP_ADDR="); ok {
			p.url = "http://" + addr
		}
	}
	return p
}

// start runs a program in the background until stop, or the test's end.
func (p *processes) start(name string, args ...string) *exec.Cmd {
	p.t.Helper()
	cmd := exec.Command(filepath.Join(p.bin, name), args...)
	cmd.Env = p.env
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		p.stop(cmd)
		if name == "worklist-relay" {
			leaktest.Check(p.t, "its log", errs.String())
		}
		if p.t.Failed() {
			p.t.Logf("%s:\n%s", name, errs.String())
		}
	})
	return cmd
}

// stop ends a program with SIGTERM; it must exit with 0, in good time.
func (p *processes) stop(cmd *exec.Cmd) {
	p.t.Helper()
	if cmd.ProcessState != nil {
		return
	}
	_ = cmd.Process.Signal(syscall.SIGTERM) // Wait tells if it had ended by itself
	late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	if err := cmd.Wait(); err != nil {
		p.t.Errorf("%v after SIGTERM: %v", cmd.Args, err)
	}
}

func (p *processes) run(name string, args ...string) []byte {
	p.t.Helper()
	return p.runWith(nil, name, args...)
}

func (p *processes) runWith(input []byte, name string, args ...string) []byte {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, name), args...)
	cmd.Env = p.env
	cmd.Stdin = bytes.NewReader(input)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		p.t.Fatalf("%v: %v\n%s", cmd.Args, err, errs.String())
	}
	return out
}

func (p *processes) until(what string, true func() bool) {
	p.t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !true() {
		select {
		case <-tick.C:
		case <-deadline:
			p.t.Fatalf("never: %s", what)
		}
	}
}

func (p *processes) confirmed() int {
	p.t.Helper()
	var rows []struct{}
	p.decode(p.run("worklist-relay", "actions", "list", "--status", "confirmed", "--limit", "10000", "--json"), &rows)
	return len(rows)
}

// left is how many messages are anywhere in the queue, or dead.
func (p *processes) left() int {
	p.t.Helper()
	var queues []struct {
		Active, Scheduled, Locked int
		DeadLettered              int `json:"dead_lettered"`
	}
	p.get("/broker", &queues)
	n := 0
	for _, q := range queues {
		n += q.Active + q.Scheduled + q.Locked + q.DeadLettered
	}
	return n
}

func (p *processes) items() (items, twice int) {
	p.t.Helper()
	var gateways []struct{ Items []struct{ Writes int } }
	p.get("/gateways", &gateways)
	for _, g := range gateways {
		items += len(g.Items)
		for _, item := range g.Items {
			if item.Writes != 1 {
				twice++
			}
		}
	}
	return items, twice
}

func (p *processes) get(path string, into any) {
	p.t.Helper()
	response, err := http.Get(p.url + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(response.Body); err != nil {
		p.t.Fatal(err)
	}
	p.decode(body.Bytes(), into)
}

func (p *processes) decode(text []byte, into any) {
	p.t.Helper()
	if err := json.Unmarshal(text, into); err != nil {
		p.t.Fatalf("%v in %.200s", err, text)
	}
}
