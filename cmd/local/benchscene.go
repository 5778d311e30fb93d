package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// benchScene is broker, relay, gateways and database, with nothing between them
// until consume is called. Bare loops and the consumer are measured in the same one.
type benchScene struct {
	*stack
	*sampler
	client  *azservicebus.Client // for producers, and for bare loops
	answers *crowd               // one for each reply of a gateway that counts
	settled *crowd               // one for each action that the consumer settled

	replied atomic.Pointer[func(actionID string)] // is told of each reply; nil: nobody is
}

// benchLock outlives every run, so that no lock is renewed in the midst of it.
const benchLock = 5 * time.Minute

// newBenchScene starts one with a database of its own, at the database of url:
// "" is a new SQLite file.
func newBenchScene(ctx context.Context, url string, sessions, tls bool, gateways []gateway) (*benchScene, error) {
	now, err := clinicNow()
	if err != nil {
		return nil, err
	}
	b := &benchScene{sampler: newSampler(1, now.Add(midnightMargin)), answers: newCrowd(), settled: newCrowd()}
	url, drop, err := ownSchema(ctx, url)
	if err != nil {
		return nil, err
	}
	b.stack, err = start(ctx, settings{
		queues:   []servicebustest.Queue{{Name: queueName, RequiresSession: sessions, LockDuration: benchLock}},
		gateways: gateways, tls: tls, databaseURL: url, clinic: now.Location(),
		// As in production: every action is logged, and every metric kept.
		log:         slog.New(countSettled{slog.NewJSONHandler(nowhere{}, nil), b.settled}),
		metrics:     benchMetrics(),
		concurrency: len(gateways) + 1, // one waits for the next session, or sessions would make room for it
		replied: func(actionID string) {
			if actionID == "" {
				return // refused
			}
			b.answers.add()
			if tell := b.replied.Load(); tell != nil {
				(*tell)(actionID)
			}
		},
	})
	if err != nil {
		return nil, errors.Join(err, drop())
	}
	b.closers = append([]func() error{drop}, b.closers...)
	if b.client, err = b.connect(); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	b.onClose(func() error {
		closing, cancel := context.WithTimeout(context.Background(), usual.closing)
		defer cancel()
		return b.client.Close(closing)
	})
	return b, nil
}

// benchMetrics keeps what production keeps, for nobody.
func benchMetrics() metric.MeterProvider {
	return sdkmetric.NewMeterProvider(
		sdkmetric.WithReader(sdkmetric.NewManualReader()), sdkmetric.WithCardinalityLimit(20_000),
		sdkmetric.WithExemplarFilter(exemplar.AlwaysOffFilter),
	)
}

// uniform is n gateways that behave alike.
func uniform(n int, mode relaytest.Mode, rtt time.Duration) []gateway {
	gateways := make([]gateway, n)
	for i := range gateways {
		gateways[i] = gateway{Name: fmt.Sprintf(sampleGateway, i+1), Mode: mode, RTT: rtt}
	}
	return gateways
}

// bodies are n new creates.
func (b *benchScene) bodies(n int) [][]byte {
	bodies := make([][]byte, n)
	for i := range bodies {
		bodies[i] = marshal(b.create())
	}
	return bodies
}

// enqueue puts n new creates for each of the gateways into the queue.
func (b *benchScene) enqueue(ctx context.Context, gateways []gateway, n int) error {
	sender, err := b.client.NewSender(queueName, nil)
	if err != nil {
		return err
	}
	defer sender.Close(ctx)
	for _, g := range gateways {
		// A batch takes the session of its first message.
		batch, err := sender.NewMessageBatch(ctx, nil)
		if err != nil {
			return err
		}
		for _, body := range b.bodies(n) {
			message, err := consumer.Encode(g.Name, nil, body)
			if err != nil {
				return err
			}
			err = batch.AddMessage(message, nil)
			if errors.Is(err, azservicebus.ErrMessageTooLarge) {
				if err = sender.SendMessageBatch(ctx, batch, nil); err != nil {
					return err
				}
				if batch, err = sender.NewMessageBatch(ctx, nil); err == nil {
					err = batch.AddMessage(message, nil)
				}
			}
			if err != nil {
				return err
			}
		}
		if err := sender.SendMessageBatch(ctx, batch, nil); err != nil {
			return err
		}
	}
	return nil
}

// consume starts the consumer that production runs. It is stopped with the scene.
func (b *benchScene) consume(ctx context.Context) error {
	b.stack.consume = true
	return b.startConsumer(ctx)
}

// crowd counts what happens, and tells who waits for a number of it.
type crowd struct {
	n    atomic.Int64
	want atomic.Int64
	full atomic.Pointer[chan struct{}]
}

func newCrowd() *crowd { return &crowd{} }

func (c *crowd) add() {
	if n := c.n.Add(1); n == c.want.Load() {
		if full := c.full.Load(); full != nil {
			close(*full)
		}
	}
}

// expect returns a channel that is closed when n more have happened. It is called
// before they begin.
func (c *crowd) expect(n int) <-chan struct{} {
	full := make(chan struct{})
	c.full.Store(&full)
	c.want.Store(c.n.Load() + int64(n))
	return full
}

// await waits for a channel of a crowd; the error says what was waited for in vain.
func await(ctx context.Context, what string, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
	}
}

// countSettled counts the log line that every settled action has.
type countSettled struct {
	slog.Handler
	settled *crowd
}

func (h countSettled) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Message == "settled" {
		h.settled.add()
	}
	return err
}

func (h countSettled) WithAttrs(attrs []slog.Attr) slog.Handler {
	return countSettled{h.Handler.WithAttrs(attrs), h.settled}
}

func (h countSettled) WithGroup(name string) slog.Handler {
	return countSettled{h.Handler.WithGroup(name), h.settled}
}

// nowhere is where the log goes. It is not io.Discard, for which slog would not
// even format a line.
type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
