package consumer

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// instruments are the metrics that are taken as things happen. Their names in
// Prometheus have underscores for dots, the unit and, of counters, _total at the end.
type instruments struct {
	consumed, sent               metric.Int64Counter
	actions, attempts, locksLost metric.Int64Counter
	operations, processed        metric.Float64Histogram // seconds
	enqueueToAck, phases         metric.Float64Histogram // seconds
	inFlight                     metric.Int64UpDownCounter
}

// Bounds of histograms, in seconds, chosen for what each of them measures.
var (
	stepBounds   = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60}
	brokerBounds = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15}
	handBounds   = []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120}
	waitBounds   = []float64{0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 1800, 3600, 4 * 3600, 8 * 3600, 16 * 3600, 24 * 3600}
)

func (m *maker) instruments() instruments {
	return instruments{
		consumed:     m.counter("messaging.client.consumed.messages", "{message}", "Messages received"),
		sent:         m.counter("messaging.client.sent.messages", "{message}", "Scheduled copies and outcomes sent"),
		operations:   m.histogram("messaging.client.operation.duration", "Time of one settlement or sending", brokerBounds),
		processed:    m.histogram("messaging.process.duration", "Time that a message is in hand, from receipt to settlement", handBounds),
		actions:      m.counter("worklist.actions", "{delivery}", "Deliveries of actions, by how they ended"),
		attempts:     m.counter("worklist.attempts", "{attempt}", "Tries at the gateway"),
		enqueueToAck: m.histogram("worklist.enqueue_to_ack", "Time from the enqueueing of an action's first message to the ack that confirmed it", waitBounds),
		phases:       m.histogram("worklist.phase.duration", "Time of each phase of an attempt", stepBounds),
		inFlight:     m.upDown("worklist.in_flight", "{action}", "Actions in hand in this process"),
		locksLost:    m.counter("worklist.lock_renewals_lost", "{lock}", "Locks lost while an action was worked on"),
	}
}

// maker makes instruments, and keeps the first error.
type maker struct {
	meter metric.Meter
	err   error
}

// keep is what was made; an error is remembered.
func keep[T any](m *maker, made T, err error) T {
	m.err = errors.Join(m.err, err)
	return made
}

func (m *maker) counter(name, unit, meaning string) metric.Int64Counter {
	made, err := m.meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(meaning))
	return keep(m, made, err)
}

func (m *maker) upDown(name, unit, meaning string) metric.Int64UpDownCounter {
	made, err := m.meter.Int64UpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(meaning))
	return keep(m, made, err)
}

func (m *maker) histogram(name, meaning string, bounds []float64) metric.Float64Histogram {
	made, err := m.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(meaning), metric.WithExplicitBucketBoundaries(bounds...))
	return keep(m, made, err)
}

func (m *maker) gauge(name, unit, meaning string) metric.Int64ObservableGauge {
	made, err := m.meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(meaning))
	return keep(m, made, err)
}

func (m *maker) total(name, unit, meaning string) metric.Int64ObservableCounter {
	made, err := m.meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(meaning))
	return keep(m, made, err)
}

func (m *maker) seconds(name, meaning string) metric.Float64ObservableGauge {
	made, err := m.meter.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(meaning))
	return keep(m, made, err)
}

