package consumer

import (
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// series tells apart the sets of attributes that metrics have: what kind it is,
// and the values in it, which are of closed lists but for the gateway's name.
type series [5]string

// mostSeries bounds what labels remembers; past it, it starts anew.
const mostSeries = 16384

// labels remembers sets of attributes: to make one costs more than to count with
// it, and an action needs a dozen. Its zero value is empty and ready.
type labels struct {
	mu    sync.Mutex // guards known
	known map[series]metric.MeasurementOption
}

// of is what make returns for s, as an option of a measurement.
func (l *labels) of(s series, make func() []attribute.KeyValue) metric.MeasurementOption {
	l.mu.Lock()
	defer l.mu.Unlock()
	if option, ok := l.known[s]; ok {
		return option
	}
	if l.known == nil || len(l.known) >= mostSeries {
		l.known = map[series]metric.MeasurementOption{}
	}
	option := metric.WithAttributeSet(attribute.NewSet(make()...))
	l.known[s] = option
	return option
}
