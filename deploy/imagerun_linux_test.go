package deploy_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// TestImageRuns lets the image do the main job as a platform would run it: the
// books balance after 100 actions, also when it is stopped in the middle and
// another container goes on. It needs root and buildah, and runs in runc and in a
// chroot that is as strict, or in what of these works.
func TestImageRuns(t *testing.T) {
	imageAsked(t)
	if os.Geteuid() != 0 {
		withoutImage(t, "only root can confine it")
	}
	built := buildImage(t, "..")
	ways := 0
	for name, chroot := range map[string]bool{"runc": false, "chroot": true} {
		t.Run(name, func(t *testing.T) {
			c := confinement{t: t, chroot: chroot, root: t.TempDir(), settings: built.config.Config, data: t.TempDir()}
			built.unpack(t, c.root)
			try := c.create([]string{"--version"})
			if err := try.cmd.Run(); err != nil {
				t.Skipf("%s cannot be used here: %v\n%s", name, err, try.log.String())
			}
			ways++
			for _, dialect := range storetest.Dialects {
				t.Run(dialect, func(t *testing.T) { // one after the other, in the same files
					c := c
					c.t = t
					testImageRuns(t, c, storetest.URL(t, dialect))
				})
			}
		})
	}
	if ways == 0 {
		withoutImage(t, "neither runc nor a chroot can be used")
	}
}

func testImageRuns(t *testing.T, inside confinement, databaseURL string) {
	w := startWorld(t, databaseURL)
	inside.env, inside.data = w.env, w.data
	samples := w.run("sample", "--count", "100", "--gateways", "leeds,hull,york")
	inside.run(samples, "enqueue", "-")

	began := time.Now()
	first := inside.start(inside.settings.Cmd...)
	url := first.answers()
	t.Logf("%v until /livez answered", time.Since(began).Round(time.Millisecond))
	first.checkConfined()
	suite.Until(t, "/readyz says 200", func() bool { return statusOf(url+"/readyz") == http.StatusOK })
	suite.Until(t, "some actions are done", func() bool { return w.books().Items > 10 })
	if got := statusOf(url + "/metrics"); got != http.StatusOK {
		t.Errorf("/metrics says %d, want 200", got)
	}
	t.Logf("%s of memory at most", first.status()["VmHWM"])
	first.stop()

	second := inside.start(inside.settings.Cmd...)
	suite.Until(t, "nothing is left in the queue", func() bool { return w.books().Left == 0 })
	second.stop()

	var rows []struct{ Status, Reason string }
	decode(t, inside.run(nil, "actions", "list", "--limit", "1000", "--json"), &rows)
	ended := map[string]int{}
	for _, row := range rows {
		ended[strings.TrimSpace(row.Status+" "+row.Reason)]++
	}
	// Every third is york's, which rejects.
	if diff := cmp.Diff(map[string]int{"confirmed": 67, "failed GatewayRejected": 33}, ended); diff != "" {
		t.Errorf("of 100 actions (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(books{DeadLettered: 33, Items: 67}, w.books()); diff != "" {
		t.Errorf("queue and gateways (-want +got):\n%s", diff)
	}
	leaktest.Check(t, "the containers' logs", first.log.String()+second.log.String())
}

var httpAddr = regexp.MustCompile(`"http_addr":"([^"]+)"`)

// answers waits until the program inside says where it serves HTTP and is alive
// there, and returns the URL.
func (c *container) answers() (url string) {
	c.t.Helper()
	suite.Until(c.t, "/livez says 200", func() bool {
		select {
		case <-c.ended:
			c.t.Fatalf("%v ended with %v\n%s", c.args, c.cmd.ProcessState, c.log.String())
		default:
		}
		found := httpAddr.FindStringSubmatch(c.log.String())
		if found == nil {
			return false
		}
		url = "http://" + found[1]
		return statusOf(url+"/livez") == http.StatusOK
	})
	return url
}

// world is all that the program talks to: broker, relay and gateways in a process
// of their own, and a database.
type world struct {
	t    *testing.T
	bin  string            // cmd/local
	env  map[string]string // for the image
	url  string            // of the control address
	data string            // a folder for the SQLite file, which the image's user may write
}

func startWorld(t *testing.T, databaseURL string) *world {
	t.Helper()
	w := &world{t: t, bin: program(t, local), env: map[string]string{}, data: t.TempDir()}
	const file = "worklist.db"
	if strings.HasPrefix(databaseURL, "sqlite:") {
		databaseURL = "sqlite:" + filepath.Join(w.data, file)
		// SQLite gives what lies beside the file to the file's owner.
		for _, path := range []string{filepath.Join(w.data, file), w.data} {
			if err := giveAway(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	env := filepath.Join(t.TempDir(), "env")
	w.start("serve", "--consumer=false", "--sessions", "--env-file", env, "--database-url", databaseURL,
		"--gateways", "leeds=one-shot:rtt=20ms,hull=persistent:rtt=20ms,york=reject")
	suite.Until(t, "the servers are up", func() bool { _, err := os.Stat(env); return err == nil })
	text, err := os.ReadFile(env)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		w.env[name] = value
	}
	if strings.HasPrefix(databaseURL, "sqlite:") {
		w.env["DATABASE_URL"] = "sqlite:/data/" + file
	}
	w.env["HTTP_ADDR"] = "127.0.0.1:0"
	w.url = "http://" + w.env["LOCAL_HTTP_ADDR"]
	return w
}

// giveAway makes a path the image's user's; a file that is not there is made.
func giveAway(path string) error {
	if f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600); err == nil {
		_ = f.Close()
	}
	return os.Chown(path, 65532, 65532)
}

// start runs cmd/local in the background until the test ends.
func (w *world) start(args ...string) {
	w.t.Helper()
	cmd := exec.Command(w.bin, args...)
	var said output
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // Wait tells if it had ended by itself
		late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		if err := cmd.Wait(); err != nil {
			w.t.Errorf("%v: %v", cmd.Args, err)
		}
		if w.t.Failed() {
			w.t.Logf("%v:\n%s", cmd.Args, said.String())
		}
	})
}

