package main_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	otlptrace "go.opentelemetry.io/proto/otlp/trace/v1"

	service "github.com/worklist-relay/worklist-relay/cmd/worklist-relay"
	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/store"
)

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	spanID  = "b7ad6b7169203331"
	parent  = "00-" + traceID + "-" + spanID + "-01"
)

// An action's trace goes on where the producer's was, through all its tries,
// over each protocol.
func TestTraces(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, "sqlite")
			c := s.export(t, protocol)
			s.relay.Refuse("leeds", 1, 404, "There are no listeners connected for the endpoint.")
			p := s.start()
			id := s.enqueueWith("leeds", map[string]any{"traceparent": parent, "tracestate": "vendor=1", "Diagnostic-Id": "00-" + strings.Repeat("1", 32) + "-" + spanID + "-01"})
			s.confirmed(id, false)
			var spans []*otlptrace.Span
			s.until("both tries are told", func() bool {
				spans = c.of(traceID)
				return len(spansNamed(spans, "process "+queue)) == 2
			})
			tries := spansNamed(spans, "process "+queue)
			for i, want := range []struct{ outcome, phase, steps, dial string }{
				{"retried", "no_listener", "receive, connect, record, settle", "connect, handshake"},
				{"confirmed", "", "receive, connect, mark, exchange, record, settle", "connect, handshake"},
			} {
				try := tries[i]
				if hex.EncodeToString(try.ParentSpanId) != spanID || try.TraceState != "vendor=1" || try.Kind != otlptrace.Span_SPAN_KIND_CONSUMER {
					t.Errorf("try %d: parent %x, state %q, kind %v", i, try.ParentSpanId, try.TraceState, try.Kind)
				}
				attributes := texts(try.Attributes)
				for name, value := range map[string]string{
					"messaging.system": "servicebus", "messaging.destination.name": queue, "messaging.operation.name": "process",
					"worklist.action.id": id, "worklist.action.type": "worklist.create_item", "worklist.provider.id": "leeds",
					"worklist.gateway": s.toRelay.addr() + "/leeds", "worklist.outcome": want.outcome, "worklist.phase": want.phase,
				} {
					if attributes[name] != value {
						t.Errorf("try %d: %s is %q, want %q", i, name, attributes[name], value)
					}
				}
				if try.Status.GetMessage() != want.phase {
					t.Errorf("try %d: status %v, want %q", i, try.Status, want.phase)
				}
				steps := below(spans, try)
				if diff := cmp.Diff(want.steps, names(steps)); diff != "" {
					t.Errorf("try %d: steps (-want +got): %s", i, diff)
				}
				if diff := cmp.Diff(want.dial, names(below(spans, spansNamed(steps, "connect")[0]))); diff != "" {
					t.Errorf("try %d: steps of the dial (-want +got): %s", i, diff)
				}
			}
			if line := p.line("settled", id); line["trace_id"] != traceID || line["span_id"] != hex.EncodeToString(tries[0].SpanId) {
				t.Errorf("the log line has trace %v, span %v", line["trace_id"], line["span_id"])
			}
			if n := strings.Count(p.log.String(), `"action_id":"`+id); n != 2 {
				t.Errorf("%d log lines of two tries, want one each:\n%s", n, p.log.String())
			}
			if got := c.resourceOf("service.name"); got != "worklist-relay" {
				t.Errorf("service.name is %q", got)
			}
			s.until("metrics came", func() bool { return c.has("worklist.actions") && c.has("worklist.phase.duration") })
		})
	}
}

