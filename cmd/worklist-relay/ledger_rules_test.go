package main_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/worklist-relay/worklist-relay/store"
)

// disagreement is one sentence about an action, "" for none in particular.
type disagreement struct{ about, text string }

// disagreements compares the books with each other. None means that all is well.
func (b books) disagreements() (found []disagreement) {
	say := func(id, format string, args ...any) {
		found = append(found, disagreement{id, fmt.Sprintf(format, args...)})
	}
	if left := b.queue.left(); left != 0 {
		say("", "queue: %d messages are left: %+v", left, b.queue)
	}
	for _, id := range slices.Sorted(maps.Keys(b.entries)) {
		e := b.entries[id]
		for _, text := range b.about(e) {
			say(id, "%s %s", e, text)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(b.rows)) {
		if b.entries[id] == nil {
			say(id, "SQL: action %s is nobody's", id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(b.dead)) {
		if b.entries[id] == nil {
			say(id, "dead letters: action %q is nobody's", id)
		}
	}
	for _, g := range b.gateways {
		for _, text := range b.at(g) {
			say("", "gateway %s: %s", g.Name, text)
		}
	}
	return found
}

// about is what does not fit of one action.
func (b books) about(e *entry) (found []string) {
	say := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	row, known := b.rows[e.id]
	if !known {
		return []string{"has no row in SQL"}
	}
	if row.ProviderID != e.provider || row.AccessionNumber != e.accession || row.Creates != (e.status == "") {
		say("is another action in SQL: %s for %s, %s", row.ActionType, row.ProviderID, row.AccessionNumber)
	}
	writes, dead := b.writes[e.id], b.dead[e.id]
	for _, w := range writes {
		if w.gateway != e.provider || w.AccessionNumber != e.accession || w.Status != e.item() {
			say("was applied as %s to %s at %s", w.Status, w.AccessionNumber, w.gateway)
		}
	}
	if len(writes) > 1 {
		say("was applied %d times", len(writes))
	}
	switch row.Status {
	case store.Confirmed:
		if len(writes) == 0 {
			say("is confirmed, and not at its gateway")
		}
		if len(dead) > 0 {
			say("is confirmed, and dead-lettered as %s", strings.Join(dead, ", "))
		}
		if relay := text(row.Relay); !strings.HasSuffix(relay, "/"+e.provider) {
			say("was confirmed over %s", relay)
		}
	case store.Failed:
		found = append(found, b.failed(e, text(row.Reason))...)
	default:
		say("is still %s", row.Status)
	}
	for _, a := range b.attempts[e.id] {
		// No gateway here acks what it was not asked for.
		if text(a.Phase) == "ack_invalid" {
			say("was given the ack of another action in attempt %d: %s", a.Attempt, text(a.Error))
		}
	}
	return append(found, b.unheard(e, row)...)
}

// failed is what does not fit of an action that was given up for a reason.
func (b books) failed(e *entry, reason string) (found []string) {
	dead := b.dead[e.id]
	if len(dead) == 0 {
		found = append(found, "has failed as "+reason+", and is not dead-lettered")
	}
	for _, other := range dead {
		if other != reason {
			found = append(found, fmt.Sprintf("has failed as %s, and is dead-lettered as %s", reason, other))
		}
	}
	if len(b.writes[e.id]) > 0 && reason != "OutcomeAmbiguous" {
		found = append(found, "has failed as "+reason+", and is at its gateway")
	}
	if !b.right(e, reason) {
		found = append(found, "has no cause to fail as "+reason+": "+text(b.rows[e.id].LastError))
	}
	return found
}

// right reports whether an action could end for this reason, and no better.
func (b books) right(e *entry, reason string) bool {
	if e.provider == nowhere {
		return reason == "NoRelay"
	}
	switch reason {
	case "AccessionConflict":
		return e.status == "" && b.applied(e, "SCHEDULED")
	case "OutcomeAmbiguous":
		return e.status != "" && b.unanswered(e)
	case "ItemNotFound":
		// An update whose turn never came, since the one before it has failed.
		before := map[string]string{"IN PROGRESS": "SCHEDULED", "COMPLETED": "IN PROGRESS"}[e.status]
		return before != "" && !b.applied(e, before)
	}
	return false
}

// applied reports whether some action gave e's item this status.
func (b books) applied(e *entry, status string) bool {
	for _, other := range b.entries {
		if other.provider == e.provider && other.accession == e.accession && other.item() == status && len(b.writes[other.id]) > 0 {
			return true
		}
	}
	return false
}

// unanswered reports an attempt that was marked sent, may have arrived, and has
// had no answer.
func (b books) unanswered(e *entry) bool {
	return slices.ContainsFunc(b.attempts[e.id], func(a store.Attempt) bool {
		return a.SentAt != nil && a.Sent != store.SentNo && !a.Answered
	})
}

// unheard is what does not fit of an action whose ack certainly was lost after
// it was applied. A create is found to exist, and that is known to be its own;
// of an update nobody can say.
func (b books) unheard(e *entry, row store.Action) (found []string) {
	for _, w := range b.writes[e.id] {
		switch {
		case !w.AckLost:
		case e.status == "" && !row.Duplicate:
			found = append(found, fmt.Sprintf("is %s, and not as a duplicate, although its ack was lost after it was applied", row.Status))
		case e.status != "" && (row.Status != store.Failed || text(row.Reason) != "OutcomeAmbiguous"):
			found = append(found, fmt.Sprintf("is %s, and not as ambiguous, although its ack was lost after it was applied", row.Status))
		}
	}
	return found
}

// at is what does not fit of a gateway's worklist: every item is one create and
// the updates after it, in order.
func (b books) at(g gatewayBook) (found []string) {
	say := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	before := map[string]string{"SCHEDULED": "", "IN PROGRESS": "SCHEDULED", "COMPLETED": "IN PROGRESS"}
	status, writes, first := map[string]string{}, map[string]int{}, map[string]string{}
	for _, w := range g.Writes {
		if b.entries[w.ActionID] == nil {
			say("action %s, which made %s of %s, is nobody's", w.ActionID, w.Status, w.AccessionNumber)
		}
		if was := status[w.AccessionNumber]; was != before[w.Status] {
			say("item %s became %s when it was %q", w.AccessionNumber, w.Status, was)
		}
		if writes[w.AccessionNumber] == 0 {
			first[w.AccessionNumber] = w.ActionID
		}
		status[w.AccessionNumber] = w.Status
		writes[w.AccessionNumber]++
	}
	for _, item := range g.Items {
		if n := item.AccessionNumber; item.Status != status[n] || item.Writes != writes[n] || item.ActionID != first[n] {
			say("item %+v is not what was written to it", item)
		}
		delete(writes, item.AccessionNumber)
	}
	for _, accession := range slices.Sorted(maps.Keys(writes)) {
		say("item %s is gone", accession)
	}
	return found
}

func text(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}
