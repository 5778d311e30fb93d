package consumer_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/otlptranslator"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
)

// recorder keeps what a consumer tells of itself, with the SDK that production
// has.
type recorder struct {
	t        testing.TB
	registry *prometheus.Registry
	meters   *sdkmetric.MeterProvider
	tracers  *sdktrace.TracerProvider
	spans    *tracetest.InMemoryExporter
	holds    *holds
}

func newRecorder(t testing.TB) *recorder {
	t.Helper()
	r := &recorder{t: t, registry: prometheus.NewRegistry(), spans: tracetest.NewInMemoryExporter(), holds: &holds{}}
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(r.registry), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo(),
		otelprometheus.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes))
	if err != nil {
		t.Fatal(err)
	}
	r.meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
	r.tracers = sdktrace.NewTracerProvider(sdktrace.WithSyncer(r.spans), sdktrace.WithSpanProcessor(r.holds))
	return r
}

// families is all that a scrape would get.
func (r *recorder) families() []*dto.MetricFamily {
	r.t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	return families
}

// series is each metric's value by its name and labels, name{a="b",c="d"}, labels in
// order of the alphabet and none that is empty; of a histogram how often it was
// taken, as name_count.
func (r *recorder) series() map[string]float64 {
	r.t.Helper()
	series := map[string]float64{}
	for _, family := range r.families() {
		for _, m := range family.Metric {
			switch {
			case m.Histogram != nil:
				series[family.GetName()+"_count"+labels(m)] = float64(m.Histogram.GetSampleCount())
			case m.Counter != nil:
				series[family.GetName()+labels(m)] = m.Counter.GetValue()
			default:
				series[family.GetName()+labels(m)] = m.Gauge.GetValue()
			}
		}
	}
	return series
}

func labels(m *dto.Metric) string {
	var pairs []string
	for _, label := range m.Label {
		if label.GetValue() != "" {
			pairs = append(pairs, fmt.Sprintf("%s=%q", label.GetName(), label.GetValue()))
		}
	}
	if len(pairs) == 0 {
		return ""
	}
	slices.Sort(pairs)
	return "{" + strings.Join(pairs, ",") + "}"
}

// ended are the spans that ended, in that order.
func (r *recorder) ended() tracetest.SpanStubs { return r.spans.GetSpans() }

// holds stops a delivery where one of its spans ends, so that a test can do something
// just there.
type holds struct {
	next atomic.Pointer[hold] // nil: none is stopped
}

type hold struct {
	span          string
	reached, over chan struct{} // closed
}

// OnStart, like the others, makes a [sdktrace.SpanProcessor] of it.
func (*holds) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (*holds) Shutdown(context.Context) error                  { return nil }
func (*holds) ForceFlush(context.Context) error                { return nil }

// OnEnd returns at once but for the first span that is to be stopped at.
func (all *holds) OnEnd(s sdktrace.ReadOnlySpan) {
	if h := all.next.Load(); h != nil && s.Name() == h.span && all.next.CompareAndSwap(h, nil) {
		close(h.reached)
		<-h.over
	}
}

// stopAfter has the next delivery of the world's consumer that comes to the end of
// a step stop there: after "exchange" the ack is read and nothing recorded, after
// "record" nothing is settled. reached waits for that, goOn ends it.
func (w *world) stopAfter(step string) (reached, goOn func()) {
	w.t.Helper()
	h := &hold{span: step, reached: make(chan struct{}), over: make(chan struct{})}
	w.told.holds.next.Store(h)
	goOn = sync.OnceFunc(func() {
		w.told.holds.next.CompareAndSwap(h, nil)
		close(h.over)
	})
	w.t.Cleanup(goOn)
	return func() {
		w.t.Helper()
		suite.Receive(w.t, "a delivery comes to the end of "+step, h.reached)
	}, goOn
}

// noLeaks looks for canaries in all of it.
func (r *recorder) noLeaks() {
	r.t.Helper()
	leaktest.Check(r.t, "a metric", fmt.Sprint(r.families()))
	for _, span := range r.ended() {
		leaktest.Check(r.t, "span "+span.Name, fmt.Sprint(span.Name, span.Status, span.Attributes, span.Events, span.Links, span.Resource))
	}
}

// sorted are the names of series, in order.
func sorted(series map[string]float64) []string { return slices.Sorted(maps.Keys(series)) }
