// Package consumer takes worklist actions off an Azure Service Bus queue and
// sees each one through: to the one gateway that must have it, into SQL, and
// to the settlement of its message.
//
// A message's path is told by one function, handle in handle.go:
//
//	decode and validate      a message that can never be forwarded is dead-lettered
//	claim                    SQL fences the action: one attempt at a time, anywhere
//	route                    the relay row of exactly this provider and setting
//	hold the lock            renewed for as long as the work lasts
//	connect                  cached or dialled; a failure here certainly sent nothing
//	mark sent, then send     a crash in between leaves evidence
//	exchange                 one frame, one ack
//	decide                   outcomeOf, a pure function, is the whole policy
//	record                   the outcome is in SQL before anybody hears of it
//	tell, then settle        the producer; then complete, scheduled copy, or dead letter
//
// Messages come by session (session.go), where one gateway is one session, held
// by one replica at a time, or off a plain queue (plain.go). What is known of a
// gateway that fails is in gateways.go: its breaker holds actions back, and probe.go
// finds out with an echo when it is back.
//
// What is measured and traced of it all is in telemetry.go and beside it, by the
// API of OpenTelemetry alone.
//
// Goals: an action reaches its gateway once; its outcome is in SQL before its
// message is settled; a participant's details are nowhere but in the body.
// Not goals: order among different accession numbers, and queues other than
// Service Bus.
package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

// Consumer handles the messages of one queue. Set the fields, then call Run
// once. Fields must not change while Run runs.
type Consumer struct {
	// Connect opens a client for the queue's namespace. It is called for the
	// client that receives, for the one that sends copies, for the one that tells
	// outcomes, and again when the broker ended one for good: a fatal error on one
	// link closes its client's whole connection, which must not take the others
	// with it. Required.
	Connect func() (*azservicebus.Client, error)

	Queue string // required

	// Sessions receives by session, as a session queue demands: one gateway is
	// one session, held by one replica at a time. See [SessionID].
	Sessions bool

	// OutcomeQueue is told of each action that ended, at least once: a message
	// after the record and before the settlement, or, where it cannot be sent within
	// a few seconds, later. "": nobody is told.
	OutcomeQueue string

	TellOwed time.Duration // how often outcomes are told that could not be, or that no delivery tells; 0: 1 min

	Store *store.Store  // migrated; required
	Relay *relay.Client // required; the caller closes it after Run

	// Secret looks up the key that a relay row names by variable; "" is unset.
	// nil: no row with a key can be used.
	Secret func(variable string) string

	// Entra gives the tokens for relay rows that name no key. nil: such rows
	// cannot be used.
	Entra relay.TokenSource

	// Concurrency is how many messages are in hand at once; in a session queue,
	// how many sessions are worked on, with one message each. 0: 16.
	Concurrency int

	Retry   RetryPolicy         // zero: the defaults
	Breaker relay.BreakerPolicy // zero: the defaults

	// KeepSession is how long the session of a gateway that cannot be reached is
	// kept, without receiving; after it what waits is postponed by
	// PostponeSession, spread over a fifteenth more. 0: 10 min and 15 min.
	KeepSession, PostponeSession time.Duration

	// Watchdog is how long the broker may say nothing at all before the client
	// is made anew. 0: 10 min.
	Watchdog time.Duration

	// StuckAfter is how long a loop of Run may not turn before [Consumer.Alive]
	// says so. 0: 10 min, or three times the slowest delivery.
	StuckAfter time.Duration

	Clinic *time.Location // whose midnight ends the clinic day; nil: UTC

	// ReleaseAt holds a create back until this time of its scheduled day (a
	// gateway that resets at night would lose it). 0: sent at once.
	ReleaseAt time.Duration

	// ClaimLease is how long an action stays claimed by an attempt that was
	// not heard of again. It should exceed the slowest connect. 0: 90 s.
	ClaimLease time.Duration

	Log *slog.Logger     // nil: slog.Default
	Now func() time.Time // nil: time.Now

	Metrics metric.MeterProvider // nil: nothing is measured
	Traces  trace.TracerProvider // nil: no spans; the producer's trace is named in the log all the same

	pace

	telemetry telemetry

	routes   routeCache
	gateways gateways
	sender   sender
	outcomes teller
	turns    turns
	heard    heard

	turning, telling pulse // of the loop that receives, and the one that tells outcomes

	unheard   atomic.Pointer[error] // why the broker did not answer last; nil: it did, or was not asked
	receiving atomic.Bool           // the broker answers on the links of this moment
	storeAway atomic.Bool           // the database did not answer; receiving pauses
	told      tellOnce

	panics, unreadable atomic.Int64 // messages that handling panicked on, and that the SDK did

	careful time.Time // receive one message at a time until then; belongs to the receive loop of a plain queue
}

// Run handles messages until ctx ends. Then it stops receiving, gives back what
// certainly was not sent, lets what was sent have its ack, record and
// settlement, and returns when nothing is in flight: nil. Closing Relay ends the
// wait for acks: what waited is left to its next delivery. Run outlives every
// outage of broker and database; the error is only about the Consumer's own fields.
func (c *Consumer) Run(ctx context.Context) error {
	if c.Connect == nil || c.Store == nil || c.Relay == nil || c.Queue == "" {
		return errors.New("consumer: Connect, Queue, Store and Relay are required")
	}
	quiet, err := c.telemetry.start(ctx, c)
	if err != nil {
		return fmt.Errorf("consumer: metrics: %w", err)
	}
	defer quiet()
	defer c.sender.close(c)
	defer c.outcomes.link.close(c)
	probing, stop := context.WithCancel(ctx)
	defer c.gateways.running.Wait()
	defer stop()
	c.gateways.start(probing, c)
	defer c.startTelling(ctx)()
	defer c.turning.ended()
	backoff := c.waits().FirstBackoff
	for ctx.Err() == nil {
		c.turned()
		began := c.now()
		err := c.consume(ctx)
		c.receiving.Store(false)
		if ctx.Err() != nil {
			return nil
		}
		if c.now().Sub(began) > c.waits().LastBackoff {
			backoff = c.waits().FirstBackoff
		}
		err = explained(err)
		c.brokerAway(err)
		c.log().Warn("queue not available, trying again", "queue", c.Queue, "error", err, "in", backoff.String())
		pause(ctx, backoff)
		backoff = min(2*backoff, c.waits().LastBackoff)
	}
	return nil
}

// explained adds to the broker's refusal what most often is behind it: a queue
// is made with or without sessions, and that cannot be changed later.
func explained(err error) error {
	if refused, ok := errors.AsType[*amqp.Error](err); ok && refused.Condition == amqp.ErrCondNotAllowed {
		return fmt.Errorf("the queue and this service do not agree whether it requires sessions: %w", err)
	}
	return err
}

// consume receives on one client until the broker ends it or ctx does, and
// returns when nothing that came on it is in flight: a message is settled
// through the link it came on.
func (c *Consumer) consume(ctx context.Context) error {
	client, err := c.Connect()
	if err != nil {
		return err
	}
	defer c.waits().close(client.Close)
	c.heard.now() // a new client starts a new silence
	if c.Sessions {
		return c.consumeSessions(ctx, client)
	}
	return c.consumePlain(ctx, client)
}

func chance() float64 { return rand.Float64() }
