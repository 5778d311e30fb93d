package main

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/consumer"
)

// probed is a health served over HTTP.
type probed struct {
	*health
	t    *testing.T
	addr string
}

func serveProbes(t *testing.T, with waits) (p probed, stop func()) {
	t.Helper()
	h := &health{}
	addr, stop, err := with.serveHTTP("127.0.0.1:0", h.handler(http.NotFoundHandler()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return probed{h, t, addr}, stop
}

func (p probed) get(path string) (status int, body string) {
	p.t.Helper()
	response, err := http.Get("http://" + p.addr + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return response.StatusCode, strings.TrimSpace(string(text))
}

func (p probed) says(path string, status int, body string) {
	p.t.Helper()
	if gotStatus, gotBody := p.get(path); gotStatus != status || gotBody != body {
		p.t.Errorf("%s: %d %q, want %d %q", path, gotStatus, gotBody, status, body)
	}
}

func (p probed) ready(status int, want report) {
	p.t.Helper()
	gotStatus, body := p.get("/readyz")
	var got report
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		p.t.Fatalf("/readyz is not JSON: %v: %s", err, body)
	}
	if gotStatus != status {
		p.t.Errorf("/readyz: %d, want %d", gotStatus, status)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		p.t.Errorf("/readyz (-want +got):\n%s", diff)
	}
}

func TestProbes(t *testing.T) {
	t.Parallel()
	p, _ := serveProbes(t, usual)
	none := []consumer.Dependency{}

	p.says("/livez", 200, "ok")
	p.says("/healthz/startup", 503, "starting")
	p.ready(503, report{State: "starting", Dependencies: none})

	p.waiting("database", errors.New("open database postgres://db/worklist: connection refused"))
	p.says("/livez", 200, "ok")
	p.says("/healthz/startup", 200, "waiting")
	p.ready(503, report{State: "waiting", Dependencies: []consumer.Dependency{
		{Name: "database", Needed: true, Detail: "open database postgres://db/worklist: connection refused"},
	}})

	dependencies := []consumer.Dependency{
		{Name: "service_bus", OK: true, Needed: true},
		{Name: "database", OK: true, Needed: true},
		{Name: "gateways", Detail: "1 of 3 cannot be reached, 0 held back"},
	}
	var stuck error
	p.running(func() []consumer.Dependency { return dependencies }, func() error { return nil }, func() error { return stuck })
	p.says("/livez", 200, "ok")
	p.says("/healthz/startup", 200, "running")
	p.ready(200, report{Ready: true, State: "running", Dependencies: dependencies}) // a gateway that is away is no reason

	dependencies[1] = consumer.Dependency{Name: "database", Needed: true, Detail: "not answering"}
	p.ready(503, report{State: "running", Dependencies: dependencies})
	p.says("/livez", 200, "ok") // no dependency is a reason to be restarted

	stuck = errors.New("receiving: should have gone on by then, and did not")
	p.says("/livez", 503, stuck.Error())

	stuck, dependencies[1] = nil, consumer.Dependency{Name: "database", OK: true, Needed: true}
	p.stopping()
	p.ready(503, report{State: "stopping", Dependencies: dependencies})
	p.says("/livez", 200, "ok")
}

// A request whose body never comes holds its connection for a while and no longer.
func TestServeHTTPEndsUnfinishedRequests(t *testing.T) {
	t.Parallel()
	hasty := usual
	hasty.httpRead = 50 * time.Millisecond
	p, _ := serveProbes(t, hasty)
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: relay\r\nContent-Length: 100000\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is kept")
	}
}

// A dependency whose state cannot be had now keeps no other probe waiting.
func TestLivezWaitsForNoDependency(t *testing.T) {
	t.Parallel()
	p, _ := serveProbes(t, usual)
	asked, answer := make(chan struct{}), make(chan struct{})
	p.running(func() []consumer.Dependency {
		close(asked)
		<-answer
		return []consumer.Dependency{}
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.ready(200, report{Ready: true, State: "running", Dependencies: []consumer.Dependency{}})
	}()
	<-asked
	impatient := http.Client{Timeout: Patience}
	if response, err := impatient.Get("http://" + p.addr + "/livez"); err != nil {
		t.Error(err)
	} else {
		_ = response.Body.Close()
	}
	close(answer)
	<-ended
}

// A signal that comes while the program starts is not forgotten.
func TestStoppingStays(t *testing.T) {
	t.Parallel()
	p, _ := serveProbes(t, usual)
	p.stopping()
	p.waiting("database", errors.New("away"))
	p.running(func() []consumer.Dependency { return []consumer.Dependency{} })
	p.ready(503, report{State: "stopping", Dependencies: []consumer.Dependency{}})
}

func TestServeHTTP(t *testing.T) {
	t.Parallel()
	p, stop := serveProbes(t, usual)
	if _, _, err := usual.serveHTTP(p.addr, p.handler(http.NotFoundHandler())); err == nil || !strings.Contains(err.Error(), "HTTP_ADDR "+p.addr) {
		t.Errorf("a port in use gives %v", err)
	}
	stop()
	if _, err := http.Get("http://" + p.addr + "/livez"); err == nil {
		t.Error("still answers after stop")
	}
	if addr, stop, err := usual.serveHTTP("", p.handler(http.NotFoundHandler())); addr != "" || err != nil {
		t.Errorf("no address gives %q, %v", addr, err)
	} else {
		stop()
	}
}
