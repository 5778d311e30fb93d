package main

import (
	"context"
	"fmt"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// exchanges is what n exchanges over TLS with one persistent gateway take: over
// one connection, or with a dial for each, as a web request would make it.
func exchanges(ctx context.Context, n int, dialled bool) (c cost, err error) {
	gateways := uniform(1, relaytest.ModePersistent, 0)
	scene, err := newBenchScene(ctx, "", false, true, gateways)
	if err != nil {
		return cost{}, err
	}
	defer closing(scene, &err)
	client := scene.relayClient()
	client.WatchTime = -1 // the gateway is known to stay
	if dialled {
		client.IdleTimeout = -1
	}
	defer client.Close()
	to := relay.HybridConnection{Namespace: scene.relay.Addr(), Path: gateways[0].Name}
	tokens := relay.SharedAccessKey(relayKeyName, relayKey)
	list := make([]relay.Action, n)
	for i := range list {
		a := scene.create()
		list[i] = relay.NewAction(marshal(a), a.ActionID, a.ActionType, a.Parameters.WorklistItem.AccessionNumber)
	}
	return measured(func() error {
		for _, a := range list {
			conn, err := client.Connect(ctx, to, tokens)
			if err != nil {
				return err
			}
			_, err = conn.Exchange(ctx, a)
			conn.Release()
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// benchExchange is measure 12.
func (b *bench) benchExchange(ctx context.Context) error {
	n := b.scaled(10_000)
	dials := max(n/10, 1)
	cached, err := exchanges(ctx, n, false)
	if err != nil {
		return err
	}
	dialled, err := exchanges(ctx, dials, true)
	if err != nil {
		return err
	}
	b.add(reported("12 CPU of a cached exchange", micros(cached.cpu, n), "us",
		fmt.Sprintf("%d exchanges over one TLS connection, against %d that each dial (with TLS sessions resumed): relay and gateway included in both", n, dials)).
		against(micros(dialled.cpu, dials)).atMost(0.2))
	return nil
}
