package main_test

import (
	"bytes"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	service "github.com/worklist-relay/worklist-relay/cmd/worklist-relay"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
)

// With everything down doctor still ends, with every failure named.
func TestDoctorWorksWhenAllIsDown(t *testing.T) {
	t.Parallel()
	i := newInstallation(t, "sqlite", queueAsItShouldBe())
	i.env = map[string]string{
		"SERVICEBUS_CONNECTION_STRING": direct(swallowing(t)), "SERVICEBUS_SESSIONS": "maybe",
		"DATABASE_URL": "postgres://postgres:" + leaktest.BrokerKey + "@" + mute(t) + "/test?sslmode=verify-full",
	}
	said := i.examine("--timeout", "3s", "--echo", "--json")
	for _, want := range []finding{
		{Check: "configuration", State: "failed", Found: "SERVICEBUS_SESSIONS is not a true or false"},
		{Check: "tcp", State: "failed", Found: "swallowed"},
		{Check: "tls", State: "failed", Found: "swallowed: connected"},
		{Check: "queue", State: "skipped", Found: "Service Bus cannot be reached"},
		{Check: "database", State: "skipped", Found: "the database cannot be reached"},
		{Check: "relays", State: "skipped"},
	} {
		said.has(t, want)
	}
	if said.code != 3 || said.Worst != "failed" {
		t.Errorf("exit code %d, worst %s", said.code, said.Worst)
	}
	i.env = map[string]string{}
	if said := i.examine("--json"); said.code != 3 || said.count("configuration", "failed") != 2 {
		t.Errorf("without any configuration: exit code %d, %s", said.code, said.out)
	}
}

func (e examined) has(t *testing.T, want finding) {
	t.Helper()
	for _, f := range e.Findings {
		if f.matches(want) {
			return
		}
	}
	t.Errorf("not found: %+v\n%s", want, e.out)
}

func (e examined) count(check, state string) (n int) {
	for _, f := range e.Findings {
		if f.Check == check && f.State == state {
			n++
		}
	}
	return n
}

// A signal ends doctor at once, with what is known by then; what was cut short
// is no failure.
func TestDoctorStopsAtOnce(t *testing.T) {
	t.Parallel()
	i := newInstallation(t, "sqlite", queueAsItShouldBe())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	i.must(err)
	defer listener.Close()
	i.env["SERVICEBUS_CONNECTION_STRING"] = direct(listener.Addr().String())
	cmd := exec.Command(service.Program, "doctor", "--timeout", "5m")
	cmd.Env = i.environment()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	i.must(cmd.Start())
	late := time.AfterFunc(service.Patience, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	called, err := listener.Accept()
	i.must(err)
	defer called.Close()
	_, err = called.Read(make([]byte, 1)) // it has begun with TLS, and waits
	i.must(err)
	i.must(cmd.Process.Signal(syscall.SIGINT))
	_ = cmd.Wait() // the code tells
	if code := cmd.ProcessState.ExitCode(); code != 5 {
		t.Errorf("ended with %v, want exit code 5", cmd.ProcessState)
	}
	for _, want := range []string{"ok       configuration: ", "skipped  tls 127.0.0.1:", "skipped  container: stopped by a signal", "worst: ok (0 failed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("not said: %q\n%s%s", want, out.String(), errs.String())
		}
	}
}
