package main

import (
	"context"
	"fmt"

	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// rateGateways is also how many messages are in hand.
const rateGateways = 16

// parts are what an action needs whoever forwards it, each measured alone.
type parts struct {
	broker                 cost // messages received and deleted, many at a time: no part of an action, but the broker alone
	drain, exchange, write cost
}

func (p parts) sum() cost { return p.drain.plus(p.exchange).plus(p.write) }

// actions is what the consumer takes for n actions at each of 16 gateways that
// answer at once, from its start to the last settlement; and what the parts take.
func actions(ctx context.Context, url string, sessions bool, n int) (ours cost, bare parts, err error) {
	gateways := uniform(rateGateways, relaytest.ModePersistent, 0)
	scene, err := newBenchScene(ctx, url, sessions, false, gateways)
	if err != nil {
		return cost{}, parts{}, err
	}
	defer closing(scene, &err)
	if bare, err = scene.parts(ctx, n); err != nil {
		return cost{}, parts{}, err
	}
	ours, err = scene.forward(ctx, n)
	return ours, bare, err
}

// parts measures each of them with n actions for each gateway.
func (b *benchScene) parts(ctx context.Context, n int) (p parts, err error) {
	if err = b.enqueue(ctx, b.gateways, n); err != nil {
		return p, err
	}
	if p.broker, err = b.bareReceive(ctx, n); err != nil {
		return p, fmt.Errorf("receive and delete: %w", err)
	}
	if err = b.enqueue(ctx, b.gateways, n); err != nil {
		return p, err
	}
	if p.drain, err = b.bareDrain(ctx, n); err != nil {
		return p, fmt.Errorf("receive and complete: %w", err)
	}
	if p.exchange, err = b.bareExchanges(ctx, b.gateways, n, false); err != nil {
		return p, err
	}
	p.write, err = b.bareWrites(ctx, len(b.gateways), n*len(b.gateways))
	return p, err
}

// forward measures the consumer with n actions for each gateway.
func (b *benchScene) forward(ctx context.Context, n int) (cost, error) {
	if err := b.enqueue(ctx, b.gateways, n); err != nil {
		return cost{}, err
	}
	done := b.settled.expect(n * len(b.gateways))
	return measured(func() error {
		if err := b.consume(ctx); err != nil {
			return err
		}
		return await(ctx, "the actions' settlement", done)
	})
}

// benchRate is measures 4 to 6, and 11.
func (b *bench) benchRate(ctx context.Context) error {
	n := b.scaled(20_000 / rateGateways)
	for i, database := range b.databases() {
		ours, bare, err := actions(ctx, database.url, true, n)
		if err != nil {
			return err
		}
		alone, err := storeAlone(ctx, database.url, rateGateways, n*rateGateways)
		if err != nil {
			return err
		}
		b.add(rates(4+i, database, n*rateGateways, ours, alone, bare)...)
		b.add(cpus(database, n*rateGateways, ours, alone, bare)...)
		if i == 0 {
			b.add(
				reported("4   broker alone", rate(n*rateGateways, bare.broker.took), "messages/s", "received and deleted, as many at a time as the SDK takes: what the in-process broker can do"),
				reported("4   relay alone", rate(n*rateGateways, bare.exchange.took), "exchanges/s", "the bare exchanges of 6: what the in-process relay and gateways can do"),
			)
		}
	}
	return nil
}

// rates are of n actions.
func rates(number int, database benchDatabase, n int, ours, alone cost, bare parts) []figure {
	how := fmt.Sprintf("%d actions, %d gateways that answer at once, session queue, %s: from the consumer's start to the last settlement, "+
		"against sessions that only receive and complete", n, rateGateways, database.name)
	share := reported("11 rate, "+database.name, rate(n, ours.took), "actions/s",
		"the run of 4 or 5, against the store's own claim, mark and record of as many actions, as many at once, with nothing around them").against(rate(n, alone.took))
	if database.url != "" { // SQLite runs in this process
		share = share.atLeast(0.6)
	}
	return []figure{
		reported(fmt.Sprintf("%d rate, %s", number, database.name), rate(n, ours.took), "actions/s", how).against(rate(n, bare.drain.took)),
		reported(fmt.Sprintf("%d   three bare commits alone", number), rate(n, bare.write.took), "actions/s", "the bare commits of 6"),
		share,
	}
}

// cpus are of n actions.
func cpus(database benchDatabase, n int, ours, alone cost, bare parts) []figure {
	const ofParts = "what the figure and the limit of 6 consist of; our SQL is measured as in 11"
	return []figure{
		reported("6 CPU, "+database.name, micros(ours.allCPU(), n), "us/action",
			"the runs of 4 and 5: user and system time of this process, and of every PostgreSQL process, against those of receive and complete, "+
				"bare exchanges, and three bare commits for each action (insert, update, update; prepared, nothing read) added up; RATIO is limit by figure").
			limitBy(micros(bare.sum().allCPU(), n)).atLeast(0.75),
		reported("6   receive and complete", micros(bare.drain.allCPU(), n), "us/action", ofParts),
		reported("6   exchange", micros(bare.exchange.allCPU(), n), "us/action", ofParts),
		reported("6   three bare commits", micros(bare.write.allCPU(), n), "us/action", ofParts),
		reported("6   our SQL alone", micros(alone.allCPU(), n), "us/action", ofParts),
		reported("6   of ours, PostgreSQL's", micros(ours.database, n), "us/action", ofParts),
		reported("6   allocations", float64(ours.allocs)/float64(n), "allocs/action", ofParts),
	}
}
