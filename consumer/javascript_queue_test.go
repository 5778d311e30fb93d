//go:build unix

package consumer_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// testJavaScriptQueue has broker.mjs do all that there is to do with a queue. What
// it tells of a step is what it saw itself; the counts are the broker's own.
func testJavaScriptQueue(t *testing.T, js javascript) {
	w := newWorld(t, storetest.URL(t, "sqlite"), patient)
	d := js.talk(w, "broker.mjs", "plain")

	d.step("send", `{}`)
	d.counts(servicebustest.QueueState{Active: 1})
	w.isSent()

	d.step("batch", `{"fits": [true, true], "tooLarge": false}`)
	d.counts(servicebustest.QueueState{Active: 5})
	w.haveBodies(`{"name":"É","list":[1,2.5,null]}`, `{"id":"two"}`, `{"id":"three"}`, `bytes`, `"text"`)

	d.step("peek", `{"ids": ["one", "two", "three", "four", "five"]}`)
	d.counts(servicebustest.QueueState{Active: 5})

	d.step("receive", `{"id": "one", "body": {"name": "É", "list": [1, 2.5, null]}, "deliveries": 0, "properties": {"text": "é", "whole": 7, "fraction": 0.5, "flag": true}}`)
	d.counts(servicebustest.QueueState{Locked: 5})

	d.step("renew", `{}`)
	d.same("lock of a message", d.message("two").LockedUntil)

	d.step("complete", `{}`)
	d.counts(servicebustest.QueueState{Locked: 4})

	d.step("abandon", `{"id": "two", "body": {"id": "two"}, "deliveries": 1, "properties": {"why": "not now"}}`)
	d.counts(servicebustest.QueueState{Locked: 4})
	if m := d.message("two"); m.DeliveryCount != 1 || !cmp.Equal(m.Properties, []string{"why"}) {
		t.Errorf("abandoned: %+v", m)
	}

	d.step("defer", `{}`)
	d.counts(servicebustest.QueueState{Locked: 2, Deferred: 1})
	d.step("receive what was deferred", `{"id": "three"}`)
	d.counts(servicebustest.QueueState{Locked: 2})

	d.step("dead-letter", `{}`)
	d.counts(servicebustest.QueueState{Locked: 1, DeadLettered: 1})
	d.step("receive a dead letter", `{"id": "four", "body": "bytes", "reason": "Unwanted", "description": "nobody wants it", "source": "worklist-commands"}`)
	if m := w.broker.Messages(queue + "/$DeadLetterQueue")[0]; m.DeadLetterReason != "Unwanted" || m.State != "locked" {
		t.Errorf("dead letter: %+v", m)
	}
	d.step("empty", `{"left": 0}`)
	d.counts(servicebustest.QueueState{})

	d.step("schedule", `{"numbers": [6, 7], "arrived": "soon"}`)
	d.counts(servicebustest.QueueState{Scheduled: 2, Locked: 1})
	if m := d.message("later"); m.SequenceNumber != 7 || m.State != "scheduled" || time.Until(m.ScheduledTime) < 23*time.Hour {
		t.Errorf("scheduled for tomorrow: %+v", m)
	}
	d.step("cancel", `{}`)
	d.counts(servicebustest.QueueState{Scheduled: 1})

	d.step("receive and delete", `{"ids": ["x"]}`)
	d.counts(servicebustest.QueueState{Active: 2})
	d.step("subscribe", `{"ids": ["y", "z"]}`)
	d.counts(servicebustest.QueueState{})
	d.step("refusals", `{"unknownQueue": "MessagingEntityNotFound", "wrongKey": "UnauthorizedAccess", "notDeferred": "MessageNotFound"}`)
}