// report registers the metrics that are looked up when somebody asks. Nothing
// is waited for then: what SQL knows was read before.
func (m *maker) report(from *standingReader) (metric.Registration, error) {
	var (
		waiting    = m.gauge("worklist.waiting", "{action}", "Actions that have not ended")
		retries    = m.gauge("worklist.retries_waiting", "{action}", "Actions that were tried and wait for their next try")
		oldest     = m.seconds("worklist.oldest_waiting_age", "Age of the oldest action that waits, but for those held until their day")
		open       = m.gauge("worklist.breaker_open", "", "1: the gateway cannot be reached, and its actions wait")
		held       = m.gauge("worklist.gateway_held", "", "1: the gateway is held back by an operator")
		life       = m.seconds("worklist.last_life_timestamp", "When the gateway last gave a sign of life, in Unix time")
		owed       = m.gauge("worklist.outcomes_owed", "{outcome}", "Outcomes that the outcome queue has yet to be told")
		up         = m.dependencyUp()
		panics     = m.total("worklist.panics", "{panic}", "Panics while handling a message")
		unreadable = m.total("worklist.unreadable_messages", "{message}", "Messages that could not be read")
	)
	if m.err != nil {
		return nil, m.err
	}
	c := from.consumer
	return m.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(panics, c.panics.Load())
		o.ObserveInt64(unreadable, c.unreadable.Load())
		o.ObserveInt64(up, flag(c.receiving.Load()), dependencyAttribute("service_bus"))
		now := from.last.Load()
		if now == nil {
			return nil // not asked yet
		}
		answers := now.err == nil && time.Since(now.at) < c.waits().StandingInterval+c.waits().StandingLimit
		o.ObserveInt64(up, flag(answers && !c.storeAway.Load()), dependencyAttribute("database"))
		if !answers {
			return nil
		}
		if c.OutcomeQueue != "" {
			o.ObserveInt64(owed, int64(now.owed))
		}
		for _, s := range now.standings {
			at := metric.WithAttributes(gatewayAttribute(s.Relay))
			o.ObserveInt64(waiting, int64(s.Waiting), at)
			o.ObserveInt64(retries, int64(s.Retries), at)
			o.ObserveFloat64(oldest, age(s, c.now()).Seconds(), at)
			if s.Relay == "" {
				continue
			}
			o.ObserveInt64(open, flag(s.OpenedAt != nil), at)
			o.ObserveInt64(held, flag(s.HeldAt != nil), at)
			if s.LastLifeAt != nil {
				o.ObserveFloat64(life, float64(s.LastLifeAt.UnixMicro())/1e6, at)
			}
		}
		return nil
	}, waiting, retries, oldest, open, held, life, owed, up, panics, unreadable)
}

func (m *maker) dependencyUp() metric.Int64ObservableGauge {
	return m.gauge("worklist.dependency_up", "", "1: the dependency answers")
}

func dependencyAttribute(name string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("dependency", name))
}

// ReportWaiting reports to p that the database does not answer, until stop is
// called: of a process that waits for it and so has nothing to Run yet. nil
// reports nothing.
func ReportWaiting(p metric.MeterProvider) (stop func(), err error) {
	m := maker{meter: meterOf(p)}
	up := m.dependencyUp()
	if m.err != nil {
		return nil, m.err
	}
	reporting, err := m.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(up, 0, dependencyAttribute("database"))
		return nil
	}, up)
	if err != nil {
		return nil, err
	}
	return func() { _ = reporting.Unregister() }, nil // fails for a registration of another provider only
}

// reconcileMeasures are the metrics of a Reconciler.
type reconcileMeasures struct {
	once sync.Once // guards the making of what follows
	err  error

	reconciled            metric.Int64Counter
	deadLetters, stranded metric.Int64Gauge
}

func (r *reconcileMeasures) start(p metric.MeterProvider) error {
	r.once.Do(func() {
		m := maker{meter: meterOf(p)}
		last := func(name, unit, meaning string) metric.Int64Gauge {
			made, err := m.meter.Int64Gauge(name, metric.WithUnit(unit), metric.WithDescription(meaning))
			return keep(&m, made, err)
		}
		r.reconciled = m.counter("worklist.dead_letters_reconciled", "{message}", "Dead letters of the broker's own whose action is failed since")
		r.deadLetters = last("worklist.dead_letters", "{message}", "Dead letters in the queue, when they were looked through last")
		r.stranded = last("worklist.stranded", "{action}", "Actions stranded, when they were looked for last")
		r.err = m.err
	})
	return r.err
}

func flag(set bool) int64 {
	if set {
		return 1
	}
	return 0
}
