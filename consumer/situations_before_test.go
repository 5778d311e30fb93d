package consumer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
)

// beforeSituations end or wait before anything is sent.
var beforeSituations = slices.Concat(invalidSituations(), []situation{
	{"09_no_relay_for_the_provider_and_setting", func(t *testing.T, url string) {
		w := running(t, url)
		named := newCreate()
		m := named.message()
		m.ApplicationProperties["setting_id"] = "elsewhere" // the provider has a default, which must not serve it
		w.send(m)
		w.deadLetter(consumer.ReasonNoRelay)
		w.hasRow(named.id(), store.Failed, consumer.ReasonNoRelay, "")
		w.nothingSent()
	}},
	{"09_a_setting_has_its_own_relay", func(t *testing.T, url string) {
		w := running(t, url)
		w.relay.Create(relaytest.HybridConnection{Path: "leeds-north", Keys: []relaytest.Key{sendKey, listenKey}})
		north, err := relaytest.NewGateway(relaytest.GatewayConfig{Name: "leeds-north", Relay: w.relay, Key: listenKey})
		w.must(err)
		t.Cleanup(func() { w.check(north.Close()) })
		setting := "north"
		w.addRelay(provider, &setting, w.relay.Addr(), "leeds-north", "LEEDS_KEY")
		a := newCreate()
		m := a.message()
		m.ApplicationProperties["setting_id"] = setting
		w.send(m)
		w.noDeadLetter()
		w.hasRow(a.id(), store.Confirmed, "", "")
		w.nothingSent()
		if n := len(north.Frames()); n != 1 {
			t.Errorf("%d frames at the setting's gateway, want 1", n)
		}
	}},
	{"10_key_variable_is_not_set", func(t *testing.T, url string) {
		w := newWorld(t, url)
		w.consumer.Retry.Postponements = []time.Duration{time.Hour}
		w.addRelay(provider, nil, w.relay.Addr(), provider, "FORGOTTEN")
		w.run()
		id := w.enqueue(newCreate())
		w.waiting(1)
		row := w.hasRow(id, store.Pending, "", relay.PhaseAuth)
		if row.Attempts != 0 || !strings.Contains(text(row.LastError), "FORGOTTEN") {
			t.Errorf("row has %d attempts and error %q, want none and the variable's name", row.Attempts, text(row.LastError))
		}
		if err := w.consumer.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
		w.enqueue(newCreate(), newCreate())
		w.waiting(3)
		if n := strings.Count(w.log.String(), `"level":"ERROR"`); n != 1 {
			t.Errorf("%d errors logged within a minute, want 1", n)
		}
	}},
	{"10_an_action_without_a_key_still_expires", func(t *testing.T, url string) {
		w := newWorld(t, url)
		w.addRelay(provider, nil, w.relay.Addr(), provider, "FORGOTTEN")
		w.ahead.Store(int64(72 * time.Hour))
		w.run()
		w.enqueue(newCreate())
		w.deadLetter(consumer.ReasonExpired)
	}},
	{"11_relay_host_is_not_allowed", func(t *testing.T, url string) {
		w := newWorld(t, url)
		w.addRelay(provider, nil, "relay.example.org", provider, "LEEDS_KEY")
		w.run()
		id := w.enqueue(newCreate())
		if d := w.deadLetter(consumer.ReasonNoRelay); !strings.Contains(d, "host not allowed") {
			t.Errorf("description %q", d)
		}
		w.hasRow(id, store.Failed, consumer.ReasonNoRelay, "")
	}},
	{"12_same_action_id_with_other_content", func(t *testing.T, url string) {
		w := running(t, url)
		a := newCreate()
		w.enqueue(a)
		w.noDeadLetter()
		before := w.row(a.id())
		w.enqueue(a.with("parameters.worklist_item.scheduled.time", "101500"))
		w.deadLetter(consumer.ReasonActionConflict)
		w.sameRow(before)
		w.frames(1)
	}},
	{"12_key_order_and_timestamp_do_not_matter", func(t *testing.T, url string) {
		w := running(t, url)
		a := newCreate()
		w.enqueue(a)
		w.noDeadLetter()
		m := a.message()
		m.Body = reordered(a)
		w.send(m)
		w.noDeadLetter()
		w.frames(1)
	}},
	{"13_the_row_is_another_providers", func(t *testing.T, url string) {
		w := running(t, url)
		a := newCreate()
		w.enqueue(a)
		w.noDeadLetter()
		before := w.row(a.id())
		m := a.message()
		m.ApplicationProperties["provider_id"] = "hull"
		w.send(m)
		if d := w.deadLetter(consumer.ReasonActionConflict); strings.Contains(d, provider) {
			t.Errorf("description tells of the other provider: %q", d)
		}
		w.sameRow(before)
		w.frames(1)
	}},
	{"14_confirmed_already", func(t *testing.T, url string) {
		w := running(t, url)
		a := newCreate()
		w.enqueue(a)
		w.noDeadLetter()
		before := w.row(a.id())
		w.enqueue(a)
		w.noDeadLetter()
		w.sameRow(before)
		w.frames(1)
	}},
	{"15_failed_already", func(t *testing.T, url string) {
		w := running(t, url)
		w.gateway.Script(relaytest.Reply{Text: `{"status":"error","message":"Missing key 'x'"}`})
		a := newCreate()
		w.enqueue(a)
		w.deadLetter(consumer.ReasonGatewayRejected)
		before := w.row(a.id())
		w.enqueue(a)
		w.drained()
		for _, letter := range w.deadLetters() {
			if text(letter.DeadLetterReason) != string(consumer.ReasonGatewayRejected) {
				t.Errorf("dead letter's reason is %q", text(letter.DeadLetterReason))
			}
		}
		if n := len(w.deadLetters()); n != 2 {
			t.Errorf("%d dead letters, want 2", n)
		}
		w.sameRow(before)
		w.frames(1)
	}},
	{"15_failed_unsent_and_enqueued_again_starts_afresh", func(t *testing.T, url string) {
		w := newWorld(t, url)
		w.must(w.store.RemoveRelay(context.Background(), provider, nil, store.By{Who: "test"}))
		w.run()
		a := newCreate()
		w.enqueue(a)
		w.deadLetter(consumer.ReasonNoRelay)
		w.addRelay(provider, nil, w.relay.Addr(), provider, "LEEDS_KEY")
		w.enqueue(a)
		w.until("confirmed", func() bool { return w.row(a.id()).Status == store.Confirmed })
		_, _, audit, err := w.store.Action(context.Background(), provider, a.id())
		w.must(err)
		if len(audit) != 1 {
			t.Errorf("audit is %+v, want one entry", audit)
		}
		w.frames(1)
	}},
	{"16_scheduled_before_today", func(t *testing.T, url string) {
		w := running(t, url)
		id := w.enqueue(newCreate().with("parameters.worklist_item.scheduled.date", time.Now().UTC().AddDate(0, 0, -1).Format("20060102")))
		w.deadLetter(consumer.ReasonExpired)
		w.hasRow(id, store.Failed, consumer.ReasonExpired, "")
		w.nothingSent()
	}},
	{"16_the_clinic_day_is_the_clinics", func(t *testing.T, url string) {
		w := newWorld(t, url)
		w.consumer.Clinic = time.FixedZone("east of everywhere", 14*60*60)
		w.ahead.Store(int64(untilHour(12))) // 12:00 UTC is 02:00 of the next day there
		w.run()
		id := w.enqueue(newCreate().with("parameters.worklist_item.scheduled.date", w.now().UTC().Format("20060102")))
		w.deadLetter(consumer.ReasonExpired)
		w.hasRow(id, store.Failed, consumer.ReasonExpired, "")
	}},
	{"16_expired_after_an_unanswered_attempt_says_so", func(t *testing.T, url string) {
		w := running(t, url)
		w.gateway.Script(relaytest.Reply{Apply: true, Drop: true})
		recorded, goOn := w.stopAfter("record")
		id := w.enqueue(newCreate())
		recorded()
		w.ahead.Store(int64(49 * time.Hour))
		goOn()
		if d := w.deadLetter(consumer.ReasonExpired); !strings.Contains(d, "may have arrived") {
			t.Errorf("description %q", d)
		}
		w.hasRow(id, store.Failed, consumer.ReasonExpired, relay.PhaseAckLost)
		w.frames(1)
	}},
	{"17_update_older_than_the_limit", func(t *testing.T, url string) {
		w := running(t, url)
		w.gateway.SetMode(relaytest.ModeOffline)
		recorded, goOn := w.stopAfter("record")
		id := w.enqueue(newUpdate(newCreate(), "COMPLETED"))
		recorded()
		w.ahead.Store(int64(25 * time.Hour))
		goOn()
		w.deadLetter(consumer.ReasonExpired)
		w.hasRow(id, store.Failed, consumer.ReasonExpired, relay.PhaseNoListener)
		w.nothingSent()
	}},
	{"18_an_earlier_action_of_the_accession_is_unresolved", func(t *testing.T, url string) {
		w := running(t, url)
		w.gateway.SetMode(relaytest.ModeOffline)
		create := newCreate()
		w.enqueue(create)
		w.until("the create waits for a retry", func() bool { return w.row(create.id()).RetryCount > 0 })
		update := newUpdate(create, "IN PROGRESS")
		w.enqueue(update)
		w.until("the update is postponed", func() bool { return w.row(update.id()).PostponeCount > 0 })
		row := w.row(update.id())
		if row.Status != store.Pending || row.Attempts != 0 {
			t.Errorf("row is %q with %d attempts, want pending with none", row.Status, row.Attempts)
		}
		w.gateway.SetMode(relaytest.ModeOneShot)
		w.noDeadLetter()
		w.hasRow(create.id(), store.Confirmed, "", "")
		w.hasRow(update.id(), store.Confirmed, "", "")
		if items := w.gateway.Snapshot().Items; len(items) != 1 || items[0].Status != "IN PROGRESS" {
			t.Errorf("items %+v", items)
		}
	}},
	{"18_next_try_is_5_s_after_the_earlier_actions", func(t *testing.T, url string) {
		w := newWorld(t, url)
		w.consumer.Retry.Delays = []time.Duration{time.Hour}
		w.consumer.AsUsual()
		w.gateway.SetMode(relaytest.ModeOffline)
		w.run()
		create := newCreate()
		w.enqueue(create)
		w.waiting(1)
		id := w.enqueue(newUpdate(create, "IN PROGRESS"))
		w.waiting(2)
		want := w.row(create.id()).NextRetryAt.Add(5 * time.Second)
		if got := w.row(id).NextRetryAt; got == nil || !got.Equal(want) {
			t.Errorf("next try %v, want %v", got, want)
		}
	}},
	{"18_updates_received_with_their_creates", func(t *testing.T, url string) {
		w := newWorld(t, url)
		var all []action
		for range 20 {
			create := newCreate()
			all = append(all, create, newUpdate(create, "IN PROGRESS"))
		}
		w.enqueue(all...) // before the consumer runs, so that it receives them together
		w.run()
		w.until("all are confirmed", func() bool {
			counts, err := w.store.Counts(context.Background())
			w.must(err)
			return counts[store.Confirmed] == len(all)
		})
		w.noDeadLetter()
	}},
	{"19_property_of_an_odd_type", func(t *testing.T, url string) {
		w := running(t, url)
		odd := newCreate().message()
		odd.ApplicationProperties["DeadLetterReason"] = int64(7)
		good := newCreate()
		w.send(odd, good.message())
		w.until("the odd message is met", func() bool { return strings.Contains(w.log.String(), "cannot be read") })
		w.broker.ExpireLocks() // of whatever came in the same call
		w.until("the other action is confirmed", func() bool { return w.row(good.id()).Status == store.Confirmed })
		w.until("the other message is gone", func() bool { q := w.queueState(); return q.Active+q.Locked == 1 })
		w.until("the odd message is dead-lettered by its delivery count", func() bool {
			w.broker.ExpireLocks()
			return w.queueState().DeadLettered == 1
		})
	}},
	{"20_message_id_missing_or_odd", func(t *testing.T, url string) {
		w := running(t, url)
		a := newCreate()
		m := a.message()
		m.MessageID = nil
		w.send(m)
		b := newCreate()
		w.sendAnnotated(&azservicebus.AMQPAnnotatedMessage{
			Body:                  azservicebus.AMQPAnnotatedMessageBody{Data: [][]byte{b.body()}},
			ApplicationProperties: map[string]any{"provider_id": provider},
			Properties:            &azservicebus.AMQPAnnotatedMessageProperties{MessageID: uint64(42)},
		})
		c := newCreate()
		w.sendAnnotated(&azservicebus.AMQPAnnotatedMessage{ // without properties the SDK gives no delivery count
			Body:                  azservicebus.AMQPAnnotatedMessageBody{Data: [][]byte{c.body()}},
			ApplicationProperties: map[string]any{"provider_id": provider},
		})
		w.noDeadLetter()
		for _, sent := range []action{a, b, c} {
			w.hasRow(sent.id(), store.Confirmed, "", "")
		}
	}},
	{"87_accession_number_is_held_by_another_create", func(t *testing.T, url string) {
		w := running(t, url)
		a := newCreate()
		w.enqueue(a)
		w.noDeadLetter()
		b := newCreate().with("parameters.worklist_item.accession_number", a.accession())
		w.enqueue(b)
		w.deadLetter(consumer.ReasonAccessionConflict)
		w.hasRow(b.id(), store.Failed, consumer.ReasonAccessionConflict, "")
		w.frames(1)
		if s := w.relay.Stats(provider); s.Dials != 1 {
			t.Errorf("%d dials, want none for the second", s.Dials)
		}
	}},
	{"88_another_attempts_claim_lives", func(t *testing.T, url string) {
		w := running(t, url)
		acked, goOn := w.stopAfter("exchange")
		a := newCreate()
		w.enqueue(a)
		acked()
		claimed := w.row(a.id())
		w.enqueue(a)
		w.until("the second is postponed", func() bool { return w.queueState().Scheduled == 1 })
		goOn()
		w.until("the first is confirmed", func() bool { return w.row(a.id()).Status == store.Confirmed })
		if row := w.row(a.id()); row.Attempt != claimed.Attempt || row.PostponeCount != 0 {
			t.Errorf("the second delivery changed the row: %+v", row)
		}
		w.frames(1)
	}},
	{"89_create_for_a_later_day_is_sent_at_once", func(t *testing.T, url string) {
		w := running(t, url)
		id := w.enqueue(newCreate().with("parameters.worklist_item.scheduled.date", time.Now().UTC().AddDate(0, 0, 3).Format("20060102")))
		w.noDeadLetter()
		w.hasRow(id, store.Confirmed, "", "")
	}},
	{"89_create_for_a_later_day_is_held_until_its_time", func(t *testing.T, url string) {
		w := newWorld(t, url)
		w.consumer.ReleaseAt = 3 * time.Hour
		w.run()
		day := time.Now().UTC().AddDate(0, 0, 3)
		id := w.enqueue(newCreate().with("parameters.worklist_item.scheduled.date", day.Format("20060102")))
		w.waiting(1)
		row := w.hasRow(id, store.Pending, "", "")
		want := time.Date(day.Year(), day.Month(), day.Day(), 3, 0, 0, 0, time.UTC)
		if row.NextRetryAt == nil || !row.NextRetryAt.Equal(want) || row.Attempts != 0 {
			t.Errorf("next try %v after %d attempts, want %v after none", row.NextRetryAt, row.Attempts, want)
		}
		w.nothingSent()
	}},
	{"89_the_time_is_that_of_the_clinics_clocks", func(t *testing.T, url string) {
		london, err := time.LoadLocation("Europe/London")
		if err != nil {
			t.Skip("no time zones on this machine")
		}
		w := newWorld(t, url)
		w.consumer.Clinic, w.consumer.ReleaseAt = london, 2*time.Hour+30*time.Minute
		w.run()
		clocksBack := lastSunday(time.Now().Year()+1, time.October)
		id := w.enqueue(newCreate().with("parameters.worklist_item.scheduled.date", clocksBack.Format("20060102")))
		w.waiting(1)
		if got, want := w.row(id).NextRetryAt, clocksBack.Add(2*time.Hour+30*time.Minute); got == nil || !got.Equal(want) {
			t.Errorf("next try %v, want %v: half past two, after the clocks went back", got, want)
		}
	}},
	{"90_changed_relay_row_counts_within_5_s", func(t *testing.T, url string) {
		w := running(t, url)
		w.enqueue(newCreate())
		w.noDeadLetter()
		w.must(w.store.RemoveRelay(context.Background(), provider, nil, store.By{Who: "test"}))
		w.ahead.Store(int64(5 * time.Second))
		w.enqueue(newCreate())
		w.deadLetter(consumer.ReasonNoRelay)
		w.frames(1)
	}},
	{"16_the_clinic_day_ends_while_the_gateway_is_dialled", expiresWhileDialled},
	{"18_an_earlier_create_may_have_arrived", updateBehindSentCreate},
	{"18_no_update_is_sent_before_its_create", createsGoFirst},
	{"87_another_create_is_sent_while_the_gateway_is_dialled", heldWhileDialled},
	{"88_a_resend_while_the_action_waits", resendWhileItWaits},
})

