package store

import "time"

// waits are the durations that nobody configures. A test may change those of the
// Store that it opens, and of no other.
type waits struct {
	Open       time.Duration // bounds Open, and each later connection that the pool makes
	LateAnswer time.Duration // a server may take so long to say that it gave up on a query whose context ended
	Busy       time.Duration // how long SQLite waits for another process

	// Turn is how long a statement under way keeps others waiting.
	Turn time.Duration
	// Gather bounds a statement for several, and how long it waits for a row in
	// another's hands: only one of them may need it.
	Gather time.Duration
	// Stay is Gather where its callers stay. To give up on an answer that is merely
	// late, as of a disk that stalls, would leave behind what nobody knows of.
	Stay time.Duration
}

var usual = waits{
	Open: 10 * time.Second, LateAnswer: 2 * time.Second, Busy: 10 * time.Second,
	Turn: 250 * time.Millisecond, Gather: 2 * time.Second, Stay: 8 * time.Second,
}
