package main_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlptrace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// collector takes spans and metrics by OTLP, over gRPC or HTTP, on loopback.
type collector struct {
	collectortrace.UnimplementedTraceServiceServer
	url string

	mu       sync.Mutex // guards what follows
	spans    []*otlptrace.Span
	resource map[string]string // of the latest request
	metrics  map[string]bool   // names; true: with exemplars
	headers  http.Header       // of the latest request over HTTP
}

// startCollector starts one that speaks "grpc" or "http/protobuf".
func startCollector(t *testing.T, protocol string) *collector {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{url: "http://" + listener.Addr().String(), metrics: map[string]bool{}}
	var serving sync.WaitGroup
	if protocol == "grpc" {
		server := grpc.NewServer()
		collectortrace.RegisterTraceServiceServer(server, c)
		collectormetrics.RegisterMetricsServiceServer(server, collectorOfMetrics{c: c})
		serving.Go(func() { _ = server.Serve(listener) }) // ends by Stop
		t.Cleanup(func() { server.Stop(); serving.Wait() })
		return c
	}
	server := &http.Server{Handler: c}
	serving.Go(func() { _ = server.Serve(listener) }) // ends by Close
	t.Cleanup(func() { server.Close(); serving.Wait() })
	return c
}

// Export takes spans over gRPC.
func (c *collector) Export(_ context.Context, r *collectortrace.ExportTraceServiceRequest) (*collectortrace.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range r.ResourceSpans {
		c.resource = texts(of.Resource.Attributes)
		for _, scope := range of.ScopeSpans {
			c.spans = append(c.spans, scope.Spans...)
		}
	}
	return &collectortrace.ExportTraceServiceResponse{}, nil
}

// collectorOfMetrics is the collector's other half: both methods have one name.
type collectorOfMetrics struct {
	collectormetrics.UnimplementedMetricsServiceServer
	c *collector
}

func (m collectorOfMetrics) Export(_ context.Context, r *collectormetrics.ExportMetricsServiceRequest) (*collectormetrics.ExportMetricsServiceResponse, error) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	for _, of := range r.ResourceMetrics {
		for _, scope := range of.ScopeMetrics {
			for _, metric := range scope.Metrics {
				m.c.metrics[metric.Name] = m.c.metrics[metric.Name] || strings.Contains(metric.String(), "exemplars:")
			}
		}
	}
	return &collectormetrics.ExportMetricsServiceResponse{}, nil
}

// ServeHTTP takes both over HTTP.
func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var answer proto.Message
	switch r.URL.Path {
	case "/v1/traces":
		var request collectortrace.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &request)
		}
		answer, _ = c.Export(r.Context(), &request)
	case "/v1/metrics":
		var request collectormetrics.ExportMetricsServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &request)
		}
		answer, _ = collectorOfMetrics{c: c}.Export(r.Context(), &request)
	default:
		err = fmt.Errorf("no such path: %s", r.URL.Path)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	c.headers = r.Header.Clone()
	c.mu.Unlock()
	out, _ := proto.Marshal(answer) // of an empty message
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(out)
}

// texts are attributes by name, as text.
func texts(attributes []*common.KeyValue) map[string]string {
	all := map[string]string{}
	for _, a := range attributes {
		switch v := a.Value.Value.(type) {
		case *common.AnyValue_StringValue:
			all[a.Key] = v.StringValue
		default:
			all[a.Key] = fmt.Sprint(a.Value)
		}
	}
	return all
}

// trace is the spans that came of one trace, in order of their beginning.
func (c *collector) all() []*otlptrace.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*otlptrace.Span{}, c.spans...)
}