// What is no traceparent is none: the next that is one counts, and without any
// the trace begins here.
func TestTraceparents(t *testing.T) {
	t.Parallel()
	s := newScene(t, "sqlite")
	c := s.export(t, "grpc")
	s.start()
	for _, test := range []struct {
		name       string
		properties map[string]any
		parent     string // "": none
	}{
		{"Diagnostic-Id alone", map[string]any{"Diagnostic-Id": parent}, spanID},
		{"no string", map[string]any{"traceparent": int64(7), "Diagnostic-Id": parent}, spanID},
		{"bytes", map[string]any{"traceparent": []byte(parent)}, ""},
		{"no form", map[string]any{"traceparent": leaktest.Name, "tracestate": true}, ""},
		{"zeros", map[string]any{"traceparent": "00-" + strings.Repeat("0", 32) + "-" + spanID + "-01", "Diagnostic-Id": "|4bf92f.1."}, ""},
		{"none", nil, ""},
	} {
		id := s.enqueueWith("leeds", test.properties)
		var try *otlptrace.Span
		s.until(test.name+": its span came", func() bool {
			for _, span := range c.all() {
				if texts(span.Attributes)["worklist.action.id"] == id {
					try = span
				}
			}
			return try != nil
		})
		if got := hex.EncodeToString(try.ParentSpanId); got != test.parent {
			t.Errorf("%s: the parent is %q, want %q", test.name, got, test.parent)
		}
		if in := hex.EncodeToString(try.TraceId) == traceID; in != (test.parent != "") {
			t.Errorf("%s: the trace is %x", test.name, try.TraceId)
		}
	}
}

// Without an exporter nothing is exported, and the log names the producer's trace
// all the same.
func TestTraceInLogAlone(t *testing.T) {
	t.Parallel()
	s := newScene(t, "sqlite")
	p := s.start()
	id := s.enqueueWith("leeds", map[string]any{"traceparent": parent})
	s.confirmed(id, false)
	s.until("it is logged", func() bool { return p.line("settled", id) != nil })
	if line := p.line("settled", id); line["trace_id"] != traceID || line["span_id"] != spanID {
		t.Errorf("the log line has trace %v, span %v, want the producer's", line["trace_id"], line["span_id"])
	}
	other := s.enqueue("leeds")
	s.until("it is logged", func() bool { return p.line("settled", other) != nil })
	if line := p.line("settled", other); line["trace_id"] != nil {
		t.Errorf("a trace from nowhere: %v", line)
	}
}

// The README tells the keys of the line that each delivery ends with.
func TestReadmeLogLine(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n| key | meaning |\n")
	section, _, _ = strings.Cut(section, "\n\n")
	var told []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*`) \\| ").FindAllStringSubmatch(section, -1) {
		told = append(told, strings.Split(strings.ReplaceAll(row[1], "`", ""), ", ")...)
	}
	s := newScene(t, "sqlite")
	p := s.start()
	id := s.enqueueWith("leeds", map[string]any{"traceparent": parent})
	s.until("it is logged", func() bool { return p.line("settled", id) != nil })
	slices.Sort(told)
	if diff := cmp.Diff(told, slices.Sorted(maps.Keys(p.line("settled", id)))); diff != "" {
		t.Errorf("README (-) and log line (+) differ:\n%s", diff)
	}
}

// A collector that is away, or that takes connections and never answers, costs
// no action anything, nor the end of the program.
func TestCollectorAway(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	var kept []net.Conn
	accepting.Go(func() {
		for {
			conn, err := silent.Accept()
			if err != nil {
				return
			}
			kept = append(kept, conn)
		}
	})
	t.Cleanup(func() {
		silent.Close()
		accepting.Wait()
		for _, conn := range kept {
			conn.Close()
		}
	})
	for name, addr := range map[string]string{"away": freeAddr(t), "silent": silent.Addr().String()} {
		for _, protocol := range []string{"grpc", "http/protobuf"} {
			t.Run(name+"/"+protocol, func(t *testing.T) {
				t.Parallel()
				s := newScene(t, "sqlite")
				s.exportTo("http://"+addr, protocol)
				s.env["OTEL_EXPORTER_OTLP_TIMEOUT"] = "100"
				p := s.start()
				for range 20 {
					s.enqueueWith("leeds", map[string]any{"traceparent": parent})
				}
				s.until("all are confirmed", func() bool {
					counts, err := s.store.Counts(context.Background())
					s.must(err)
					return counts[store.Confirmed] == 20
				})
				p.signal(syscall.SIGTERM)
				p.exits(0)
				if n := strings.Count(p.log.String(), "telemetry not exported"); n < 1 || n > 4 {
					t.Errorf("%d lines of telemetry that was not exported, want one of each kind", n)
				}
			})
		}
	}
}

