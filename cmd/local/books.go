package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
)

// books are what queue, gateways and SQL each say of the samples.
type books struct {
	queue    servicebustest.QueueState
	fates    map[string]fate // by label; those that were sent
	gateways []relaytest.Snapshot
	rows     map[string]row // by action id
}

// fate is what became of a sample that was sent.
type fate struct {
	sent    time.Time
	settled bool
	reason  string        // of the dead letter; "": completed
	took    time.Duration // from sending to when it was seen to be settled
}

// row is an action in SQL, with the phases in which tries of it failed.
type row struct {
	store.Action
	phases []string
}

// openBooks reads what there is to read; the fates are what a watcher saw.
func (s *stack) openBooks(ctx context.Context, list []sample, fates map[string]fate) (books, error) {
	b := books{fates: fates, gateways: s.snapshots(), rows: map[string]row{}}
	for _, q := range s.broker.Queues() {
		if q.Name == queueName {
			b.queue = q
		}
	}
	actions, err := s.store.Actions(ctx, store.ActionFilter{Limit: 10 * len(list)})
	if err != nil {
		return b, err
	}
	for _, a := range actions {
		_, attempts, _, err := s.store.Action(ctx, a.ProviderID, a.ActionID)
		if err != nil {
			return b, err
		}
		r := row{Action: a}
		for _, attempt := range attempts {
			if attempt.Phase != nil && *attempt.Phase != "" {
				r.phases = append(r.phases, *attempt.Phase)
			}
		}
		b.rows[a.ActionID] = r
	}
	return b, nil
}

// snapshots is what each gateway of ours has seen and stored, in the order in
// which they were asked for.
func (s *stack) snapshots() []relaytest.Snapshot {
	snapshots := []relaytest.Snapshot{}
	for _, g := range s.gateways {
		if attached := s.attached[g.Name]; attached != nil {
			snapshots = append(snapshots, attached.Snapshot())
		}
	}
	return snapshots
}

// disagreements compares the three books with what the samples expect, and so
// with each other. Each is one sentence; none means that all is well.
func (b books) disagreements(list []sample) []string {
	found := b.inQueue(list)
	found = append(found, b.inSQL(list)...)
	return append(found, b.atGateways(list)...)
}

func (b books) inQueue(list []sample) (found []string) {
	dead := 0
	for _, s := range list {
		if s.reason != "" {
			dead++
		}
		was, sent := b.fates[s.label]
		switch {
		case !sent:
			found = append(found, fmt.Sprintf("queue: %s was not sent", s))
		case !was.settled:
			found = append(found, fmt.Sprintf("queue: %s is not settled", s))
		case was.reason != string(s.reason):
			found = append(found, fmt.Sprintf("queue: %s is %s, not %s", s, outcomeText(was.reason), outcomeText(string(s.reason))))
		}
	}
	if left := b.left(); left != 0 {
		found = append(found, fmt.Sprintf("queue: %d messages are left", left))
	}
	if b.queue.DeadLettered != dead {
		found = append(found, fmt.Sprintf("queue: %d messages are dead-lettered, not %d", b.queue.DeadLettered, dead))
	}
	return found
}

func (b books) inSQL(list []sample) (found []string) {
	expected := map[string]bool{}
	for _, s := range list {
		if s.row == "" {
			continue
		}
		expected[s.actionID] = true
		r, exists := b.rows[s.actionID]
		switch {
		case !exists:
			found = append(found, fmt.Sprintf("SQL: %s has no row", s))
		case r.Status != s.row || deref(r.Reason) != string(s.reason):
			found = append(found, fmt.Sprintf("SQL: %s is %s %s, not %s %s", s, r.Status, deref(r.Reason), s.row, s.reason))
		case r.Attempts != s.sends:
			found = append(found, fmt.Sprintf("SQL: %s took %d tries, not %d", s, r.Attempts, s.sends))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(b.rows)) {
		if !expected[id] {
			found = append(found, fmt.Sprintf("SQL: action %s is nobody's", id))
		}
	}
	return found
}

// atGateways holds every item against the samples that must have made and
// moved it, each having been written once.
func (b books) atGateways(list []sample) (found []string) {
	expected := map[string]relaytest.Item{} // by gateway and accession number
	for _, s := range list {
		if s.item == "" {
			continue
		}
		key := s.gateway + " " + s.accession
		item, exists := expected[key]
		if !exists {
			item = relaytest.Item{AccessionNumber: s.accession, ActionID: s.actionID}
		}
		item.Status = s.item
		item.Writes++
		expected[key] = item
	}
	for _, g := range b.gateways {
		for _, item := range g.Items {
			key := g.Name + " " + item.AccessionNumber
			if want := expected[key]; item != want {
				found = append(found, fmt.Sprintf("gateway %s: item %s is %+v, not %+v", g.Name, item.AccessionNumber, item, want))
			}
			delete(expected, key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(expected)) {
		found = append(found, "gateway "+key+": the item is missing")
	}
	return found
}

// left is how many messages are in the queue and not dead-lettered.
func (b books) left() int {
	return b.queue.Active + b.queue.Scheduled + b.queue.Locked + b.queue.Deferred
}

// writes is how many creates and updates the gateways applied, to how many items.
func (b books) writes() (writes, items int) {
	for _, g := range b.gateways {
		items += len(g.Items)
		for _, item := range g.Items {
			writes += item.Writes
		}
	}
	return writes, items
}

// rowsOf is how many rows have the status.
func (b books) rowsOf(status store.Status) (n int) {
	for _, r := range b.rows {
		if r.Status == status {
			n++
		}
	}
	return n
}

// String names a sample for people.
func (s sample) String() string {
	return fmt.Sprintf("%s (%s, %s)", s.label, s.what, s.gateway)
}

func outcomeText(reason string) string {
	if reason == "" {
		return "completed"
	}
	return "dead-lettered " + reason
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