func (w *world) run(args ...string) []byte {
	w.t.Helper()
	out, err := exec.CommandContext(w.t.Context(), w.bin, args...).Output()
	if err != nil {
		w.t.Fatalf("%v: %v", args, err)
	}
	return out
}

// books are what queue and gateways hold.
type books struct {
	Left         int // messages that have not ended
	DeadLettered int
	Items        int // at the gateways
	Twice        int // of these, written more than once
}

func (w *world) books() (b books) {
	w.t.Helper()
	var queues []struct {
		Active, Scheduled, Locked int
		DeadLettered              int `json:"dead_lettered"`
	}
	w.get("/broker", &queues)
	for _, q := range queues {
		b.Left += q.Active + q.Scheduled + q.Locked
		b.DeadLettered += q.DeadLettered
	}
	var gateways []struct{ Items []struct{ Writes int } }
	w.get("/gateways", &gateways)
	for _, g := range gateways {
		b.Items += len(g.Items)
		for _, item := range g.Items {
			if item.Writes != 1 {
				b.Twice++
			}
		}
	}
	return b
}

func (w *world) get(path string, into any) {
	w.t.Helper()
	response, err := http.Get(w.url + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(response.Body); err != nil {
		w.t.Fatal(err)
	}
	decode(w.t, body.Bytes(), into)
}

func decode(t *testing.T, text []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%v in %.200s", err, text)
	}
}

// statusOf is the HTTP status of a GET; 0 where nothing answers.
func statusOf(url string) int {
	response, err := http.Get(url)
	if err != nil {
		return 0
	}
	_ = response.Body.Close() // only the status counts
	return response.StatusCode
}
