package consumer_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
)

// sentSituations are about what the gateway does with a frame.
var sentSituations = []situation{
	{"36_cached_connection_found_closed", func(t *testing.T, url string) {
		w := running(t, url, func(_ *world, g *relaytest.GatewayConfig) { g.Mode = relaytest.ModePersistent })
		w.enqueue(newCreate())
		w.noDeadLetter()
		w.relay.CloseSenders(provider, 1000)
		id := w.enqueue(newCreate())
		w.noDeadLetter()
		w.confirmedIn(id, 1)
		w.writtenOnce(2)
	}},
	{"38_created", func(t *testing.T, url string) {
		w := running(t, url)
		id := w.enqueue(newCreate())
		w.noDeadLetter()
		row := w.confirmedIn(id, 1)
		if row.SentAt == nil || row.ConfirmedAt == nil || row.ConfirmedAt.Before(*row.SentAt) || row.LastError != nil {
			t.Errorf("row is sent at %v, confirmed at %v, last error %q", row.SentAt, row.ConfirmedAt, text(row.LastError))
		}
		w.writtenOnce(1)
	}},
	{"38_last_error_is_cleared", func(t *testing.T, url string) {
		w := running(t, url)
		w.gateway.Script(relaytest.Reply{Text: `{"status":"error","message":"database is locked"}`})
		id := w.enqueue(newCreate())
		w.noDeadLetter()
		if row := w.confirmedIn(id, 2); row.LastError != nil || row.NextRetryAt != nil {
			t.Errorf("last error %q, next retry %v", text(row.LastError), row.NextRetryAt)
		}
	}},
	{"39_processed", replied(`{"status":"processed"}`, store.Confirmed, "", "")},
	{"40_updated", func(t *testing.T, url string) {
		w := running(t, url)
		create := newCreate()
		w.enqueue(create)
		w.noDeadLetter()
		id := w.enqueue(newUpdate(create, "in progress"))
		w.noDeadLetter()
		w.confirmedIn(id, 1)
	}},
	{"41_created_with_another_actions_id", func(t *testing.T, url string) {
		w := running(t, url)
		w.always(`{"status":"created","action_id":"00000000-0000-4000-8000-000000000000"}`)
		id := w.enqueue(newCreate())
		w.deadLetter(consumer.ReasonBadAck)
		w.hasRow(id, store.Failed, consumer.ReasonBadAck, relay.PhaseAckInvalid)
		w.frames(5)
		if s := w.relay.Stats(provider); s.Rendezvous != 5 {
			t.Errorf("%d rendezvous, want a new one each time", s.Rendezvous)
		}
	}},
	{"42_exists_with_evidence", func(t *testing.T, url string) {
		for _, release := range []relaytest.Release{relaytest.ReleaseCurrent, relaytest.ReleaseDuplicate, relaytest.ReleaseFirst} {
			w := running(t, url, func(_ *world, g *relaytest.GatewayConfig) { g.Release = release })
			w.gateway.Script(relaytest.Reply{Apply: true, Drop: true}) // stored, and the ack is lost
			id := w.enqueue(newCreate())
			w.noDeadLetter()
			if row := w.confirmedIn(id, 2); !row.Duplicate {
				t.Error("the row does not note the duplicate")
			}
			w.writtenOnce(1)
		}
	}},
	{"43_exists_without_evidence", replied(`{"status":"exists"}`, store.Failed, consumer.ReasonAccessionConflict, relay.PhaseAckError)},
	{"43_an_answered_attempt_is_no_evidence", func(t *testing.T, url string) {
		w := running(t, url)
		w.gateway.Script(relaytest.Reply{Text: `{"status":"error","message":"something else"}`}, relaytest.Reply{Text: `{"status":"exists"}`})
		id := w.enqueue(newCreate())
		w.deadLetter(consumer.ReasonAccessionConflict)
		w.hasRow(id, store.Failed, consumer.ReasonAccessionConflict, relay.PhaseAckError)
	}},
	{"44_error_of_a_permanent_kind", func(t *testing.T, url string) {
		w := running(t, url)
		for i, message := range []string{"Missing key: 'SYNTHETIC'", "Unsupported action: X", "Cannot transition to 'X'", "No patient name", "Error binding parameter 3", "object has no attribute 'SYNTHETIC'"} {
			w.gateway.Script(relaytest.Reply{Text: fmt.Sprintf(`{"status":"error","message":%q}`, message)})
			id := w.enqueue(newCreate())
			w.until("dead-lettered", func() bool { return w.queueState().DeadLettered == i+1 })
			row := w.hasRow(id, store.Failed, consumer.ReasonGatewayRejected, relay.PhaseAckError)
			if row.Attempts != 1 {
				t.Errorf("%q: %d attempts, want 1", message, row.Attempts)
			}
		}
	}},
	{"44_a_refused_create_holds_no_accession_number", func(t *testing.T, url string) {
		w := running(t, url)
		w.gateway.Script(relaytest.Reply{Text: `{"status":"error","message":"No patient name"}`})
		refused := newCreate()
		w.enqueue(refused)
		w.deadLetter(consumer.ReasonGatewayRejected)
		id := w.enqueue(newCreate().with("parameters.worklist_item.accession_number", refused.accession()))
		w.drained()
		w.confirmedIn(id, 1)
	}},
	{"45_error_of_a_transient_kind", func(t *testing.T, url string) {
		w := newWorld(t, url)
		w.consumer.Retry.MostArrived = 2 // must not count: nothing was stored
		w.run()
		for _, message := range []string{"database is locked", "disk I/O error", "unable to open database file", "database or disk is full", "attempt to write a readonly database", "no such table: items"} {
			w.gateway.Script(relaytest.Reply{Text: fmt.Sprintf(`{"status":"error","message":%q}`, message)})
		}
		id := w.enqueue(newCreate())
		w.noDeadLetter()
		w.confirmedIn(id, 7)
		w.writtenOnce(1)
	}},
	{"45_waits_as_sent", waitsAfter(`{"status":"error","error":"database is locked"}`, relay.PhaseAckError)},
	{"46_error_of_unknown_text", func(t *testing.T, url string) {
		w := running(t, url)
		w.always(fmt.Sprintf(`{"status":"error","error":"%s born %s is odd"}`, leaktest.Name, leaktest.BirthDate))
		id := w.enqueue(newCreate())
		w.deadLetter(consumer.ReasonGatewayRejected)
		w.hasRow(id, store.Failed, consumer.ReasonGatewayRejected, relay.PhaseAckError)
		w.frames(5)
	}},
	{"47_update_not_found", func(t *testing.T, url string) {
		w := running(t, url)
		id := w.enqueue(newUpdate(newCreate(), "COMPLETED"))
		w.deadLetter(consumer.ReasonItemNotFound)
		w.hasRow(id, store.Failed, consumer.ReasonItemNotFound, relay.PhaseAckError)
		w.frames(5)
	}},
	{"48_update_not_found_with_evidence", func(t *testing.T, url string) {
		w := running(t, url)
		create := newCreate()
		w.enqueue(create)
		w.noDeadLetter()
		w.gateway.Script(relaytest.Reply{Apply: true, Drop: true})
		id := w.enqueue(newUpdate(create, "IN PROGRESS"))
		w.deadLetter(consumer.ReasonOutcomeAmbiguous)
		w.hasRow(id, store.Failed, consumer.ReasonOutcomeAmbiguous, relay.PhaseAckError)
		w.frames(3)
	}},
	{"49_no_ack_in_time", func(t *testing.T, url string) {
		w := newWorld(t, url, func(w *world, _ *relaytest.GatewayConfig) { w.gateways.AckTimeout = time.Second })
		w.consumer.Retry.Delays = []time.Duration{time.Hour}
		w.run()
		w.gateway.Script(relaytest.Reply{KeepOpen: true})
		id := w.enqueue(newCreate())
		w.waiting(1)
		w.hasRow(id, store.Sent, "", relay.PhaseAckTimeout)
		w.until("the socket is discarded", func() bool { return w.relay.Stats(provider).Open == 0 })
	}},
	{"49_the_lock_is_renewed_for_as_long_as_the_ack_takes", func(t *testing.T, url string) {
		w := newWorld(t, url, func(w *world, _ *relaytest.GatewayConfig) {
			w.lock = 6 * time.Second
		})
		w.run()
		acked, goOn := w.stopAfter("exchange")
		id := w.enqueue(newCreate())
		acked()
		locked := w.broker.Messages(queue)[0].LockedUntil
		w.until("it would have run out by now", func() bool { return time.Now().After(locked) })
		goOn()
		w.noDeadLetter()
		w.confirmedIn(id, 1)
		w.frames(1)
		w.until("it is logged", func() bool { return strings.Contains(w.log.String(), `"msg":"settled"`) }) // after the queue is empty
		if log := w.log.String(); strings.Count(log, `"msg":"settled"`) != 1 || strings.Contains(log, "lock not renewed") {
			t.Errorf("it was delivered again\n%s", log)
		}
	}},
	{"50_a_late_ack_belongs_to_nobody", func(t *testing.T, url string) {
		w := newWorld(t, url, func(w *world, g *relaytest.GatewayConfig) {
			w.gateways.AckTimeout, g.Mode = 4*time.Second, relaytest.ModePersistent
		})
		w.consumer.Concurrency = 1
		w.consumer.Retry.Delays = []time.Duration{time.Hour}
		w.run()
		late, next := newCreate(), newCreate()
		w.gateway.Script(relaytest.Reply{Text: `{"status":"processed"}`, After: 5 * time.Second},
			relaytest.Reply{Text: `{"status":"error","message":"No patient name"}`})
		w.enqueue(late, next)
		w.until("the next is refused", func() bool { return w.row(next.id()).Status == store.Failed })
		w.hasRow(late.id(), store.Sent, "", relay.PhaseAckTimeout)
	}},
	{"51_close_1000_without_a_reply", func(t *testing.T, url string) {
		w := running(t, url)
		w.gateway.Script(repeat(5, relaytest.Reply{Close: 1000})...)
		id := w.enqueue(newCreate())
		w.deadLetter(consumer.ReasonClosedWithoutReply)
		w.hasRow(id, store.Failed, consumer.ReasonClosedWithoutReply, relay.PhaseAckClosed)
		w.frames(5)
	}},
	{"51_a_clean_close_is_an_answer_and_no_evidence", func(t *testing.T, url string) {
		w := running(t, url)
		w.gateway.Script(relaytest.Reply{Close: 1000}, relaytest.Reply{Text: `{"status":"exists"}`})
		w.enqueue(newCreate())
		w.deadLetter(consumer.ReasonAccessionConflict)
	}},
	{"52_close_1009", func(t *testing.T, url string) {
		w := running(t, url)
		w.gateway.Script(relaytest.Reply{Close: 1009})
		id := w.enqueue(newCreate())
		w.deadLetter(consumer.ReasonPayloadTooLarge)
		w.hasRow(id, store.Failed, consumer.ReasonPayloadTooLarge, relay.PhaseAckClosed)
		w.frames(1)
	}},
	{"53_connection_lost_after_the_frame", func(t *testing.T, url string) {
		for _, end := range []relaytest.Reply{{Close: 1001}, {Close: 1008}, {Close: 1011}, {Drop: true}} {
			w := newWorld(t, url)
			w.consumer.Retry.Delays = []time.Duration{time.Hour}
			stop := w.run()
			w.gateway.Script(end)
			id := w.enqueue(newCreate())
			w.waiting(1)
			w.hasRow(id, store.Sent, "", relay.PhaseAckLost)
			w.frames(1)
			stop()
		}
	}},
	{"54_ack_read_then_the_connection_breaks", func(t *testing.T, url string) {
		w := running(t, url)
		w.gateway.Script(relaytest.Reply{Honest: true, Apply: true, Drop: true})
		id := w.enqueue(newCreate())
		w.noDeadLetter()
		w.confirmedIn(id, 1)
	}},
	{"55_ack_is_none", func(t *testing.T, url string) {
		w := running(t, url)
		bad := []string{leaktest.Name, `["created"]`, `{"action_id":null}`, `{"status":7}`, `{"status":"created","pad":"` + strings.Repeat("SYNTHETIC", 8000) + `"}`}
		for _, text := range bad {
			w.gateway.Script(relaytest.Reply{Text: text})
		}
		id := w.enqueue(newCreate())
		w.deadLetter(consumer.ReasonBadAck)
		w.hasRow(id, store.Failed, consumer.ReasonBadAck, relay.PhaseAckInvalid)
		w.frames(len(bad))
	}},
	{"56_ack_in_a_binary_frame", func(t *testing.T, url string) {
		w := running(t, url)
		w.gateway.Script(relaytest.Reply{Honest: true, Apply: true, Binary: true})
		id := w.enqueue(newCreate())
		w.noDeadLetter()
		w.confirmedIn(id, 1)
	}},
	{"57_ack_and_an_extra_frame", func(t *testing.T, url string) {
		w := newWorld(t, url, func(_ *world, g *relaytest.GatewayConfig) { g.Mode = relaytest.ModePersistent })
		w.consumer.Concurrency = 1
		w.run()
		w.gateway.Script(relaytest.Reply{Honest: true, Apply: true, Extra: []string{`{"status":"error","message":"No patient name"}`}})
		first, second := newCreate(), newCreate()
		w.enqueue(first, second)
		w.noDeadLetter()
		w.confirmedIn(first.id(), 1)
		w.confirmedIn(second.id(), 1)
		if s := w.relay.Stats(provider); s.Rendezvous != 2 {
			t.Errorf("%d rendezvous, want 2: the socket must not be used again", s.Rendezvous)
		}
	}},
	{"58_one_shot_gateway_and_100_actions", func(t *testing.T, url string) {
		w := running(t, url)
		w.hundred()
		w.writtenOnce(100)
		if s := w.gateway.Snapshot(); s.Dials != 100 || s.MaxOpen != 1 {
			t.Errorf("%d dials, %d open at once, want 100 and 1", s.Dials, s.MaxOpen)
		}
	}},
	{"59_persistent_gateway_and_100_actions", func(t *testing.T, url string) {
		w := running(t, url, func(_ *world, g *relaytest.GatewayConfig) { g.Mode = relaytest.ModePersistent })
		w.hundred()
		w.writtenOnce(100)
		if s := w.gateway.Snapshot(); s.Dials != 1 {
			t.Errorf("%d dials, want 1", s.Dials)
		}
	}},
	{"95_gateway_closes_50_ms_after_its_ack", func(t *testing.T, url string) {
		w := newWorld(t, url, func(_ *world, g *relaytest.GatewayConfig) { g.CloseDelay = 50 * time.Millisecond })
		w.consumer.Concurrency = 1
		w.run()
		first, second := newCreate(), newCreate()
		w.enqueue(first, second)
		w.noDeadLetter()
		w.confirmedIn(first.id(), 1)
		w.confirmedIn(second.id(), 1)
		w.frames(2)
	}},
	{"95_reused_socket_ends_before_the_ack", func(t *testing.T, url string) {
		w := running(t, url, func(_ *world, g *relaytest.GatewayConfig) { g.Mode = relaytest.ModePersistent })
		w.enqueue(newCreate())
		w.noDeadLetter()
		w.gateway.Script(relaytest.Reply{Drop: true})
		id := w.enqueue(newCreate())
		w.noDeadLetter()
		w.confirmedIn(id, 1)
		w.frames(3)
	}},
	{"43_a_conflict_holds_no_accession_number", func(t *testing.T, url string) {
		holdsNothing(t, url, relaytest.Reply{Text: `{"status":"exists"}`}, consumer.ReasonAccessionConflict) // it is another's item
	}},
	{"52_what_is_too_large_holds_no_accession_number", func(t *testing.T, url string) {
		holdsNothing(t, url, relaytest.Reply{Close: 1009}, consumer.ReasonPayloadTooLarge)
	}},
	{"95_the_copy_that_broke_stays_evidence", brokenCopyStaysEvidence},
	{"43_evidence_at_another_gateway_is_none", evidenceElsewhere},
	{"50_a_late_error_on_a_connection_that_was_kept", lateErrorOnKeptConnection},
}

