package main

import "time"

// waits are the durations that no variable changes.
type waits struct {
	// Of a connection to HTTP_ADDR: whoever connects, and then neither asks nor
	// reads, must not keep it for good.
	httpRead  time.Duration // for a request with its body, which nothing here looks at
	httpWrite time.Duration
	httpIdle  time.Duration // above the usual time between two scrapes

	hangUp time.Duration // for the requests of the moment when the program ends
	flush  time.Duration // for what is not exported yet when the program ends

	// lastMoments is how long everything may take to end once the grace is over: the
	// connections to the gateways, what waits for their acks, the last telemetry and
	// the last requests.
	lastMoments time.Duration

	// storeRetry is the wait between two looks for a database at the start, which
	// doubles up to storeRetryMost.
	storeRetry, storeRetryMost time.Duration
}

// usual are the program's. Only a test changes them, before it begins.
var usual = waits{
	httpRead: 5 * time.Second, httpWrite: 30 * time.Second, httpIdle: 2 * time.Minute,
	hangUp: time.Second, flush: 2 * time.Second, lastMoments: 5 * time.Second,
	storeRetry: time.Second, storeRetryMost: 30 * time.Second,
}
