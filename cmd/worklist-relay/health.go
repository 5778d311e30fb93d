package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"

	"github.com/worklist-relay/worklist-relay/consumer"
)

// The states of a process that runs the service, as /readyz names them.
const (
	stateStarting = "starting" // nothing is up yet
	stateWaiting  = "waiting"  // for the database, before anything is received
	stateRunning  = "running"
	stateStopping = "stopping" // told to stop; what was sent has its ack to come
)

// health is what run says of itself over HTTP. Its zero value is starting, and
// it is safe for concurrent use.
type health struct {
	mu           sync.Mutex // guards what follows
	state        string     // "": stateStarting
	waitsFor     []consumer.Dependency
	dependencies func() []consumer.Dependency
	alive        []func() error
}

// waiting says what is waited for, and what is wrong with it.
func (h *health) waiting(dependency string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state != stateStopping {
		h.state = stateWaiting
	}
	h.waitsFor = []consumer.Dependency{{Name: dependency, Needed: true, Detail: err.Error()}}
}

// running says whom to ask from now on. A process that is stopping already
// stays so.
func (h *health) running(dependencies func() []consumer.Dependency, alive ...func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dependencies, h.alive = dependencies, alive
	if h.state != stateStopping {
		h.state = stateRunning
	}
}

// stopping makes /readyz say no from now on.
func (h *health) stopping() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.state = stateStopping
}

// report is the body of /readyz.
type report struct {
	Ready        bool                  `json:"ready"`
	State        string                `json:"state"`
	Dependencies []consumer.Dependency `json:"dependencies"`
}

func (h *health) report() report {
	h.mu.Lock()
	r := report{State: h.state, Dependencies: []consumer.Dependency{}}
	ask, waitsFor := h.dependencies, h.waitsFor
	h.mu.Unlock()
	switch {
	case r.State == "":
		r.State = stateStarting
	case ask != nil:
		r.Dependencies = ask() // without the lock: /livez must not wait for its locks
		r.Ready = r.State == stateRunning
	default:
		r.Dependencies = waitsFor
	}
	for _, d := range r.Dependencies {
		r.Ready = r.Ready && (d.OK || !d.Needed)
	}
	return r
}

// live is nil while every loop of the process turns.
func (h *health) live() error {
	h.mu.Lock()
	alive := h.alive
	h.mu.Unlock()
	var stuck []error
	for _, ask := range alive {
		stuck = append(stuck, ask())
	}
	return errors.Join(stuck...)
}

// handler answers the platform's probes. /livez says that the loops turn and
// looks at no dependency, since a restart mends none. /readyz says how each
// dependency stands, and answers 503 while actions cannot flow. /healthz/startup
// says that the process has begun, be it to wait: an identity's roles take
// minutes to work, and a restart would only begin the wait anew.
// /metrics is metrics.
func (h *health) handler(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		if err := h.live(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		r := h.report()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if !r.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(r) // whoever asked has gone
	})
	mux.HandleFunc("GET /healthz/startup", func(w http.ResponseWriter, _ *http.Request) {
		state := h.report().State
		if state == stateStarting {
			http.Error(w, state, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, state)
	})
	return mux
}

// serveHTTP answers on addr until stop is called, and returns the address that
// it listens on; "" serves nothing.
func (d waits) serveHTTP(addr string, handler http.Handler) (listening string, stop func(), err error) {
	if addr == "" {
		return "", func() {}, nil
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return "", nil, fmt.Errorf("HTTP_ADDR %s: %w", addr, err)
	}
	server := &http.Server{Handler: handler, ReadTimeout: d.httpRead, WriteTimeout: d.httpWrite, IdleTimeout: d.httpIdle}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // ends with ErrServerClosed, by stop
	}()
	return listener.Addr().String(), func() {
		ctx, cancel := context.WithTimeout(context.Background(), d.hangUp)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close() // a request that does not end is no reason to stay
		}
		<-done
	}, nil
}
