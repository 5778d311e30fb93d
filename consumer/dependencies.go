package consumer

import (
	"errors"
	"fmt"
)

// A Dependency is something outside that actions need, as this process knows it.
type Dependency struct {
	Name   string `json:"name"` // service_bus, database or gateways
	OK     bool   `json:"ok"`
	Needed bool   `json:"needed"` // without it no action flows; the others cost only their own gateways' time
	Detail string `json:"detail,omitempty"`
}

// Dependencies says how each dependency stands: what traffic told last, and
// nothing is asked anew. It is safe for concurrent use.
func (c *Consumer) Dependencies() []Dependency {
	bus := Dependency{Name: "service_bus", OK: c.receiving.Load(), Needed: true}
	if !bus.OK {
		bus.Detail = "queue " + c.Queue + ": not receiving"
		if why := c.unheard.Load(); why != nil {
			bus.Detail += ": " + (*why).Error()
		}
	}
	database := Dependency{Name: "database", OK: !c.storeAway.Load(), Needed: true}
	if !database.OK {
		database.Detail = "not answering"
	}
	return []Dependency{bus, database, c.gateways.dependency()}
}

// dependency counts the gateways that actions went to since the start.
func (g *gateways) dependency() Dependency {
	g.mu.Lock()
	defer g.mu.Unlock()
	away, held := 0, 0
	for _, w := range g.known {
		w.mu.Lock()
		switch {
		case w.held:
			held++
		case w.breaker.Open():
			away++
		}
		w.mu.Unlock()
	}
	d := Dependency{Name: "gateways", OK: away == 0}
	if away > 0 || held > 0 {
		d.Detail = fmt.Sprintf("%d of %d cannot be reached, %d held back", away, len(g.known), held)
	}
	return d
}

// Ready reports what keeps actions from flowing: nil, or an error naming the
// dependency. It is safe for concurrent use.
func (c *Consumer) Ready() error {
	var faults []error
	for _, d := range c.Dependencies() {
		if d.Needed && !d.OK {
			faults = append(faults, errors.New(d.Name+": "+d.Detail))
		}
	}
	return errors.Join(faults...)
}
