package consumer

import (
	"context"
	"time"
)

// waits are the durations that the program fixes and nobody configures. A test may
// shorten those of one value, and none of another's.
type waits struct {
	FirstBackoff, LastBackoff time.Duration // after an error from the broker, doubled each time

	ReceiveDeadline time.Duration // a receiver may fall silent for good; each call gets a new start
	ListenLimit     time.Duration // for one question to the broker that shows whether it is there
	SettleDeadline  time.Duration // short on purpose: see usual
	SendDeadline    time.Duration // for one message

	StoreLimit  time.Duration // for one call to the database; a connection may have died in silence
	StoreProbe  time.Duration // between looks whether the database is back
	MarkLimit   time.Duration // how long a mark is offered to a database that is away
	RecordLimit time.Duration // how long an outcome is
	RecordRetry time.Duration // between two offers

	TellLimit time.Duration // for each step of telling an outcome, while its action's message waits
	TellRest  time.Duration // after one could not be told, others are owed without a try

	AfterEarlier time.Duration // past the next try of an earlier action for the same accession number
	RouteAge     time.Duration // how long a relay row is used before it is read again: a changed or removed one counts within it
	HealthAge    time.Duration // what other replicas learned counts within this time
	LifeSaved    time.Duration // a proof of life is written down this often at most
	FailureSaved time.Duration // a failure that changes nothing likewise
	ProbeWanted  time.Duration // probes go on for so long after somebody last waited for them

	StandingInterval time.Duration // between looks at SQL for metrics
	StandingLimit    time.Duration // for one look; what is not known then is not reported

	PeekDeadline time.Duration // for one page of dead letters
	SweepQuiet   time.Duration // when no dead letter comes for so long, none is there, or others have it locked
	CanaryPoll   time.Duration // between two looks at the canaries
	GatherRoutes time.Duration // routes that are cleared within it go on together
}

var usual = waits{
	FirstBackoff: 250 * time.Millisecond, LastBackoff: 30 * time.Second,

	ReceiveDeadline: time.Minute, ListenLimit: 10 * time.Second, SendDeadline: 15 * time.Second,

	// Settling a message that came before a connection was lost makes the SDK tear
	// down the new, healthy connection at its first retry, after 3.2 s.
	SettleDeadline: 3 * time.Second,

	StoreLimit: 10 * time.Second, StoreProbe: 2 * time.Second,
	MarkLimit: 5 * time.Second, RecordLimit: 30 * time.Second, RecordRetry: 250 * time.Millisecond,

	TellLimit: 3 * time.Second, TellRest: 30 * time.Second,

	AfterEarlier: 5 * time.Second, RouteAge: 5 * time.Second, HealthAge: 5 * time.Second,
	LifeSaved: time.Minute, FailureSaved: time.Second, ProbeWanted: 3 * time.Minute,

	StandingInterval: 15 * time.Second, StandingLimit: 5 * time.Second,

	PeekDeadline: 30 * time.Second, SweepQuiet: 2 * time.Second,
	CanaryPoll: 250 * time.Millisecond, GatherRoutes: time.Second,
}

// pace is embedded by what waits. Its zero value is production's.
type pace struct{ own *waits }

func (p *pace) waits() *waits {
	if p.own == nil {
		return &usual
	}
	return p.own
}

// close closes a client or link; what it was closed for is known already.
func (w *waits) close(closing func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), w.SettleDeadline)
	defer cancel()
	_ = closing(ctx)
}

// pause waits for d or for the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
