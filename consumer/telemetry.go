package consumer

import (
	"context"
	"errors"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

// scopeName names this package as the source of metrics and spans.
const scopeName = "github.com/worklist-relay/worklist-relay/consumer"

// telemetry is what a Consumer measures with, and what it traces with. It is
// made by start; nothing of it is ever nil then.
type telemetry struct {
	instruments
	tracer trace.Tracer
	queue  []attribute.KeyValue // what every metric and span of the queue says
	labels labels
}

// start makes the instruments, and has values from SQL read and reported until
// stop is called, which waits for it.
func (t *telemetry) start(ctx context.Context, c *Consumer) (stop func(), err error) {
	t.tracer = tracerOf(c.Traces)
	t.queue = []attribute.KeyValue{attribute.String("messaging.system", "servicebus"), attribute.String("messaging.destination.name", c.Queue)}
	m := maker{meter: meterOf(c.Metrics)}
	t.instruments = m.instruments()
	if m.err != nil || c.Metrics == nil {
		return func() {}, m.err
	}
	t.inFlight.Add(ctx, 0) // a series that is there from the start shows its first rise
	t.locksLost.Add(ctx, 0)
	reader := standingReader{consumer: c}
	reporting, err := m.report(&reader)
	if err != nil {
		return nil, err
	}
	stopReading := reader.start(context.WithoutCancel(ctx)) // it goes on while actions are in hand
	return func() {
		stopReading()
		_ = reporting.Unregister() // fails for a registration of another provider only
	}, nil
}

func meterOf(p metric.MeterProvider) metric.Meter {
	if p == nil {
		p = noop.NewMeterProvider()
	}
	return p.Meter(scopeName)
}

// watch is what is measured of one delivery. Its span is never nil once watched
// was called.
type watch struct {
	received time.Time // by the machine's clock, whatever the Consumer's says
	span     trace.Span
	settled  *outcome // as which its message was settled; nil: it was not
}

// watched counts the delivery as in hand and begins its span; end tells how it
// ended.
func (d *delivery) watched() (end func()) {
	ctx, t := context.Background(), &d.consumer.telemetry
	t.inFlight.Add(ctx, 1)
	d.startSpan()
	return func() {
		e := d.ended()
		t.actions.Add(ctx, 1, t.labels.of(series{"ended", d.gateway, e.outcome, e.reason, e.phase}, func() []attribute.KeyValue {
			return []attribute.KeyValue{d.gatewayAttribute(),
				attribute.String("outcome", e.outcome), attribute.String("reason", e.reason), attribute.String("phase", e.phase)}
		}))
		t.processed.Record(ctx, time.Since(d.received).Seconds(), t.labels.of(series{"processed", e.fault()}, func() []attribute.KeyValue {
			return t.with(e.fault())
		}))
		if d.lost {
			t.locksLost.Add(ctx, 1)
		}
		d.endSpan(e)
		t.inFlight.Add(ctx, -1)
	}
}

// end is how a delivery ended, in words of closed lists.
type end struct{ outcome, reason, phase string }

// fault is what was wrong; "" where nothing was.
func (e end) fault() string {
	switch {
	case e.outcome == "confirmed" || e.outcome == "postponed":
		return ""
	case e.phase != "":
		return e.phase
	case e.reason != "":
		return e.reason
	}
	return e.outcome
}

func (d *delivery) ended() end {
	o := d.settled
	if o == nil {
		return end{outcome: "left"}
	}
	e := end{"failed", reasonLabel(o.reason), string(o.phase)}
	switch {
	case o.settlement == store.Retry:
		e.outcome = "retried"
	case o.settlement == store.Postpone:
		e.outcome = "postponed"
	case o.status == store.Confirmed:
		e.outcome = "confirmed"
	}
	return e
}

// reasonLabel keeps the list closed: of a dead letter that was made elsewhere the
// reason may be any text.
func reasonLabel(r Reason) string {
	switch r {
	case "", maxDeliveries, timeToLive, store.Withdrawn, store.Resolved:
		return string(r)
	}
	for _, known := range Reasons() {
		if r == known {
			return string(r)
		}
	}
	return "other"
}

// The broker's own reasons.
const (
	maxDeliveries Reason = "MaxDeliveryCountExceeded"
	timeToLive    Reason = "TTLExpiredException"
)

// noGateway stands for the gateway of an action that has no relay, or whose
// relay was not looked up.
const noGateway = "none"

func (d *delivery) gatewayAttribute() attribute.KeyValue { return gatewayAttribute(d.gateway) }

func gatewayAttribute(name string) attribute.KeyValue {
	if name == "" {
		name = noGateway
	}
	return attribute.String("gateway", name)
}

// measure takes account of a try at the gateway: what the relay's steps took, and
// what came of it.
func (d *delivery) measure(o outcome, took relay.Timings) {
	ctx, t := context.Background(), &d.consumer.telemetry
	for _, step := range stepsOf(took) {
		t.phase(step.name, step.took)
	}
	if took.Ack > 0 {
		t.phase("ack", took.Ack)
	}
	if !o.attempted {
		return
	}
	t.attempts.Add(ctx, 1, t.labels.of(series{"tried", d.gateway, string(o.phase), string(o.sent)}, func() []attribute.KeyValue {
		return []attribute.KeyValue{d.gatewayAttribute(), attribute.String("phase", string(o.phase)), attribute.String("sent", string(o.sent))}
	}))
	if o.status == store.Confirmed && !d.in.enqueued.IsZero() {
		waited := max(0, d.consumer.now().Sub(d.in.enqueued))
		t.enqueueToAck.Record(ctx, waited.Seconds(), t.labels.of(series{"gateway", d.gateway}, func() []attribute.KeyValue {
			return []attribute.KeyValue{d.gatewayAttribute()}
		}))
	}
}

func (t *telemetry) phase(name string, took time.Duration) {
	t.phases.Record(context.Background(), took.Seconds(), t.labels.of(series{"phase", name}, func() []attribute.KeyValue {
		return []attribute.KeyValue{attribute.String("phase", name)}
	}))
}

// with is what every metric of the queue says, and the fault, if there is one.
func (t *telemetry) with(fault string, more ...attribute.KeyValue) []attribute.KeyValue {
	attributes := append(append([]attribute.KeyValue{}, t.queue...), more...)
	if fault != "" {
		attributes = append(attributes, attribute.String("error.type", fault))
	}
	return attributes
}

// operation takes account of one call to the broker that began then. Sending is
// counted too.
func (t *telemetry) operation(name, queue string, began time.Time, err error) {
	ctx, fault := context.Background(), brokerFault(err)
	attributes := t.labels.of(series{"operation", name, queue, fault}, func() []attribute.KeyValue {
		return t.with(fault, attribute.String("messaging.operation.name", name), attribute.String("messaging.destination.name", queue))
	})
	t.operations.Record(ctx, time.Since(began).Seconds(), attributes)
	if name == "send" || name == "schedule" {
		t.sent.Add(ctx, 1, attributes)
	}
}

// received counts messages that came, or that came and could not be read.
func (t *telemetry) received(n int, fault string) {
	t.consumed.Add(context.Background(), int64(n), t.labels.of(series{"received", fault}, func() []attribute.KeyValue {
		return t.with(fault, attribute.String("messaging.operation.name", "receive"))
	}))
}

// brokerFault is the kind of an error of the SDK; "" for none.
func brokerFault(err error) string {
	failure, _ := errors.AsType[*azservicebus.Error](err)
	switch {
	case err == nil:
		return ""
	case failure != nil:
		return string(failure.Code)
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return "_OTHER"
}

// timed is from, whose calls are measured.
func (c *Consumer) timed(from settler) settler { return timed{from, &c.telemetry, c.Queue} }

// timed takes the time of a settler's calls.
type timed struct {
	settler
	telemetry *telemetry
	queue     string
}

func (s timed) CompleteMessage(ctx context.Context, m *azservicebus.ReceivedMessage, how *azservicebus.CompleteMessageOptions) (err error) {
	defer s.operation("complete", time.Now(), &err)
	return s.settler.CompleteMessage(ctx, m, how)
}

func (s timed) AbandonMessage(ctx context.Context, m *azservicebus.ReceivedMessage, how *azservicebus.AbandonMessageOptions) (err error) {
	defer s.operation("abandon", time.Now(), &err)
	return s.settler.AbandonMessage(ctx, m, how)
}

func (s timed) DeadLetterMessage(ctx context.Context, m *azservicebus.ReceivedMessage, how *azservicebus.DeadLetterOptions) (err error) {
	defer s.operation("dead_letter", time.Now(), &err)
	return s.settler.DeadLetterMessage(ctx, m, how)
}

func (s timed) operation(name string, began time.Time, err *error) {
	s.telemetry.operation(name, s.queue, began, *err)
}
