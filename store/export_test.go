package store

import "database/sql/driver"

// WithConnector lets a test stand between the store and its driver.
func WithConnector(wrap func(driver.Connector) driver.Connector) Option {
	return func(o *options) { o.wrap = wrap }
}

// StandingQueries are what metrics ask of the actions.
var StandingQueries = []string{waitingNow, countOwed}

// Compiling is how the store connects to SQLite.
func Compiling(c driver.Connector) driver.Connector { return compiling{c} }

// Waiting tells how many writes wait to share a transaction, with the one that leads.
func (s *Store) Waiting() int {
	s.sharing.mu.Lock()
	defer s.sharing.mu.Unlock()
	return len(s.sharing.waiting)
}
