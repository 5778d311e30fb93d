package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestOtelFaults(t *testing.T) {
	t.Parallel()
	const secret = "SYNTHETIC-SECRET"
	wrong := map[string]string{
		"OTEL_SDK_DISABLED": "yes", "OTEL_TRACES_EXPORTER": "jaeger", "OTEL_METRICS_EXPORTER": "console",
		"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://%" + secret,
		"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json", "OTEL_EXPORTER_OTLP_HEADERS": "authorization:" + secret, "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "a=%zz" + secret,
		"OTEL_EXPORTER_OTLP_COMPRESSION": "zip", "OTEL_EXPORTER_OTLP_TIMEOUT": "10s", "OTEL_EXPORTER_OTLP_INSECURE": "1", "OTEL_EXPORTER_OTLP_CERTIFICATE": "testdata/none.pem",
		"OTEL_TRACES_SAMPLER": "sometimes", "OTEL_TRACES_SAMPLER_ARG": "1.5", "OTEL_RESOURCE_ATTRIBUTES": "site", "OTEL_METRIC_EXPORT_INTERVAL": "0",
		"OTEL_BSP_MAX_QUEUE_SIZE": "-1",
	}
	faults := otelFaults(func(name string) string { return wrong[name] })
	if len(faults) != len(wrong) {
		t.Errorf("%d faults of %d", len(faults), len(wrong))
	}
	for name := range wrong {
		if !slices.ContainsFunc(faults, func(f string) bool { return strings.HasPrefix(f, name+" is not ") }) {
			t.Errorf("no fault of %s", name)
		}
	}
	if text := fmt.Sprint(faults); strings.Contains(text, secret) {
		t.Errorf("a value is repeated: %s", text)
	}
	right := map[string]string{
		"OTEL_SDK_DISABLED": "False", "OTEL_EXPORTER_OTLP_INSECURE": "TRUE", "OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317",
		"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_HEADERS": "a=b%20c,d=e", "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25",
		"OTEL_RESOURCE_ATTRIBUTES": "site=a, b=c",
	}
	if faults := otelFaults(func(name string) string { return right[name] }); len(faults) > 0 {
		t.Errorf("faults where there are none: %v", faults)
	}
}

// Where an endpoint is set, or an exporter named, there is an export; never to
// this machine of its own accord.
func TestExports(t *testing.T) {
	for _, test := range []struct {
		endpoint, ofTraces, exporter string
		want                         bool
	}{
		{"", "", "", false}, {"http://a", "", "", true}, {"", "http://a", "", true}, {"http://a", "", "none", false},
		{"", "", "otlp", true}, {"http://a", "", "prometheus", false},
	} {
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", test.endpoint)
		t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", test.ofTraces)
		t.Setenv("OTEL_TRACES_EXPORTER", test.exporter)
		if got := exports("TRACES"); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

// Each kind of fault of telemetry is logged once a minute.
func TestOtelErrors(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	e := otelErrors{log: slog.New(slog.NewTextHandler(&log, nil))}
	for i := range 10 {
		e.Handle(fmt.Errorf("traces export: try %d", i))
		e.Handle(fmt.Errorf("failed to upload metrics: try %d", i))
	}
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("%d lines of two kinds:\n%s", n, log.String())
	}
	for i := range 1000 {
		e.Handle(errors.New(strings.Repeat("x", i)))
	}
	if len(e.told) > mostKinds {
		t.Errorf("%d kinds are remembered", len(e.told))
	}
}

// The README tells of no OTEL_* variable that is not gone by.
func TestReadmeTelemetryVariables(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	known := []string{"OTEL_SERVICE_NAME"}
	for _, rule := range otelRules {
		known = append(known, rule.names...)
	}
	rows := regexp.MustCompile("(?m)^\\| `(OTEL_[A-Z_]+)` \\| ").FindAllStringSubmatch(string(readme), -1)
	if len(rows) < 10 {
		t.Errorf("the README has %d variables", len(rows))
	}
	for _, row := range rows {
		if !slices.Contains(known, row[1]) {
			t.Errorf("the README tells of %s", row[1])
		}
	}
}
