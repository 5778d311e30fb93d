package store

import "database/sql/driver"

// WithConnector lets a test stand between the store and its driver.
func WithConnector(wrap func(driver.Connector) driver.Connector) Option {
	return func(o *options) { o.wrap = wrap }
}

// Waits are the durations that nobody configures.
type Waits = waits

// WithWaits lets a test change those of the Store that it opens.
func WithWaits(change func(*Waits)) Option {
	return func(o *options) {
		own := *o.waits
		change(&own)
		o.waits = &own
	}
}

// Most is the bound of a store's connections.
func Most(s *Store) int { return s.db.Stats().MaxOpenConnections }

// StandingQueries are what metrics ask of the actions.
var StandingQueries = []string{waitingNow, countOwed}

// Compiling is how the store connects to SQLite.
func Compiling(c driver.Connector) driver.Connector { return compiling{c} }

// Waiting tells how many writes wait to share a transaction or a statement, with
// those that lead.
func (s *Store) Waiting() (n int) {
	for _, q := range []*sharing{&s.sharing, &s.claims.sharing, &s.marks.sharing, &s.ends.sharing} {
		q.mu.Lock()
		n += len(q.waiting)
		q.mu.Unlock()
	}
	return n
}

// Gathering makes what PostgreSQL gathers wait, as if a statement of each kind were
// under way, until release.
func (s *Store) Gathering() (release func()) {
	all := []*gathering{&s.claims, &s.marks, &s.ends}
	for _, g := range all {
		g.mu.Lock()
		g.led = true
		g.mu.Unlock()
	}
	return func() {
		for _, g := range all {
			g.end(nil, 0)
		}
	}
}
