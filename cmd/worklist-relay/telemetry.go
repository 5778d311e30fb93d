package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// mostSeries bounds the series of one metric, per process: a gateway has some
// dozens where everything goes wrong there.
const mostSeries = 20_000

// telemetry is where metrics and spans of `run` go: metrics to whoever asks
// for page, and both to where the OTEL_* variables say.
type telemetry struct {
	metrics metric.MeterProvider // nil: nobody wants them
	traces  trace.TracerProvider // nil: nobody wants them
	page    http.Handler         // GET /metrics

	ending []func(context.Context) error
}

// startTelemetry reads the OTEL_* variables; every fault of theirs is in one
// error. It dials nothing: an exporter connects when it has something to tell.
func startTelemetry(log *slog.Logger) (*telemetry, error) {
	if err := configurationFault(otelFaults(os.Getenv)); err != nil {
		return nil, err
	}
	otel.SetErrorHandler(&otelErrors{log: log})
	otel.SetLogger(logr.Discard()) // it would repeat the values of variables, which may be secrets
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	t := &telemetry{page: promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	})}
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return t, nil
	}
	ctx := context.Background()
	source, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(
			attribute.String("service.name", "worklist-relay"), attribute.String("service.version", programVersion()),
			attribute.String("service.instance.id", uuid.NewString()),
		),
		resource.WithFromEnv(), // the last one wins
	)
	if err != nil {
		return nil, failure{exitConfig, fmt.Errorf("configuration: OTEL_RESOURCE_ATTRIBUTES: %w", err)}
	}
	if err := errors.Join(t.startMetrics(ctx, source, registry), t.startTraces(ctx, source)); err != nil {
		t.stop()
		return nil, failure{exitConfig, fmt.Errorf("configuration: OTEL_EXPORTER_OTLP_*: %w", err)}
	}
	return t, nil
}

func (t *telemetry) startMetrics(ctx context.Context, source *resource.Resource, registry *prometheus.Registry) error {
	page, err := otelprometheus.New(
		otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo(),
		otelprometheus.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes),
	)
	if err != nil {
		return err
	}
	options := []sdkmetric.Option{
		sdkmetric.WithResource(source), sdkmetric.WithReader(page), sdkmetric.WithCardinalityLimit(mostSeries),
		// Nothing is measured within a span that an exemplar could name, and the room
		// for them would be half of what a gateway costs.
		sdkmetric.WithExemplarFilter(exemplar.AlwaysOffFilter),
	}
	if exports("METRICS") {
		var exporter sdkmetric.Exporter
		if protocol("METRICS") == "grpc" {
			exporter, err = otlpmetricgrpc.New(ctx)
		} else {
			exporter, err = otlpmetrichttp.New(ctx)
		}
		if err != nil {
			return err
		}
		options = append(options, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)))
	}
	provider := sdkmetric.NewMeterProvider(options...)
	t.metrics, t.ending = provider, append(t.ending, provider.Shutdown)
	return nil
}

func (t *telemetry) startTraces(ctx context.Context, source *resource.Resource) (err error) {
	if !exports("TRACES") {
		return nil
	}
	var exporter sdktrace.SpanExporter
	if protocol("TRACES") == "grpc" {
		exporter, err = otlptracegrpc.New(ctx)
	} else {
		exporter, err = otlptracehttp.New(ctx)
	}
	if err != nil {
		return err
	}
	// The sampler is that of the environment; a full queue drops spans and holds up nobody.
	provider := sdktrace.NewTracerProvider(sdktrace.WithResource(source), sdktrace.WithBatcher(exporter))
	t.traces, t.ending = provider, append(t.ending, provider.Shutdown)
	return nil
}

// stop exports what has not been yet, as far as that succeeds within the time for it.
func (t *telemetry) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), usual.flush)
	defer cancel()
	var flushing sync.WaitGroup
	for _, end := range t.ending {
		flushing.Go(func() {
			if err := end(ctx); err != nil {
				otel.Handle(err)
			}
		})
	}
	flushing.Wait()
}

// exports reports whether a signal is exported: where its exporter is named, or
// an endpoint is. Unlike the specification's, the default is not this machine.
func exports(signal string) bool {
	switch os.Getenv("OTEL_" + signal + "_EXPORTER") {
	case "otlp":
		return true
	case "":
		return cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")) != ""
	}
	return false
}

func protocol(signal string) string {
	return cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf")
}

// otelErrors logs what goes wrong in telemetry itself, each kind once a minute:
// it is no reason to fill the log of the service.
type otelErrors struct {
	log *slog.Logger

	mu   sync.Mutex // guards told
	told map[string]time.Time
}

// mostKinds bounds the memory; past it, it starts anew.
const mostKinds = 100

// Handle makes it an [otel.ErrorHandler].
func (e *otelErrors) Handle(err error) {
	kind, _, _ := strings.Cut(err.Error(), ":")
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if last, known := e.told[kind]; known && now.Sub(last) < time.Minute {
		return
	}
	if e.told == nil || len(e.told) >= mostKinds {
		e.told = map[string]time.Time{}
	}
	e.told[kind] = now
	e.log.Warn("telemetry not exported, actions are not affected", "error", err)
}
