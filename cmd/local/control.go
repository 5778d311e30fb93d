package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// mostControlBytes bounds the body of a request to the control address.
const mostControlBytes = 4 << 10

// lastingFaults are the broker's faults that take a duration; the others are
// over at once.
var lastingFaults = []string{"throttle", "refuse-tokens", "delay", "away"}

// queueCounts is one queue as GET /broker shows it.
type queueCounts struct {
	Queue        string `json:"queue"`
	Active       int    `json:"active"`
	Scheduled    int    `json:"scheduled"`
	DeadLettered int    `json:"dead_lettered"`
	Locked       int    `json:"locked"`
}

// control answers on the control address: it shows what gateways and broker
// have, and makes them misbehave.
//
//	GET  /health          {"status":"ok"}
//	GET  /gateways        [{"name","mode","dials","exchanges","max_open","items"}]
//	POST /gateways/NAME   {"mode":"silent"}
//	GET  /broker          [{"queue","active","scheduled","dead_lettered","locked"}]
//	POST /broker          {"fault":"away","for":"5s"}
//
// A request that cannot be served is answered {"error":"..."}.
func (s *stack) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /gateways", s.showGateways)
	mux.HandleFunc("POST /gateways/{name}", s.changeGateway)
	mux.HandleFunc("GET /broker", s.showBroker)
	mux.HandleFunc("POST /broker", s.breakBroker)
	for path, allowed := range map[string]string{"/health": "GET", "/gateways": "GET", "/gateways/{name}": "POST", "/broker": "GET, POST"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", allowed)
			refuse(w, http.StatusMethodNotAllowed, fmt.Errorf("%s is for %s", r.URL.Path, allowed))
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, fmt.Errorf("nothing at %s; there are /health, /gateways, /gateways/NAME and /broker", r.URL.Path))
	})
	return mux
}

func (s *stack) showGateways(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, s.snapshots())
}

// snapshots is what each gateway of ours has seen and stored, in the order in
// which they were asked for.
func (s *stack) snapshots() []relaytest.Snapshot {
	snapshots := []relaytest.Snapshot{}
	for _, g := range s.gateways {
		if attached := s.attached[g.Name]; attached != nil {
			snapshots = append(snapshots, attached.Snapshot())
		}
	}
	return snapshots
}

func (s *stack) changeGateway(w http.ResponseWriter, r *http.Request) {
	g := s.attached[r.PathValue("name")]
	if g == nil {
		refuse(w, http.StatusNotFound, fmt.Errorf("no gateway of ours is called %q", r.PathValue("name")))
		return
	}
	var change struct {
		Mode string `json:"mode"`
	}
	if err := readBody(r, &change); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	mode, err := ownMode(change.Mode)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	g.SetMode(mode)
	answer(w, http.StatusOK, g.Snapshot())
}

// ownMode is a mode that a gateway of ours can be in.
func ownMode(name string) (relaytest.Mode, error) {
	if name == "" {
		return "", errors.New("mode: missing")
	}
	mode, err := relaytest.ParseMode(name)
	if err != nil {
		return "", fmt.Errorf("mode: %w", err)
	}
	return mode, nil
}

func (s *stack) showBroker(w http.ResponseWriter, _ *http.Request) {
	queues := []queueCounts{}
	for _, q := range s.broker.Queues() {
		queues = append(queues, queueCounts{q.Name, q.Active, q.Scheduled, q.DeadLettered, q.Locked})
	}
	answer(w, http.StatusOK, queues)
}

func (s *stack) breakBroker(w http.ResponseWriter, r *http.Request) {
	var wish struct {
		Fault string `json:"fault"`
		For   string `json:"for"`
	}
	if err := readBody(r, &wish); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	lasting, err := parseLasting(wish.Fault, wish.For)
	if err == nil {
		err = s.broker.Fault(wish.Fault, lasting)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	answer(w, http.StatusOK, map[string]string{"fault": wish.Fault})
}

// parseLasting is how long a fault is to last; 0 is the broker's default.
func parseLasting(fault, text string) (time.Duration, error) {
	switch {
	case fault == "":
		return 0, errors.New("fault: missing")
	case text == "":
		return 0, nil
	case !slices.Contains(lastingFaults, fault):
		return 0, fmt.Errorf("for: only %s last", strings.Join(lastingFaults, ", "))
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("for: %q is not a duration such as 5s", text)
	}
	return d, nil
}

// readBody reads one JSON object with known fields only.
func readBody(r *http.Request, into any) error {
	decoder := json.NewDecoder(http.MaxBytesReader(nil, r.Body, mostControlBytes))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("body: more than one JSON value")
	}
	return nil
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the client has gone
}

func refuse(w http.ResponseWriter, status int, err error) {
	answer(w, status, map[string]string{"error": err.Error()})
}
