package consumer

import (
	"context"
	"errors"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/worklist-relay/worklist-relay/relay"
)

const (
	propertyTracestate   = "tracestate"    // string, W3C Trace Context; the producer's
	propertyDiagnosticID = "Diagnostic-Id" // string: the traceparent as Microsoft's SDKs set it
)

func tracerOf(p trace.TracerProvider) trace.Tracer {
	if p == nil {
		p = noop.NewTracerProvider()
	}
	return p.Tracer(scopeName)
}

// producersTrace is a context with the span in which the message was enqueued, if
// it says so. A scheduled copy says what the first message said, so all tries are
// of one trace.
func producersTrace(m *azservicebus.ReceivedMessage) context.Context {
	said := func(name string) string {
		text, _ := m.ApplicationProperties[name].(string) // whatever is no string is none
		return text
	}
	ctx := context.Background()
	if said(propertyTraceparent) == "" && said(propertyDiagnosticID) == "" {
		return ctx
	}
	for _, carrier := range []propagation.MapCarrier{
		{"traceparent": said(propertyTraceparent), "tracestate": said(propertyTracestate)},
		{"traceparent": said(propertyDiagnosticID)},
	} {
		from := propagation.TraceContext{}.Extract(ctx, carrier)
		if trace.SpanContextFromContext(from).IsValid() {
			return from
		}
	}
	return ctx
}

// startSpan begins the span of the whole delivery, and lets its log lines name
// the trace. A delivery without a trace has lines without one. Where nobody wants
// spans it is the producer's, which nothing is told.
func (d *delivery) startSpan() {
	t := &d.consumer.telemetry
	if ctx := producersTrace(d.message); d.consumer.Traces == nil {
		d.span = trace.SpanFromContext(ctx)
	} else {
		_, d.span = t.tracer.Start(ctx, "process "+d.consumer.Queue,
			trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(d.received),
			trace.WithAttributes(t.with("",
				attribute.String("messaging.operation.name", "process"), attribute.String("messaging.operation.type", "process"),
				attribute.Int64("messaging.servicebus.message.delivery_count", int64(d.message.DeliveryCount)),
				attribute.String("worklist.action.id", d.in.actionID), attribute.String("worklist.action.type", d.in.actionType),
				attribute.String("worklist.provider.id", d.in.providerID))...))
	}
	if at := d.span.SpanContext(); at.IsValid() {
		d.log = d.log.With("trace_id", at.TraceID().String(), "span_id", at.SpanID().String())
	}
}

func (d *delivery) endSpan(e end) {
	if !d.span.IsRecording() {
		return
	}
	d.span.SetAttributes(attribute.String("worklist.outcome", e.outcome), attribute.Int("worklist.attempt", d.ref.Attempt))
	for name, text := range map[string]string{"worklist.reason": e.reason, "worklist.phase": e.phase, "worklist.gateway": d.gateway} {
		if text != "" {
			d.span.SetAttributes(attribute.String(name, text))
		}
	}
	blame(d.span, e.fault())
	d.span.End()
}

// blame sets the status of a span on which something was wrong, in a word of a
// closed list.
func blame(span trace.Span, fault string) {
	if fault != "" {
		span.SetAttributes(attribute.String("error.type", fault))
		span.SetStatus(codes.Error, fault)
	}
}

// child begins a span within the delivery's. One that nobody records has none:
// what is told to the child is then told to nobody too.
func (d *delivery) child(name string, from time.Time) (context.Context, trace.Span) {
	if !d.span.IsRecording() {
		return context.Background(), d.span
	}
	ctx := trace.ContextWithSpan(context.Background(), d.span)
	return d.consumer.telemetry.tracer.Start(ctx, name, trace.WithTimestamp(from))
}

// step begins one of the delivery's steps. The function that it returns ends it.
func (d *delivery) step(name string) (end func(error)) {
	began := time.Now()
	_, span := d.child(name, began)
	return func(err error) {
		if err != nil {
			blame(span, name)
		}
		d.consumer.telemetry.phase(name, time.Since(began))
		span.End()
	}
}

// claiming begins the question to SQL, which ends the receipt of the message.
func (d *delivery) claiming() (end func(error)) {
	asked := time.Now()
	return func(err error) {
		_, span := d.child("receive", d.received)
		if err != nil {
			blame(span, "claim")
		}
		d.consumer.telemetry.phase("claim", time.Since(asked))
		span.End()
	}
}

// connecting begins the way to a connection. Each step of a dial is a span of
// its own; a connection that was open has none.
func (d *delivery) connecting() (end func(*relay.Conn, error)) {
	ctx, span := d.child("connect", time.Now())
	return func(conn *relay.Conn, err error) {
		took := failedTimings(err)
		if err == nil {
			took = conn.Timings()
		}
		d.dialled(ctx, took, time.Now())
		blame(span, phaseOf(err, relay.PhaseConnect))
		span.SetAttributes(attribute.Bool("worklist.connection.reused", took.Reused))
		span.End()
	}
}

// exchanging begins the exchange on a connection. One that was reused may be
// found ended, and is dialled anew within it.
func (d *delivery) exchanging(conn *relay.Conn) (end func(relay.Ack, error)) {
	ctx, span := d.child("exchange", time.Now())
	reused := conn.Timings().Reused
	return func(ack relay.Ack, err error) {
		if took := conn.Timings(); reused && !took.Reused {
			d.dialled(ctx, took, time.Now().Add(-took.Ack))
		}
		blame(span, phaseOf(err, relay.PhaseAckLost))
		if err == nil && ack.Kind != relay.AckDone && ack.Kind != relay.AckExists {
			blame(span, string(relay.PhaseAckError))
		}
		span.End()
	}
}

// dialled makes spans of the steps of a dial that ended then: they follow each
// other up to its end.
func (d *delivery) dialled(ctx context.Context, took relay.Timings, ended time.Time) {
	if !d.span.IsRecording() {
		return
	}
	steps := stepsOf(took)
	for _, step := range steps {
		ended = ended.Add(-step.took)
	}
	for _, step := range steps {
		_, span := d.consumer.telemetry.tracer.Start(ctx, step.name, trace.WithTimestamp(ended))
		ended = ended.Add(step.took)
		span.End(trace.WithTimestamp(ended))
	}
}

type dialStep struct {
	name string
	took time.Duration
}

// stepsOf lists the steps that a dial took, in their order.
func stepsOf(t relay.Timings) (steps []dialStep) {
	for _, step := range []dialStep{{"dns", t.DNS}, {"connect", t.Connect}, {"tls", t.TLS}, {"handshake", t.Handshake}} {
		if step.took > 0 {
			steps = append(steps, step)
		}
	}
	return steps
}

// phaseOf is where the relay's client failed; "" for no error.
func phaseOf(err error, otherwise relay.Phase) string {
	if err == nil {
		return ""
	}
	if failure, ok := errors.AsType[*relay.Error](err); ok && failure.Phase != "" {
		return string(failure.Phase)
	}
	return string(otherwise)
}
