package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// serveHealth answers /livez and /readyz on addr until stop is called, and
// returns the address it listens on; "" serves nothing. /livez says that the process answers and looks at
// no dependency, since a restart mends none; /readyz says 503 and why while
// actions cannot flow.
func serveHealth(addr string, ready func() error) (listening string, stop func(), err error) {
	if addr == "" {
		return "", func() {}, nil
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return "", nil, fmt.Errorf("HTTP_ADDR %s: %w", addr, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // ends with ErrServerClosed, by stop
	}()
	return listener.Addr().String(), func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close() // a request that does not end is no reason to stay
		}
		<-done
	}, nil
}

// readiness is what /readyz asks. Until it is told whom to ask, the program is
// starting. Its zero value is ready for use, and safe for concurrent use.
type readiness struct{ ask atomic.Pointer[func() error] }

func (r *readiness) use(ask func() error) { r.ask.Store(&ask) }

func (r *readiness) check() error {
	ask := r.ask.Load()
	if ask == nil {
		return errors.New("starting: the database is not there yet")
	}
	return (*ask)()
}