// reordered is the same create with its keys in another order and another timestamp.
func reordered(a action) []byte {
	var item bytes.Buffer
	for i, key := range []string{"scheduled", "procedure", "participant", "accession_number"} {
		value, err := json.Marshal(a.item()[key])
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(&item, "%s%q : %s", []string{"", ", "}[min(i, 1)], key, value)
	}
	return fmt.Appendf(nil, `{"timestamp": "2000-01-01T00:00:00Z", "parameters": {"worklist_item": {%s}}, "action_type": %q, "action_id": %q, "schema_version": 1}`,
		item.String(), a["action_type"], a.id())
}

func (w *world) nothingSent() {
	w.t.Helper()
	w.frames(0)
}

func (w *world) frames(want int) {
	w.t.Helper()
	if got := w.sentFrames(); got != want {
		w.t.Errorf("%d frames reached the gateway, want %d\n%s", got, want, w.log)
	}
}

func (w *world) sameRow(before store.Action) {
	w.t.Helper()
	if after := w.row(before.ActionID); fmt.Sprint(dereferenced(after)) != fmt.Sprint(dereferenced(before)) {
		w.t.Errorf("row changed from %+v to %+v", before, after)
	}
}

// dereferenced shows a row without the addresses of its nullable columns.
func dereferenced(a store.Action) string {
	text, err := json.Marshal(a)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// lastSunday is midnight UTC of the day on which clocks change in Europe.
func lastSunday(year int, month time.Month) time.Time {
	day := time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC)
	return day.AddDate(0, 0, -int(day.Weekday()))
}

// untilHour is how far the given hour of some coming day, UTC, is away.
func untilHour(hour int) time.Duration {
	now := time.Now().UTC()
	day := time.Date(now.Year(), now.Month(), now.Day(), hour, 0, 0, 0, time.UTC)
	if day.Before(now) {
		day = day.AddDate(0, 0, 1)
	}
	return day.Sub(now)
}

func (w *world) sendAnnotated(m *azservicebus.AMQPAnnotatedMessage) {
	w.t.Helper()
	w.must(w.link().SendAMQPAnnotatedMessage(context.Background(), m, nil))
}
