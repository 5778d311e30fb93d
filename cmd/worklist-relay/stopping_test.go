package main_test

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
)

// stoppedSituations are about a process that is told to stop.
var stoppedSituations = []situation{
	{"73_sigterm_with_actions_in_flight", func(t *testing.T, s *scene) {
		s.env["CONCURRENCY"], s.env["ACK_TIMEOUT"] = "50", "8s" // all must be in hand before one is not waited for any more
		s.env["SHUTDOWN_GRACE"], s.env["HTTP_ADDR"] = "5m", freeAddr(t)
		answer := make(chan struct{})
		s.toRelay.holdBy(acksWait(answer))
		f := s.newFleet()
		first := s.start()
		s.until("all are in hand, at the gateways or on the way to them", f.underway)
		first.signal(syscall.SIGTERM)
		s.until("it stops receiving", func() bool { return first.log.has("no longer receiving") })
		s.until("/readyz says that it stops", func() bool { return strings.Contains(s.fetch("/readyz"), `"ready":false,"state":"stopping"`) })
		late := f.enqueue(f.slow[0])
		close(answer)
		first.exits(0)
		if row := s.row(late); row.ActionID != "" {
			t.Errorf("received after SIGTERM: %+v", row)
		}
		f.nothingLost()
		f.letThrough()
		s.start()
		s.until("all are confirmed", func() bool { return f.counts()[store.Confirmed] == len(f.ids) })
		s.until("the queue is empty", func() bool { q := s.queueState(); return q.Active+q.Locked+q.Scheduled == 0 })
		f.itemsOnce()
	}},
}

// fleet is fifty actions for ten gateways: some slow, some that take a frame
// and say nothing, some that cannot be reached yet.
type fleet struct {
	s                     *scene
	slow, silent, stalled []*relaytest.Gateway
	ids                   []string
	items                 map[*relaytest.Gateway]int // each must have in the end
}

func (s *scene) newFleet() *fleet {
	s.t.Helper()
	f := &fleet{s: s, items: map[*relaytest.Gateway]int{}}
	for i := range 10 {
		g := s.addGateway(fmt.Sprintf("gateway-%d", i))
		switch {
		case i < 4:
			f.slow = append(f.slow, g)
		case i < 7:
			g.Script(relaytest.Reply{Apply: true, KeepOpen: true})
			f.silent = append(f.silent, g)
		default:
			s.relay.Stall(g.Name(), -1)
			f.stalled = append(f.stalled, g)
		}
		for range 5 {
			f.enqueue(g)
		}
	}
	return f
}

func (f *fleet) enqueue(to *relaytest.Gateway) (id string) {
	f.s.t.Helper()
	id = f.s.enqueue(to.Name())
	f.ids = append(f.ids, id)
	f.items[to]++
	return id
}

// underway reports that every action is in hand, and one at each gateway or on
// the way to it.
func (f *fleet) underway() bool {
	for g := range f.items {
		if f.s.relay.Stats(g.Name()).Dials == 0 {
			return false
		}
	}
	for _, list := range [][]*relaytest.Gateway{f.slow, f.silent} {
		for _, g := range list {
			if len(g.Frames()) == 0 {
				return false
			}
		}
	}
	return f.s.queueState().Locked == len(f.ids)
}

func (f *fleet) letThrough() {
	for _, g := range f.stalled {
		f.s.relay.Stall(g.Name(), 0)
	}
}

// nothingLost checks what a process leaves that was told to stop: each frame at
// a slow gateway had its ack recorded, one at a silent gateway waits as sent, and
// what was not confirmed is in the queue.
func (f *fleet) nothingLost() {
	f.s.t.Helper()
	acked := 0
	for _, g := range f.slow {
		acked += len(g.Frames())
	}
	counts := f.counts()
	if counts[store.Confirmed] != acked || counts[store.Failed] != 0 {
		f.s.t.Errorf("rows %v, want %d confirmed and none failed", counts, acked)
	}
	if counts[store.Sent] != len(f.silent) {
		f.s.t.Errorf("rows %v, want %d sent", counts, len(f.silent))
	}
	if q := f.s.queueState(); q.Active+q.Locked+q.Scheduled != len(f.ids)-acked || q.DeadLettered != 0 {
		f.s.t.Errorf("queue %+v, want %d of %d messages and no dead letter", q, len(f.ids)-acked, len(f.ids))
	}
}

func (f *fleet) counts() map[store.Status]int {
	f.s.t.Helper()
	counts, err := f.s.store.Counts(context.Background())
	f.s.must(err)
	return counts
}

func (f *fleet) itemsOnce() {
	f.s.t.Helper()
	for g, want := range f.items {
		items := g.Snapshot().Items
		if len(items) != want {
			f.s.t.Errorf("%s holds %d items, want %d", g.Name(), len(items), want)
		}
		for _, item := range items {
			if item.Writes != 1 {
				f.s.t.Errorf("%s: item of %s was written %d times", g.Name(), item.ActionID, item.Writes)
			}
		}
	}
	if n := f.s.queueState().DeadLettered; n != 0 {
		f.s.t.Errorf("%d dead letters", n)
	}
}