// A scrape has what the README says, and is answered while the database says
// nothing at all: then what SQL knows is absent.
func TestMetricsPage(t *testing.T) {
	t.Parallel()
	s := newScene(t, "postgres")
	s.env["HTTP_ADDR"], s.env["RECONCILE_INTERVAL"] = freeAddr(t), "1s"
	s.env["OTEL_SERVICE_NAME"], s.env["OTEL_RESOURCE_ATTRIBUTES"] = "relay-of-a-test", "deployment.environment.name=test"
	s.start()
	id := s.enqueueWith("leeds", map[string]any{"traceparent": parent})
	s.confirmed(id, false)
	gateway := s.toRelay.addr() + "/leeds"
	var page string
	s.until("the page tells of it", func() bool {
		page = s.page()
		return strings.Contains(page, `worklist_actions_total{gateway="`+gateway+`",outcome="confirmed",phase="",reason=""} 1`) &&
			strings.Contains(page, `worklist_waiting{gateway="`+gateway+`"} 0`) && strings.Contains(page, "worklist_stranded 0\n") // a reconcile ended
	})
	for _, want := range []string{
		`worklist_dependency_up{dependency="database"} 1`, `worklist_dependency_up{dependency="service_bus"} 1`, "worklist_in_flight 0",
		`worklist_enqueue_to_ack_seconds_bucket{gateway="` + gateway + `",le="86400"} 1`, `worklist_phase_duration_seconds_bucket{phase="ack",le="60"} 1`,
		"worklist_panics_total 0", "go_goroutines ", "process_open_fds ", `service_name="relay-of-a-test"`, `deployment_environment_name="test"`,
		`messaging_client_consumed_messages_total{messaging_destination_name="` + queue + `",messaging_operation_name="receive",messaging_system="servicebus"} 1`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	for _, never := range []string{id, traceID, "SYN" + id[:8], "otel_scope_name"} {
		if strings.Contains(page, never) {
			t.Errorf("the page holds %s", never)
		}
	}
	leaktest.Check(t, "the page", page)

	s.toDatabase.holdBy(everything)
	s.until("it no longer tells of what SQL knew", func() bool { return !strings.Contains(s.page(), "worklist_waiting{") })
	page = s.page()
	for _, absent := range []string{"worklist_waiting{", "worklist_oldest_waiting_age_seconds{", "worklist_breaker_open{", "worklist_gateway_held{"} {
		if strings.Contains(page, absent) {
			t.Errorf("the page still tells %s of a database that is silent", absent)
		}
	}
	if !strings.Contains(page, `worklist_dependency_up{dependency="database"} 0`) || !strings.Contains(page, "worklist_actions_total{") {
		t.Errorf("the page of a program without a database:\n%s", page)
	}
	s.toDatabase.letGo()
}

// What is not exported yet is when the program ends. No room is kept for exemplars,
// whoever asks for them: it would be kept for each gateway.
func TestTelemetryFlushed(t *testing.T) {
	t.Parallel()
	s := newScene(t, "sqlite")
	c := s.export(t, "grpc")
	s.env["OTEL_BSP_SCHEDULE_DELAY"], s.env["OTEL_METRIC_EXPORT_INTERVAL"] = "600000", "600000"
	s.env["OTEL_METRICS_EXEMPLAR_FILTER"], s.env[service.PatientVariable] = "always_on", "1"
	p := s.start()
	s.confirmed(s.enqueueWith("leeds", map[string]any{"traceparent": parent}), false)
	p.signal(syscall.SIGTERM)
	p.exits(0)
	if len(c.of(traceID)) == 0 || !c.has("worklist.actions") {
		t.Errorf("%d spans came, and metrics: %v", len(c.of(traceID)), c.has("worklist.actions"))
	}
	if with := c.exemplars(); len(with) > 0 {
		t.Errorf("exemplars of %v", with)
	}
}

// With the SDK disabled there is nothing but the process's own.
func TestTelemetryDisabled(t *testing.T) {
	t.Parallel()
	s := newScene(t, "sqlite")
	c := s.export(t, "grpc")
	s.env["HTTP_ADDR"], s.env["OTEL_SDK_DISABLED"] = freeAddr(t), "true"
	p := s.start()
	id := s.enqueueWith("leeds", map[string]any{"traceparent": parent})
	s.confirmed(id, false)
	if page := s.page(); strings.Contains(page, "worklist_") || !strings.Contains(page, "go_goroutines") {
		t.Errorf("the page:\n%s", page)
	}
	p.signal(syscall.SIGTERM)
	p.exits(0)
	if spans := c.all(); len(spans) > 0 || c.has("worklist.actions") {
		t.Errorf("%d spans came", len(spans))
	}
}

// export starts a collector that the program is to export to.
func (s *scene) export(t *testing.T, protocol string) *collector {
	t.Helper()
	c := startCollector(t, protocol)
	s.exportTo(c.url, protocol)
	t.Cleanup(func() {
		for _, span := range c.all() {
			leaktest.Check(t, "a span", fmt.Sprint(span))
		}
	})
	return c
}

func (s *scene) exportTo(url, protocol string) {
	s.env["OTEL_EXPORTER_OTLP_ENDPOINT"], s.env["OTEL_EXPORTER_OTLP_PROTOCOL"] = url, protocol
	s.env["OTEL_BSP_SCHEDULE_DELAY"], s.env["OTEL_METRIC_EXPORT_INTERVAL"] = "50", "200"
}

// enqueueWith is enqueue with application properties of the producer's.
func (s *scene) enqueueWith(provider string, properties map[string]any) string {
	s.t.Helper()
	id := uuid.NewString()
	body, err := json.Marshal(leaktest.Create(id, "SYN"+id[:8], time.Now().UTC().AddDate(0, 0, 1).Format("20060102")))
	s.must(err)
	m, err := consumer.Encode(provider, nil, body)
	s.must(err)
	for name, value := range properties {
		m.ApplicationProperties[name] = value
	}
	sender, err := s.client.NewSender(queue, nil)
	s.must(err)
	defer sender.Close(context.Background())
	s.must(sender.SendMessage(context.Background(), m, nil))
	return id
}

// page is what GET /metrics answers.
func (s *scene) page() string {
	s.t.Helper()
	return s.fetch("/metrics")
}

// fetch is the body of what HTTP_ADDR answers; "" while it does not.
func (s *scene) fetch(path string) string {
	s.t.Helper()
	client := http.Client{Timeout: service.Patience}
	response, err := client.Get("http://" + s.env["HTTP_ADDR"] + path)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	s.must(err)
	return string(body)
}

// line is the first line of the program's log with this message about the action.
func (p *program) line(message, action string) map[string]any {
	for text := range strings.Lines(p.log.String()) {
		var line map[string]any
		if json.Unmarshal([]byte(text), &line) == nil && line["msg"] == message && line["action_id"] == action {
			return line
		}
	}
	return nil
}

// of are the spans of one trace.
func (c *collector) of(trace string) []*otlptrace.Span {
	return slices.DeleteFunc(c.all(), func(s *otlptrace.Span) bool { return hex.EncodeToString(s.TraceId) != trace })
}

func (c *collector) has(metric string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, has := c.metrics[metric]
	return has
}

// exemplars are the names of the metrics that have some.
func (c *collector) exemplars() (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, with := range c.metrics {
		if with {
			names = append(names, name)
		}
	}
	return names
}

func (c *collector) resourceOf(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.resource[name]
}

// spansNamed are those of the spans with this name, and below those within one; in
// order of their beginning.
func spansNamed(spans []*otlptrace.Span, name string) []*otlptrace.Span {
	return inOrder(spans, func(s *otlptrace.Span) bool { return s.Name == name })
}

func below(spans []*otlptrace.Span, parent *otlptrace.Span) []*otlptrace.Span {
	return inOrder(spans, func(s *otlptrace.Span) bool { return string(s.ParentSpanId) == string(parent.SpanId) })
}

func inOrder(spans []*otlptrace.Span, which func(*otlptrace.Span) bool) (found []*otlptrace.Span) {
	for _, s := range spans {
		if which(s) {
			found = append(found, s)
		}
	}
	slices.SortStableFunc(found, func(a, b *otlptrace.Span) int { return int(int64(a.StartTimeUnixNano) - int64(b.StartTimeUnixNano)) })
	return found
}

func names(spans []*otlptrace.Span) string {
	var list []string
	for _, s := range spans {
		list = append(list, s.Name)
	}
	return strings.Join(list, ", ")
}
