package main

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestServeHealth(t *testing.T) {
	var why error
	addr, stop, err := serveHealth("127.0.0.1:0", func() error { return why })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	ask := func(path string, status int, text string) {
		t.Helper()
		response, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != status || strings.TrimSpace(string(body)) != text {
			t.Errorf("%s: %d %q, %v; want %d %q", path, response.StatusCode, body, err, status, text)
		}
	}
	ask("/livez", 200, "ok")
	ask("/readyz", 200, "ok")
	why = errors.New("database: not answering")
	ask("/livez", 200, "ok")
	ask("/readyz", 503, "database: not answering")

	if _, _, err := serveHealth(addr, func() error { return nil }); err == nil || !strings.Contains(err.Error(), "HTTP_ADDR "+addr) {
		t.Errorf("a port in use gives %v", err)
	}
	stop()
	if _, err := http.Get("http://" + addr + "/livez"); err == nil {
		t.Error("still answers after stop")
	}
}
