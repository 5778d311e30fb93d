package deploy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
)

// patience is how long a process may take to end before it is killed; machines are busy.
const patience = 4 * time.Minute

// confinement runs an image's files as strictly as a platform may: as the image's
// user, with no capability and no way to one, and a root that cannot be written.
// Only the network is this machine's.
type confinement struct {
	t        *testing.T
	chroot   bool   // do without runc
	root     string // folder of the files
	settings imageSettings
	env      map[string]string // besides the image's own
	data     string            // folder that is /data in it, and can be written
}

// container is a run of the image.
type container struct {
	t     *testing.T
	args  []string
	id    string
	state string // folder of runc's; "" without runc
	cmd   *exec.Cmd
	log   output
	ended chan struct{} // closed when it has
}

// run runs one command in the image to its end, which must be a good one.
func (c confinement) run(input []byte, args ...string) []byte {
	c.t.Helper()
	made := c.create(args)
	var out bytes.Buffer
	made.cmd.Stdin, made.cmd.Stdout = bytes.NewReader(input), &out
	made.begin()
	made.exits(0)
	return out.Bytes()
}

// start runs one command in the image until it is stopped; it must end well.
func (c confinement) start(args ...string) *container {
	c.t.Helper()
	made := c.create(args)
	made.begin()
	return made
}

func (c confinement) create(args []string) *container {
	c.t.Helper()
	p := process{Root: c.root, Data: c.data, Args: slices.Concat(c.settings.Entrypoint, args)}
	if _, err := fmt.Sscanf(c.settings.User, "%d:%d", &p.UID, &p.GID); err != nil {
		c.t.Fatalf("user %q: %v", c.settings.User, err)
	}
	for _, line := range c.settings.Env {
		if name, _, _ := strings.Cut(line, "="); c.env[name] == "" {
			p.Env = append(p.Env, line)
		}
	}
	for name, value := range c.env {
		p.Env = append(p.Env, name+"="+value)
	}
	made := &container{t: c.t, args: args, ended: make(chan struct{})}
	if c.chroot {
		made.cmd = p.inChroot()
	} else {
		folder := c.t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, "config.json"), p.bundle(), 0o600); err != nil {
			c.t.Fatal(err)
		}
		made.id = fmt.Sprintf("worklist-relay-%d-%d", os.Getpid(), containers.Add(1))
		made.state = filepath.Join(folder, "state")
		made.cmd = exec.Command("runc", "--root", made.state, "run", "--bundle", folder, made.id)
	}
	made.cmd.Stderr = &made.log
	return made
}

// containers counts them, for names of their own.
var containers atomic.Int64

func (c *container) begin() {
	c.t.Helper()
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	go func() {
		defer close(c.ended)
		_ = c.cmd.Wait() // exits tells
	}()
	c.t.Cleanup(func() {
		select {
		case <-c.ended:
		default: // the test failed earlier
			_ = syscall.Kill(c.pid(), syscall.SIGKILL)
			<-c.ended
		}
		if c.t.Failed() {
			c.t.Logf("%v:\n%s", c.args, c.log.String())
		}
	})
}

// stop does what a platform does: SIGTERM, and the exit code must be 0.
func (c *container) stop() {
	c.t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil { // runc passes it on
		c.t.Error(err)
	}
	c.exits(0)
}

// exits waits until the container has ended by itself, with this code.
func (c *container) exits(code int) {
	c.t.Helper()
	suite.Receive(c.t, fmt.Sprintf("%v ends", c.args), c.ended)
	if got := c.cmd.ProcessState.ExitCode(); got != code {
		c.t.Fatalf("%v ended with %v, want exit code %d\n%s", c.args, c.cmd.ProcessState, code, c.log.String())
	}
}

// pid is its process, as seen from here.
func (c *container) pid() int {
	c.t.Helper()
	if c.state == "" {
		return c.cmd.Process.Pid
	}
	out, err := exec.Command("runc", "--root", c.state, "state", c.id).Output()
	if err != nil {
		c.t.Fatalf("runc state: %v", err)
	}
	var state struct{ PID int }
	if err := json.Unmarshal(out, &state); err != nil || state.PID <= 1 {
		c.t.Fatalf("runc state: %v in %s", err, out)
	}
	return state.PID
}

// status is /proc/PID/status of its process.
func (c *container) status() map[string]string {
	c.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid()))
	if err != nil {
		c.t.Fatal(err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.Join(strings.Fields(value), " ")
	}
	return fields
}

// checkConfined looks at what the kernel says of the process inside.
func (c *container) checkConfined() {
	c.t.Helper()
	const none = "0000000000000000"
	want := map[string]string{
		"Uid": "65532 65532 65532 65532", "Gid": "65532 65532 65532 65532", "Groups": "", "NoNewPrivs": "1",
		"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none,
	}
	got, status := map[string]string{}, c.status()
	for name := range want {
		got[name] = status[name]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		c.t.Errorf("the process inside (-want +got):\n%s", diff)
	}
	// Not even root can write there.
	err := os.WriteFile(fmt.Sprintf("/proc/%d/root/probe", c.pid()), nil, 0o600)
	if !errors.Is(err, syscall.EROFS) {
		c.t.Errorf("its root can be written: %v", err)
	}
}

// output keeps what a program wrote.
type output struct {
	mu  sync.Mutex // guards buf
	buf strings.Builder
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
