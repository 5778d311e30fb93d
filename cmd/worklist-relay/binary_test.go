package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	service "github.com/worklist-relay/worklist-relay/cmd/worklist-relay"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// The books of three processes balance, also when the consumer is stopped in
// the middle and started again: every action is confirmed in SQL, at its
// gateway once, and nothing is left in the queue.
func TestProcesses(t *testing.T) {
	t.Parallel()
	for _, dialect := range storetest.Dialects {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			const count = 300
			p := startServers(t, storetest.URL(t, dialect))
			samples := p.run("local", "sample", "--count", "300", "--gateways", "10")
			first := p.start("worklist-relay", "run")
			ids := p.runWith(samples, "worklist-relay", "enqueue", "-")
			if n := bytes.Count(ids, []byte("\n")); n != count {
				t.Fatalf("enqueue printed %d ids, want %d", n, count)
			}
			suite.Until(t, "some are confirmed", func() bool { return p.counts()[store.Confirmed] > 20 })
			p.stop(first)
			p.start("worklist-relay", "run")
			suite.Until(t, "all are confirmed", func() bool { return p.counts()[store.Confirmed] == count })
			suite.Until(t, "the queue is empty", func() bool { return p.left() == 0 })
			if n := bytes.Count(p.run("worklist-relay", "actions", "list", "--status", "confirmed", "--limit", "10000"), []byte("  confirmed  ")); n != count {
				t.Errorf("%d actions are listed as confirmed", n)
			}
			if items, twice := p.items(); items != count || twice != 0 {
				t.Errorf("%d items at the gateways, %d of them written more than once, want %d and none", items, twice, count)
			}
		})
	}
}

// processes are the programs of one test, and how they find each other.
type processes struct {
	t   *testing.T
	env []string
	db  *store.Store
	url string // of the servers' control address
}

// linked is the folder with cmd/local, and in the long form with worklist-relay as
// it is linked for production. `go run` keeps what it links, as `go build` does not.
var linked = sync.OnceValues(func() (string, error) {
	program, err := exec.LookPath(service.Program)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(program), "linked")
	names := []string{"local"}
	if suite.Long() {
		names = append(names, service.Program)
	}
	if err = os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	for _, name := range names {
		run := exec.Command("go", "run", "-exec", "cp", "./cmd/"+name, dir)
		run.Dir = "../.."
		if out, err := run.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w\n%s", err, out)
		}
	}
	return dir, nil
})

// command is a program about to be run in the environment of the processes.
func (p *processes) command(name string, args ...string) *exec.Cmd {
	p.t.Helper()
	path := name
	if name == "local" || suite.Long() {
		dir, err := linked()
		if err != nil {
			p.t.Fatal(err)
		}
		path = filepath.Join(dir, name)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = p.env
	return cmd
}

// startServers brings up broker, relay and ten gateways of both kinds, unless
// flags say otherwise.
func startServers(t *testing.T, databaseURL string, flags ...string) *processes {
	t.Helper()
	p := &processes{t: t, env: os.Environ()}
	file := filepath.Join(t.TempDir(), "env")
	p.start("local", append([]string{"serve", "--consumer=false", "--env-file", file, "--database-url", databaseURL,
		"--gateways", "5=one-shot:rtt=3ms,5=persistent:rtt=3ms"}, flags...)...)
	suite.Until(t, "the servers are up", func() bool { _, err := os.Stat(file); return err == nil })
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
	p.db = storetest.Open(t, databaseURL)
	return p
}

// start runs a program in the background until stop, or the test's end.
func (p *processes) start(name string, args ...string) *exec.Cmd {
	p.t.Helper()
	cmd := p.command(name, args...)
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

// stop ends a program with SIGTERM; it must exit with 0.
func (p *processes) stop(cmd *exec.Cmd) {
	p.t.Helper()
	if cmd.ProcessState != nil {
		return
	}
	_ = cmd.Process.Signal(syscall.SIGTERM) // Wait tells if it had ended by itself
	late := time.AfterFunc(service.Patience, func() { _ = cmd.Process.Kill() })
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
	if name == service.Program && !suite.Long() {
		o, err := service.CommandLine{Args: args, Env: p.env, In: string(input)}.Run()
		if err != nil || o.Code != 0 {
			p.t.Fatalf("%v: exit code %d, %v\n%s", args, o.Code, err, o.Errs)
		}
		return []byte(o.Out)
	}
	cmd := p.command(name, args...)
	cmd.Stdin = bytes.NewReader(input)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Start()
	if err == nil {
		late := time.AfterFunc(service.Patience, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		err = cmd.Wait()
	}
	if err != nil {
		p.t.Fatalf("%v: %v\n%s", cmd.Args, err, errs.String())
	}
	return out.Bytes()
}

// counts are how many actions stand at each status.
func (p *processes) counts() map[store.Status]int {
	p.t.Helper()
	counts, err := p.db.Counts(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return counts
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
