package main_test

import (
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	service "github.com/worklist-relay/worklist-relay/cmd/worklist-relay"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
)

// program is a run of worklist-relay in a process of its own.
type program struct {
	s     *scene
	cmd   *exec.Cmd
	log   output
	ended chan struct{} // closed when the process has
}

// start begins `worklist-relay run`. One that still runs at the test's end must
// end well then; whatever it logged, no details may be in it.
func (s *scene) start() *program {
	s.t.Helper()
	p := &program{s: s, cmd: exec.Command(service.Program, "run"), ended: make(chan struct{})}
	p.cmd.Env = environ(s.env)
	p.cmd.Stderr, p.cmd.Stdout = &p.log, &p.log
	s.must(p.cmd.Start())
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // exit tells
	}()
	s.t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			p.signal(syscall.SIGTERM)
			p.exits(0)
		}
		leaktest.Check(s.t, "the program's log", p.log.String())
		if s.t.Failed() {
			s.t.Logf("worklist-relay run:\n%s", p.log.String())
		}
	})
	return p
}

// environ are variables as a process has them.
func environ(variables map[string]string) (list []string) {
	for name, value := range variables {
		list = append(list, name+"="+value)
	}
	return list
}

func (p *program) signal(sig syscall.Signal) {
	p.s.t.Helper()
	p.s.check(p.cmd.Process.Signal(sig))
}

// kill ends the process without a word, and waits until it is gone.
func (p *program) kill() {
	p.s.t.Helper()
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// exits waits for the process to end by itself, with this code.
func (p *program) exits(code int) {
	p.s.t.Helper()
	late := time.AfterFunc(service.Patience, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	<-p.ended
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.s.t.Errorf("the program ended with %v, want exit code %d", p.cmd.ProcessState, code)
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

func (o *output) has(text string) bool { return strings.Contains(o.String(), text) }
