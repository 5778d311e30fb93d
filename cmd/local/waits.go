package main

import "time"

// waits are the durations that no flag changes.
type waits struct {
	demo time.Duration // for the main job
	read time.Duration // for the books at its end

	// exchange is how long an exchange that is under way when everything stops may
	// wait for its ack. Then the relay goes, which ends it.
	exchange time.Duration
	closing  time.Duration // for a client of the broker to say goodbye
	header   time.Duration // for the header of a request to the control address

	database time.Duration // a database that is there says so within it
	drop     time.Duration // for a schema, also of a million rows

	idle     time.Duration // how long the consumer keeps a connection unused
	idleMost time.Duration // above it, for the last connection to go

	quiet     time.Duration // without growth of its memory, and a process counts as settled
	quietMost time.Duration // settled or not

	interrupt time.Duration // for a build to stop
	stop      time.Duration // for a process to end, above what it may take for what it has sent
}

// usual are the program's. Only a test changes them, before anything begins.
var usual = waits{
	demo: time.Minute, read: 5 * time.Second,
	exchange: 2 * time.Second, closing: 2 * time.Second, header: 5 * time.Second,
	database: 10 * time.Second, drop: time.Minute,
	idle: 5 * time.Second, idleMost: 10 * time.Second,
	quiet: 2 * time.Second, quietMost: 20 * time.Second,
	interrupt: 5 * time.Second, stop: time.Minute,
}
