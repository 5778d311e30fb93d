package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

const (
	latencyGateways = 10
	latencyPace     = time.Second / 50 // between two actions
	uncounted       = 3                // of each gateway: dial, and the watch after a connection's first ack
)

// latencies notes when actions were enqueued and answered. It is safe for
// concurrent use.
type latencies struct {
	mu    sync.Mutex // guards what follows
	sent  map[string]time.Time
	spans []time.Duration
}

func (l *latencies) enqueued(actionID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent[actionID] = time.Now()
}

func (l *latencies) answered(actionID string) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if sent, ok := l.sent[actionID]; ok {
		l.spans = append(l.spans, now.Sub(sent))
	}
}

// percentile is by nearest rank, of those that were measured.
func (l *latencies) percentile(percent int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.spans) == 0 {
		return 0
	}
	slices.Sort(l.spans)
	return l.spans[(len(l.spans)*percent+99)/100-1]
}

// paced enqueues n actions for the gateways in turn, one every latencyPace, and
// returns how long each took until its gateway had replied. The first few of each
// gateway are not counted: they pay for what is cached from then on.
func (b *benchScene) paced(ctx context.Context, n int) (*latencies, error) {
	l := &latencies{sent: map[string]time.Time{}}
	tell := l.answered
	b.replied.Store(&tell)
	defer b.replied.Store(nil)
	sender, err := b.client.NewSender(queueName, nil)
	if err != nil {
		return nil, err
	}
	defer sender.Close(ctx)
	done := b.answers.expect(n)
	pace := time.NewTicker(latencyPace)
	defer pace.Stop()
	for i := range n {
		g, a := b.gateways[i%len(b.gateways)], b.create()
		message, err := consumer.Encode(g.Name, nil, marshal(a))
		if err != nil {
			return nil, err
		}
		select {
		case <-pace.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if i >= uncounted*len(b.gateways) {
			l.enqueued(a.ActionID)
		}
		if err := sender.SendMessage(ctx, message, nil); err != nil {
			return nil, err
		}
	}
	return l, await(ctx, "the gateways' replies", done)
}

// barePath receives, exchanges over one open connection to each gateway, and
// completes, until stop is called.
func (b *benchScene) barePath(ctx context.Context) (stop func() error, err error) {
	client, err := b.connect()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- each(b.gateways, func(g gateway) error { return b.forwardBare(ctx, client, g.Name) }) }()
	return func() error {
		cancel()
		err := <-ended
		closing, done := context.WithTimeout(context.Background(), usual.closing)
		defer done()
		return errors.Join(err, client.Close(closing))
	}, nil
}

func (b *benchScene) forwardBare(ctx context.Context, client *azservicebus.Client, name string) error {
	receiver, err := client.AcceptSessionForQueue(ctx, queueName, consumer.SessionID(name, nil), nil)
	if err != nil {
		return err
	}
	closing := context.WithoutCancel(ctx)
	defer receiver.Close(closing)
	open, err := relaytest.DialBare(ctx, b.relay, name, benchKey, nil)
	if err != nil {
		return err
	}
	defer open.Close()
	for ctx.Err() == nil {
		messages, err := receiver.ReceiveMessages(ctx, 1, nil)
		if err != nil && ctx.Err() == nil {
			return err
		}
		for _, m := range messages {
			if _, err := open.Exchange(m.Body); err != nil {
				return err
			}
			if err := receiver.CompleteMessage(closing, m, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// latency is how long actions take from the queue to the reply of their gateway,
// through the consumer and on the bare path.
func latency(ctx context.Context, url string, n int) (ours, bare *latencies, err error) {
	scene, err := newBenchScene(ctx, url, true, false, uniform(latencyGateways, relaytest.ModePersistent, 0))
	if err != nil {
		return nil, nil, err
	}
	defer closing(scene, &err)
	stop, err := scene.barePath(ctx)
	if err != nil {
		return nil, nil, err
	}
	bare, err = scene.paced(ctx, n)
	if err = errors.Join(err, stop()); err != nil {
		return nil, nil, err
	}
	if err := scene.consume(ctx); err != nil {
		return nil, nil, err
	}
	ours, err = scene.paced(ctx, n)
	return ours, bare, err
}

// benchLatency is measure 7.
func (b *bench) benchLatency(ctx context.Context) error {
	n := max(b.scaled(800), (uncounted+1)*latencyGateways)
	for _, database := range b.databases() {
		ours, bare, err := latency(ctx, database.url, n)
		if err != nil {
			return err
		}
		how := fmt.Sprintf("%d actions, 50 a second, to %d gateways in turn that answer at once, from before the send to the queue until the gateway has replied, "+
			"but for the first %d of each gateway, which dial and watch; "+
			"against a loop that receives, exchanges over an open connection and completes. The goal is for the difference", n, latencyGateways, uncounted)
		for _, percent := range []int{50, 99} {
			f := reported(fmt.Sprintf("7 enqueue to ack, p%d, %s", percent, database.name), millis(ours.percentile(percent)), "ms", how).
				beyond(millis(bare.percentile(percent)))
			if percent == 99 {
				f = f.atMost(5)
			}
			b.add(f)
		}
	}
	return nil
}