// replied is the situation of one reply that decides at once.
func replied(reply string, status store.Status, reason consumer.Reason, phase relay.Phase) func(*testing.T, string) {
	return func(t *testing.T, url string) {
		w := running(t, url)
		w.gateway.Script(relaytest.Reply{Text: reply})
		id := w.enqueue(newCreate())
		if reason != "" {
			w.deadLetter(reason)
		} else {
			w.noDeadLetter()
		}
		w.hasRow(id, status, reason, phase)
		w.frames(1)
	}
}

// waitsAfter is the situation of one reply after which the action waits as sent.
func waitsAfter(reply string, phase relay.Phase) func(*testing.T, string) {
	return func(t *testing.T, url string) {
		w := newWorld(t, url)
		w.consumer.Retry.Delays = []time.Duration{time.Hour}
		w.run()
		w.gateway.Script(relaytest.Reply{Text: reply})
		id := w.enqueue(newCreate())
		w.waiting(1)
		row := w.hasRow(id, store.Sent, "", phase)
		if row.NextRetryAt == nil || row.RetryCount != 1 {
			t.Errorf("next retry %v, count %d", row.NextRetryAt, row.RetryCount)
		}
	}
}

// always makes the gateway answer everything with one text.
func (w *world) always(reply string) {
	w.gateway.Script(repeat(10, relaytest.Reply{Text: reply})...)
}