// testJavaScriptSessions is the same for a queue that requires sessions.
func testJavaScriptSessions(t *testing.T, js javascript) {
	w := newWorld(t, storetest.URL(t, "sqlite"), patient, inSessions)
	d := js.talk(w, "broker.mjs", "sessions")

	d.step("send", `{}`)
	d.sessions("hull 1", "leeds 2")
	d.step("accept", `{"session": "leeds"}`)
	d.sessions("hull 1", "leeds 2 held")
	d.same("lock of the session", w.broker.Sessions(queue)[1].LockedUntil)
	d.step("refusals", `{"held": "SessionCannotBeLocked", "noSession": "GeneralError", "noSessionReceiver": "GeneralError"}`)
	d.counts(servicebustest.QueueState{Active: 3})
	d.step("accept next", `{"session": "hull"}`)
	d.sessions("hull 1 held", "leeds 2 held")

	d.step("renew", `{}`)
	d.same("lock of the session", w.broker.Sessions(queue)[1].LockedUntil)
	d.step("state", `{"fresh": null, "then": "half way"}`)
	d.step("peek", `{"ids": ["leeds 1", "leeds 2"]}`)
	d.step("abandon", `{"id": "leeds 1", "body": 1, "deliveries": 1}`)
	d.counts(servicebustest.QueueState{Active: 2, Locked: 1})
	d.step("settle", `{}`)
	d.counts(servicebustest.QueueState{Active: 1, DeadLettered: 1})
	d.sessions("hull 1 held", "leeds 0 held")
	d.step("close", `{}`)
	d.sessions()
	d.step("none left", `{"next": "ServiceTimeout"}`)

	d.step("schedule", `{"session": "york", "id": "york 1"}`)
	d.sessions("york 1 held")
}

// counts waits until the broker counts the messages as wanted.
func (d *dialogue) counts(want servicebustest.QueueState) {
	d.w.t.Helper()
	want.Name = queue
	d.w.until(fmt.Sprintf("after step %q: %+v", d.at, want), func() bool { return d.w.queueState() == want })
}

// sessions waits until the broker has these: "leeds 2 held" is one of two messages
// that somebody has the lock of.
func (d *dialogue) sessions(want ...string) {
	d.w.t.Helper()
	d.w.until(fmt.Sprintf("after step %q: sessions %q", d.at, want), func() bool {
		var got []string
		for _, s := range d.w.broker.Sessions(queue) {
			one := fmt.Sprintf("%s %d", s.ID, s.Messages)
			if s.Held {
				one += " held"
			}
			got = append(got, one)
		}
		return slices.Equal(got, want)
	})
}

// same compares the moment that the script told with the broker's, to the
// millisecond that a message's timestamp has (section 1.6.17).
func (d *dialogue) same(what string, broker time.Time) {
	d.w.t.Helper()
	if diff := broker.Sub(d.until); diff < 0 || diff >= time.Millisecond {
		d.w.t.Errorf("step %q: the %s holds until %s, the broker says %s", d.at, what, d.until, broker)
	}
}

// message is what the broker knows of the message with an id.
func (d *dialogue) message(id string) servicebustest.MessageState {
	d.w.t.Helper()
	for _, m := range d.w.broker.Messages(queue) {
		if m.MessageID == id {
			return m
		}
	}
	d.w.t.Fatalf("step %q: no message %s in the queue", d.at, id)
	return servicebustest.MessageState{}
}

// isSent holds the first message, as the Go SDK reads it, against what the script sends.
func (w *world) isSent() {
	w.t.Helper()
	m := w.enqueued(1)[0]
	type content struct {
		ID, Type, Subject, Correlation, To, ReplyTo string
		TTL                                         time.Duration
		Properties                                  map[string]any
	}
	want := content{"one", "application/json", "subject", "correlation", "to", "reply", time.Hour, map[string]any{
		"text": "é", "whole": uint32(7), "fraction": 0.5, "flag": true,
	}}
	got := content{m.MessageID, text(m.ContentType), text(m.Subject), text(m.CorrelationID), text(m.To), text(m.ReplyTo), *m.TimeToLive, m.ApplicationProperties}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Error(diff)
	}
}

// haveBodies compares the bodies in the queue byte by byte.
func (w *world) haveBodies(want ...string) {
	w.t.Helper()
	var got []string
	for _, m := range w.enqueued(len(want)) {
		got = append(got, string(m.Body))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Error(diff)
	}
}
