package main_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// startingSituations are about a program that finds something missing when it
// starts.
var startingSituations = []situation{
	{"70_database_away_at_the_start", func(t *testing.T, s *scene) {
		if s.toDatabase == nil {
			s.env["DATABASE_URL"] = "sqlite:" + filepath.Join(t.TempDir(), "absent", "worklist.db")
			s.start().exits(1) // a file does not come by itself
			return
		}
		real, err := url.Parse(s.database)
		s.must(err)
		away := *real
		away.Host = freeAddr(t)
		s.env["DATABASE_URL"], s.env["HTTP_ADDR"] = away.String(), freeAddr(t)
		p := s.start()
		s.until("it lives", func() bool { return s.status("/livez") == http.StatusOK })
		s.until("it says what it waits for", func() bool { return p.log.has("database not available, trying again") })
		if got := s.status("/readyz"); got != http.StatusServiceUnavailable {
			t.Errorf("/readyz answers %d", got)
		}
		if got := s.status("/healthz/startup"); got != http.StatusOK {
			t.Errorf("/healthz/startup answers %d: it would be restarted, and wait from the beginning", got)
		}
		up := func(value string) bool {
			return strings.Contains(s.page(), "\nworklist_dependency_up{dependency=\"database\"} "+value+"\n")
		}
		s.until("its metrics say so, for whoever is to be woken", func() bool { return up("0") })
		id := s.enqueue("leeds")
		startProxyAt(t, away.Host, real.Host)
		s.until("it is ready", func() bool { return s.status("/readyz") == http.StatusOK })
		s.confirmed(id, false)
		s.until("its metrics say that it is back", func() bool { return up("1") && !up("0") })
	}},
}

// status is what the program's health server answers; 0 while it does not.
func (s *scene) status(path string) int {
	response, err := http.Get("http://" + s.env["HTTP_ADDR"] + path)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

// freeAddr is a loopback address that nobody listens on: none of those that the
// system gives to whoever asks for any.
func freeAddr(t *testing.T) string {
	t.Helper()
	for {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		listener, err := net.Listen("tcp", addr)
		if err == nil {
			listener.Close()
			return addr
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
}
