package main

import (
	"context"
	"fmt"
	"time"

	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

const makespanGateways = 50

// makespan is how long the consumer takes for n actions at each gateway of a
// session queue, from its start to the last reply, and how long a bare loop does.
func makespan(ctx context.Context, url string, gateways []gateway, n int, redial bool) (ours, bare time.Duration, err error) {
	scene, err := newBenchScene(ctx, url, true, false, gateways)
	if err != nil {
		return 0, 0, err
	}
	defer closing(scene, &err)
	least, err := scene.bareExchanges(ctx, gateways, n, redial)
	if err != nil {
		return 0, 0, err
	}
	took, err := scene.serve(ctx, gateways, nil, n)
	return took, least.took, err
}

// serve enqueues n actions for each gateway, starts the consumer, and returns how
// long it took until all but the lost gateways had answered theirs.
func (b *benchScene) serve(ctx context.Context, gateways, lost []gateway, n int) (time.Duration, error) {
	if err := b.enqueue(ctx, append(gateways, lost...), n); err != nil {
		return 0, err
	}
	done := b.answers.expect(n * len(gateways))
	began := time.Now()
	if err := b.consume(ctx); err != nil {
		return 0, err
	}
	err := await(ctx, "the gateways' replies", done)
	return time.Since(began), err
}

// benchMakespan is measures 1 to 3.
func (b *bench) benchMakespan(ctx context.Context) error {
	const pause = 100 * time.Millisecond
	n := b.scaled(50)
	for _, database := range b.databases() {
		persistent := func(pause time.Duration) []gateway { return uniform(b.makespan, relaytest.ModePersistent, pause) }
		how := fmt.Sprintf("%d gateways, %d actions each, session queue, %s: from the consumer's start to the last reply, "+
			"against a goroutine for each gateway that dials once and exchanges, at the same relay and gateways", b.makespan, n, database.name)
		ours, bare, err := makespan(ctx, database.url, persistent(pause), n, false)
		if err != nil {
			return err
		}
		b.add(reported("1 persistent, 100 ms, "+database.name, seconds(ours), "s", how).against(seconds(bare)).atMost(1.05))

		among, err := amongLost(ctx, database.url, persistent(pause), n)
		if err != nil {
			return err
		}
		b.add(reported("3 beside silent, offline, rejecting, "+database.name, seconds(among), "s",
			"as 1, but for three of the gateways, and without waiting for those; against 1").against(seconds(ours)).atMost(1.05))

		ours, bare, err = makespan(ctx, database.url, persistent(pause/5), n, false)
		if err != nil {
			return err
		}
		b.add(reported("1 persistent, 20 ms, "+database.name, seconds(ours), "s", how).against(seconds(bare)))

		ours, bare, err = makespan(ctx, database.url, uniform(b.makespan, relaytest.ModeOneShot, pause), n, true)
		if err != nil {
			return err
		}
		b.add(reported("2 one-shot, 100 ms, "+database.name, seconds(ours), "s",
			"as 1, with gateways that close after each reply, against a loop that dials for each action").against(seconds(bare)).atMost(1.05))
	}
	return nil
}

// amongLost is the makespan of all but the first three of the gateways, of which one takes
// actions and never answers, one does not listen, and one refuses.
func amongLost(ctx context.Context, url string, gateways []gateway, n int) (took time.Duration, err error) {
	for i, mode := range []relaytest.Mode{relaytest.ModeSilent, relaytest.ModeOffline, relaytest.ModeReject} {
		gateways[i].Mode = mode
	}
	scene, err := newBenchScene(ctx, url, true, false, gateways)
	if err != nil {
		return 0, err
	}
	defer closing(scene, &err)
	return scene.serve(ctx, gateways[3:], gateways[:3], n)
}
