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

// shareOfStore is measure 11. Of SQLite, which runs in this process, it is only told.
func shareOfStore(database benchDatabase, ours, alone float64) figure {
	f := reported("11 rate against its SQL alone, "+database.name, ours, "actions/s",
		"the run of 4 or 5, against the same statements of as many actions, as many at once, with nothing around them").against(alone)
	if database.url == "" {
		return f
	}
	return f.atLeast(0.6)
}

// benchRate is measures 4 to 6.
func (b *bench) benchRate(ctx context.Context) error {
	n := b.scaled(20_000 / rateGateways)
	all := n * rateGateways
	for i, database := range b.databases() {
		ours, bare, err := actions(ctx, database.url, true, n)
		if err != nil {
			return err
		}
		alone, err := storeAlone(ctx, database.url, rateGateways, all)
		if err != nil {
			return err
		}
		number := 4 + i
		part := func(name string, value float64, unit, how string) figure {
			return reported("6   "+name+", "+database.name, value, unit, how)
		}
		const partOf6 = "CPU of each part of 6 by itself, and of the SQL that the consumer has for an action; the server's share is what PostgreSQL's processes used in the run of 5"
		how := fmt.Sprintf("%d actions, %d gateways that answer at once, session queue, %s: from the consumer's start to the last settlement, "+
			"against sessions that only receive and complete", all, rateGateways, database.name)
		b.add(
			reported(fmt.Sprintf("%d rate, %s", number, database.name), rate(all, ours.took), "actions/s", how).against(rate(all, bare.drain.took)),
			shareOfStore(database, rate(all, ours.took), rate(all, alone.took)),
			reported("6 CPU, "+database.name, micros(ours.allCPU(), all), "us/action",
				"the runs of 4 and 5: user and system time of this process, and of every PostgreSQL process, against those of receive and complete, "+
					"bare exchanges, and three bare commits for each action (insert, update, update; prepared, nothing read) added up; RATIO is limit by figure").
				limitBy(micros(bare.sum().allCPU(), all)).atLeast(0.75),
			part("receive and complete", micros(bare.drain.allCPU(), all), "us/action", partOf6),
			part("exchange", micros(bare.exchange.allCPU(), all), "us/action", partOf6),
			part("three commits", micros(bare.write.allCPU(), all), "us/action", partOf6),
			part("our three commits", micros(alone.allCPU(), all), "us/action", partOf6),
			part("allocated", float64(ours.allocs)/float64(all), "allocs/action", "objects that this process allocated in the runs of 4 and 5, broker, relay and gateways included"),
			part("broker alone", rate(all, bare.broker.took), "messages/s", "received and deleted, as many at a time as the SDK takes: what the in-process broker can do"),
			part("relay alone", rate(all, bare.exchange.took), "exchanges/s", "the bare exchanges of 6: the in-process relay and gateways are no bottleneck"),
			part("three commits alone", rate(all, bare.write.took), "actions/s", "the bare commits of 6"),
		)
		if database.url != "" {
			b.add(part("the server's share of ours", micros(ours.database, all), "us/action", partOf6))
		}
	}
	return nil
}