func repeat(n int, r relaytest.Reply) []relaytest.Reply {
	list := make([]relaytest.Reply, n)
	for i := range list {
		list[i] = r
	}
	return list
}

// hundred sends a hundred creates and waits for their confirmation.
func (w *world) hundred() {
	w.t.Helper()
	var all []action
	for range 100 {
		all = append(all, newCreate())
	}
	w.enqueue(all...)
	w.noDeadLetter()
	for _, a := range all {
		w.confirmedIn(a.id(), 1)
	}
}

// confirmedIn checks a confirmed row and its number of attempts.
func (w *world) confirmedIn(id string, attempts int) store.Action {
	w.t.Helper()
	row := w.hasRow(id, store.Confirmed, "", "")
	if row.Attempts != attempts {
		w.t.Errorf("confirmed in %d attempts, want %d\n%s", row.Attempts, attempts, w.log)
	}
	return row
}

// writtenOnce checks that the gateway holds n items, each written once.
func (w *world) writtenOnce(n int) {
	w.t.Helper()
	items := w.gateway.Snapshot().Items
	if len(items) != n {
		w.t.Errorf("the gateway holds %d items, want %d", len(items), n)
	}
	for _, item := range items {
		if item.Writes != 1 {
			w.t.Errorf("item %s was written %d times", item.AccessionNumber, item.Writes)
		}
	}
}
