package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

const (
	idleSlots = 64 // and as many gateways more are used before anything is measured: what a slot needs is no gateway's
	idleLook  = 100 * time.Millisecond
)

// idleness is what a consumer holds of gateways that were used once: before it
// knows them, once all have replied, and when their connections are closed.
type idleness struct {
	before, open, after held
	resident            int // KiB, at the end
}

// left is how many sockets stay.
func (i idleness) left() int { return i.after.sockets - i.before.sockets }

// perGateway is the memory that each of n leaves, in bytes: heap alone, since what
// stays has no goroutine of its own.
func (i idleness) perGateway(n int) float64 {
	return (float64(i.after.Heap) - float64(i.before.Heap)) / float64(n)
}

// perSocket is the memory of an open socket, in bytes, with the stacks of its goroutines.
func (i idleness) perSocket() float64 {
	more := float64(i.open.Heap+i.open.Stacks) - float64(i.after.Heap+i.after.Stacks)
	return more / float64(max(1, i.open.sockets-i.after.sockets))
}

// idle has a consumer in a process of its own send one action to each of n
// gateways, and waits until it has closed the connections. The error wraps
// [fs.ErrNotExist] on a system that has no /proc.
func idle(ctx context.Context, n int) (i idleness, err error) {
	// A plain queue: a session would take its gateway's connection along.
	scene, err := newBenchScene(ctx, "", false, false, uniform(idleSlots+n, relaytest.ModePersistent, 0))
	if err != nil {
		return i, err
	}
	defer closing(scene, &err)
	w, err := scene.startWard(ctx, idleSlots)
	if err != nil {
		return i, err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	first, others := scene.gateways[:idleSlots], scene.gateways[idleSlots:]
	for _, step := range []func() error{
		func() error { return scene.reach(ctx, w, first) },
		func() error { return scene.awaitIdle(ctx, first) },
		func() (err error) { i.before, err = w.held(); return err },
		func() error { return scene.reach(ctx, w, others) },
		func() (err error) { i.open, err = w.held(); return err },
		func() error { return scene.awaitIdle(ctx, others) },
		func() (err error) { i.after, err = w.held(); return err },
		func() (err error) { i.resident, err = residentKiB(w.cmd.Process.Pid); return err },
	} {
		if err := step(); err != nil {
			return i, err
		}
	}
	return i, nil
}

// reach sends an action to each of the gateways, and waits for the replies.
func (b *benchScene) reach(ctx context.Context, w *ward, gateways []gateway) error {
	replied := b.answers.expect(len(gateways))
	if err := b.enqueue(ctx, gateways, 1); err != nil {
		return err
	}
	return w.await(ctx, "the gateways' replies", replied)
}

// awaitIdle waits until no connection leads through the relay to any of the
// gateways, or it is clear that one will stay: what is counted then tells. It goes
// on for a moment, in which the consumer hears of the last one's end.
func (b *benchScene) awaitIdle(ctx context.Context, gateways []gateway) error {
	late := time.NewTimer(usual.idle + usual.idleMost)
	defer late.Stop()
	look := time.NewTicker(idleLook)
	defer look.Stop()
	for open := true; open; {
		open = slices.ContainsFunc(gateways, func(g gateway) bool { return b.relay.Stats(g.Name).Open > 0 })
		select {
		case <-look.C:
		case <-late.C:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("waiting for idle connections to close: %w", context.Cause(ctx))
		}
	}
	return nil
}

// openSockets counts those of a process.
func openSockets(pid int) (n int, err error) {
	folder := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(folder, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // closed meanwhile
		}
		if err != nil {
			return 0, err
		}
		if strings.HasPrefix(target, "socket:") {
			n++
		}
	}
	return n, nil
}

// benchGateways is measure 8, but for what the process is without gateways.
func (b *bench) benchGateways(ctx context.Context) error {
	n := b.scaled(1000)
	i, err := idle(ctx, n)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(b.tell, "gateways is left out: %v\n", err)
		return nil
	}
	if err != nil {
		return err
	}
	how := fmt.Sprintf("%d gateways that answer at once and keep their connections, one action each off a plain queue, SQLite: the consumer in a process of its own, "+
		"which has served %d more before, collects its garbage twice and tells the heap in use, and for a socket the stacks: before, once all have replied, and once the last connection is closed", n, idleSlots)
	b.add(
		reported("8 sockets left when idle", float64(i.left()), "sockets", how).atMost(0),
		reported("8 goroutines left when idle", float64(i.after.Goroutines-i.before.Goroutines), "goroutines", how),
		reported("8 memory of an idle gateway", i.perGateway(n), "B", how).atMost(4096),
		reported("8 memory of an open socket", i.perSocket()/1024, "KiB", how),
		reported(fmt.Sprintf("8 resident after %d gateways", n), float64(i.resident)/1024, "MiB", "VmRSS of that process at the end"),
	)
	return nil
}
