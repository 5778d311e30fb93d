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
// have, and makes them and the relay misbehave.
//
//	GET  /health          {"status":"ok"}
//	GET  /gateways        [{"name","mode","dials","exchanges","max_open","items","writes"}]
//	POST /gateways/NAME   {"mode":"silent"} until further notice, or
//	                      {"next":[{"kind":"lose-ack"},{"kind":"late","after":"5s"}]} for one frame each
//	GET  /broker          [{"queue","active","scheduled","dead_lettered","locked"}]
//	POST /broker          {"fault":"away","for":"5s"}
//	POST /relay           {"drop":"NAME"} cuts the senders' connections to a gateway, "*" all
//
// items are a gateway's worklist; writes are the creates and updates that it
// applied, in order, each with its action and whether its ack certainly was not
// delivered. A request that cannot be served is answered {"error":"..."}.
func (s *stack) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /gateways", s.showGateways)
	mux.HandleFunc("POST /gateways/{name}", s.changeGateway)
	mux.HandleFunc("GET /broker", s.showBroker)
	mux.HandleFunc("POST /broker", s.breakBroker)
	mux.HandleFunc("POST /relay", s.breakRelay)
	for path, allowed := range map[string]string{
		"/health": "GET", "/gateways": "GET", "/gateways/{name}": "POST", "/broker": "GET, POST", "/relay": "POST",
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", allowed)
			refuse(w, http.StatusMethodNotAllowed, fmt.Errorf("%s is for %s", r.URL.Path, allowed))
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, fmt.Errorf("nothing at %s; there are /health, /gateways, /gateways/NAME, /broker and /relay", r.URL.Path))
	})
	return mux
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

// breakRelay cuts the connections of senders, as the service does now and then.
// Neither side is told why, and what was on its way is lost.
func (s *stack) breakRelay(w http.ResponseWriter, r *http.Request) {
	var wish struct {
		Drop string `json:"drop"`
	}
	if err := readBody(r, &wish); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	known := false
	for _, g := range s.gateways {
		if wish.Drop == g.Name || wish.Drop == "*" {
			known = true
			s.relay.DropSenders(g.Name)
		}
	}
	if !known {
		refuse(w, http.StatusBadRequest, fmt.Errorf("drop: %q is no gateway here; name one, or * for all", wish.Drop))
		return
	}
	answer(w, http.StatusOK, map[string]string{"drop": wish.Drop})
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
