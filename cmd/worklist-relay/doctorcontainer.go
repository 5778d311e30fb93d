package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lookAtContainer looks at what this runs in.
func (d *doctor) lookAtContainer(ctx context.Context) []finding {
	findings := []finding{d.lookAtHTTP(ctx), d.lookAtZone(ctx)}
	if f, known := lookAtRoot(); known {
		findings = append(findings, f)
	}
	if f, known := d.lookAtDescriptors(); known {
		findings = append(findings, f)
	}
	return append(findings, finding{Check: "shutdown", State: note,
		Found: fmt.Sprintf("run takes up to %s to end after SIGTERM; the platform must wait for longer (terminationGracePeriodSeconds)", d.config.waitOf())})
}

// lookAtHTTP finds out whether HTTP_ADDR can be served, or is already: doctor
// may run beside run in its container.
func (d *doctor) lookAtHTTP(ctx context.Context) finding {
	addr := d.config.HTTPAddr
	if addr == "" {
		return finding{Check: "http", State: note, Found: "HTTP_ADDR is not set: there are no probes"}
	}
	listener, err := net.Listen("tcp", addr)
	if err == nil {
		_ = listener.Close()
		return finding{Check: "http", Target: addr, State: fine, Found: "can be served"}
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return d.bad(ctx, "http", addr, "cannot be served: "+oneLine(err), "Give HTTP_ADDR as host:port, or :8080 for all addresses; ports below 1024 need rights.")
	}
	limited, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	host, port, _ := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	request, err := http.NewRequestWithContext(limited, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/livez", nil)
	if err == nil {
		var answer *http.Response
		if answer, err = (&http.Transport{DisableKeepAlives: true}).RoundTrip(request); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return finding{Check: "http", Target: addr, State: fine, Found: "is served, and /livez answers: run is there"}
			}
			err = fmt.Errorf("/livez answered %d", answer.StatusCode)
		}
	}
	return d.bad(ctx, "http", addr, "is in use: "+oneLine(err), "Another program has the port, or run hangs: give another HTTP_ADDR, or look at its log.")
}

func (d *doctor) lookAtZone(ctx context.Context) finding {
	name := d.config.ClinicTimeZone
	clinic, err := time.LoadLocation(name)
	if err != nil || name == "" {
		return d.bad(ctx, "time zone", name, "not known", "Give CLINIC_TIME_ZONE a name such as Europe/London.")
	}
	return finding{Check: "time zone", Target: name, State: fine, Found: "its clocks show " + time.Now().In(clinic).Format("2006-01-02 15:04 MST")}
}

// lookAtRoot reads whether the root file system is read-only, where Linux says.
func lookAtRoot() (finding, bool) {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return finding{}, false
	}
	f := finding{Check: "root", State: note, Found: "the root file system can be written; run needs no file but a SQLite database"}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 3 && fields[1] == "/" && strings.HasPrefix(fields[3]+",", "ro,") {
			f = finding{Check: "root", State: fine, Found: "the root file system is read-only"}
		}
	}
	return f, true
}

// lookAtDescriptors compares the limit of open files, where Linux says it, with
// what run may need: for each action in hand a gateway, and some to share.
func (d *doctor) lookAtDescriptors() (finding, bool) {
	text, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		return finding{}, false
	}
	need := 64 + 8*max(d.config.Concurrency, 0)
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(strings.TrimPrefix(line, "Max open files"))
		if !strings.HasPrefix(line, "Max open files") || len(fields) == 0 {
			continue
		}
		limit, err := strconv.Atoi(fields[0])
		if err == nil && limit < need {
			return finding{Check: "descriptors", State: warning, Found: fmt.Sprintf("at most %d open files, needed: about %d", limit, need), Mend: "Raise the limit of open files (ulimit -n), or lower CONCURRENCY."}, true
		}
		return finding{Check: "descriptors", State: fine, Found: "at most " + fields[0] + " open files"}, true
	}
	return finding{}, false
}
