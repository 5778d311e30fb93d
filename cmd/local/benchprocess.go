package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// benchProcess is measure 9, and of measure 8 what the process is without
// gateways. Both are of the production binary, and where it cannot be built are
// left out.
func (b *bench) benchProcess(ctx context.Context) error {
	folder, err := os.MkdirTemp("", "worklist-relay-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	program, err := findProgram(ctx, b.program, folder)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		fmt.Fprintf(b.tell, "process is left out, for there is no worklist-relay to start: %v\n", err)
		return nil
	}
	for _, database := range b.databases() {
		n := max(b.scaled(7), 3)
		took, err := starts(ctx, program, database.url, n)
		if err != nil {
			return err
		}
		b.add(reported("9 start to first ack, "+database.name, millis(took), "ms",
			fmt.Sprintf("worklist-relay run, %s migrated already, session queue with one message in it, one gateway that answers at once, all but the process itself "+
				"up and on this machine: from before exec until the gateway has replied, median of %d", database.name, n)).atMost(250))
	}
	for _, database := range b.databases() {
		kib, err := emptyResident(ctx, program, database.url)
		if errors.Is(err, os.ErrNotExist) {
			fmt.Fprintf(b.tell, "resident memory is left out: %v\n", err)
			return nil
		}
		if err != nil {
			return err
		}
		b.add(reported("8 resident without gateways, "+database.name, float64(kib)/1024, "MiB",
			fmt.Sprintf("worklist-relay run on an empty session queue, with HTTP_ADDR: the most that VmRSS is from its start until it has not grown for %.0f s", seconds(usual.quiet))).atMost(40))
	}
	return nil
}

// starts is the median of n starts, each from before exec to the first reply.
func starts(ctx context.Context, program, url string, n int) (median time.Duration, err error) {
	scene, err := newBenchScene(ctx, url, true, false, uniform(1, relaytest.ModePersistent, 0))
	if err != nil {
		return 0, err
	}
	defer closing(scene, &err)
	spans := make([]time.Duration, n)
	for i := range spans {
		if spans[i], err = scene.startToAck(ctx, program); err != nil {
			return 0, err
		}
	}
	slices.Sort(spans)
	return spans[n/2], nil
}

// startToAck is one start, with one message in the queue. The process is ended
// after it.
func (b *benchScene) startToAck(ctx context.Context, program string) (took time.Duration, err error) {
	if err := b.enqueue(ctx, b.gateways, 1); err != nil {
		return 0, err
	}
	replied := b.answers.expect(1)
	began := time.Now()
	p, err := b.startProgram(program)
	if err != nil {
		return 0, err
	}
	defer p.stopping(&err)
	err = p.await(ctx, "the first reply", replied)
	return time.Since(began), err
}

const residentLook = 100 * time.Millisecond

// emptyResident is the memory of the program on an empty queue, in KiB. The
// error wraps [os.ErrNotExist] on a system that has no /proc.
func emptyResident(ctx context.Context, program, url string) (kib int, err error) {
	scene, err := newBenchScene(ctx, url, true, false, uniform(1, relaytest.ModePersistent, 0))
	if err != nil {
		return 0, err
	}
	defer closing(scene, &err)
	p, err := scene.startProgram(program)
	if err != nil {
		return 0, err
	}
	defer p.stopping(&err)
	if kib, err = p.settledResident(ctx); err != nil {
		return 0, err
	}
	return kib, scene.proveAlive(ctx, p)
}

// proveAlive has the process forward an action: what was measured is one that works.
func (b *benchScene) proveAlive(ctx context.Context, p *process) error {
	replied := b.answers.expect(1)
	if err := b.enqueue(ctx, b.gateways[:1], 1); err != nil {
		return err
	}
	return p.await(ctx, "a reply", replied)
}

// settledResident is the most that was resident until nothing more was for a while.
func (p *process) settledResident(ctx context.Context) (most int, err error) {
	late := time.After(usual.quietMost)
	look := time.NewTicker(residentLook)
	defer look.Stop()
	settled := make(chan struct{})
	for quiet := time.Duration(0); quiet < usual.quiet; quiet += residentLook {
		kib, err := residentKiB(p.cmd.Process.Pid)
		if err != nil {
			return 0, err
		}
		if kib > most {
			most, quiet = kib, 0
		}
		select {
		case <-look.C:
		case <-late:
			return most, nil
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-p.ended:
			return 0, p.await(ctx, "its memory to settle", settled)
		}
	}
	return most, nil
}

// residentKiB is the memory that a process has in RAM: VmRSS of proc(5), with
// the pages of its file that it has touched.
func residentKiB(pid int) (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return statusKiB(string(status), "VmRSS")
}

// statusKiB reads one size from a status file of proc(5), such as
//
//	VmRSS:	   27136 kB
func statusKiB(status, name string) (int, error) {
	for line := range strings.Lines(status) {
		if value, found := strings.CutPrefix(line, name+":"); found {
			number, isKiB := strings.CutSuffix(strings.TrimSpace(value), " kB")
			kib, err := strconv.Atoi(number)
			if err != nil || !isKiB {
				return 0, fmt.Errorf("%s %q is no size", name, strings.TrimSpace(value))
			}
			return kib, nil
		}
	}
	return 0, fmt.Errorf("no %s in the status of the process", name)
}
