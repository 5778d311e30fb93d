package consumer_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// What a scrape shows after actions that were confirmed, tried again, refused by
// the gateway and refused before it, in either kind of queue.
func TestMetrics(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"plain", "sessions"} {
		for _, dialect := range storetest.Dialects {
			t.Run(kind+"/"+dialect, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, storetest.URL(t, dialect), func(w *world, _ *relaytest.GatewayConfig) { w.sessions = kind == "sessions" }, inNoHurry)
				w.consumer.OutcomeQueue = outcomeQueue
				w.gateway.Script(relaytest.Reply{Text: `{"status":"error","message":"No patient name"}`})
				w.run()
				w.enqueue(newCreate())
				w.drained()
				w.relay.Refuse(provider, 1, 404, "There are no listeners connected for the endpoint.")
				w.enqueue(newCreate())
				w.drained()
				homeless := newCreate().message()
				homeless.ApplicationProperties["setting_id"] = "elsewhere"
				w.send(homeless, newCreate().with("schema_version", 2).message())
				w.drained()
				at := `gateway="` + w.relay.Addr() + "/" + provider + `"`
				of := `messaging_destination_name="` + queue + `",`
				want := map[string]float64{
					`worklist_actions_total{` + at + `,outcome="failed",phase="ack_error",reason="GatewayRejected"}`: 1,
					`worklist_actions_total{` + at + `,outcome="retried",phase="no_listener"}`:                       1,
					`worklist_actions_total{` + at + `,outcome="confirmed"}`:                                         1,
					`worklist_actions_total{gateway="none",outcome="failed",reason="NoRelay"}`:                       1,
					`worklist_actions_total{gateway="none",outcome="failed",reason="UnsupportedSchema"}`:             1,
					`worklist_attempts_total{` + at + `,phase="ack_error",sent="yes"}`:                               1,
					`worklist_attempts_total{` + at + `,phase="no_listener",sent="no"}`:                              1,
					`worklist_attempts_total{` + at + `,sent="yes"}`:                                                 1,
					`worklist_enqueue_to_ack_seconds_count{` + at + `}`:                                              1,
					`worklist_phase_duration_seconds_count{phase="claim"}`:                                           4,
					`worklist_phase_duration_seconds_count{phase="mark"}`:                                            2,
					`worklist_phase_duration_seconds_count{phase="connect"}`:                                         3,
					`worklist_phase_duration_seconds_count{phase="handshake"}`:                                       3,
					`worklist_phase_duration_seconds_count{phase="ack"}`:                                             2,
					`worklist_phase_duration_seconds_count{phase="record"}`:                                          4,
					`worklist_phase_duration_seconds_count{phase="settle"}`:                                          5,
					`worklist_in_flight`:                 0,
					`worklist_lock_renewals_lost_total`:  0,
					`worklist_panics_total`:              0,
					`worklist_unreadable_messages_total`: 0,
					`messaging_client_consumed_messages_total{` + of + `messaging_operation_name="receive",messaging_system="servicebus"}`:                                  5,
					`messaging_client_sent_messages_total{` + of + `messaging_operation_name="schedule",messaging_system="servicebus"}`:                                     1,
					`messaging_client_operation_duration_seconds_count{` + of + `messaging_operation_name="schedule",messaging_system="servicebus"}`:                        1,
					`messaging_client_operation_duration_seconds_count{` + of + `messaging_operation_name="complete",messaging_system="servicebus"}`:                        2,
					`messaging_client_operation_duration_seconds_count{` + of + `messaging_operation_name="dead_letter",messaging_system="servicebus"}`:                     3,
					`messaging_client_sent_messages_total{messaging_destination_name="` + outcomeQueue + `",messaging_operation_name="send",messaging_system="servicebus"}`: 4,
					`messaging_process_duration_seconds_count{messaging_destination_name="` + queue + `",messaging_system="servicebus"}`:                                    1,
					`messaging_process_duration_seconds_count{error_type="no_listener",messaging_destination_name="` + queue + `",messaging_system="servicebus"}`:           1,
					`worklist_dependency_up{dependency="service_bus"}`: 1,
					`worklist_dependency_up{dependency="database"}`:    1,
					`worklist_outcomes_owed`:                           0,
					`worklist_breaker_open{` + at + `}`:                0,
					`worklist_gateway_held{` + at + `}`:                0,
				}
				w.counts(want)
				for name := range w.told.series() {
					if _, known := want[name]; !known && (strings.HasPrefix(name, "worklist_actions_") || strings.HasPrefix(name, "worklist_attempts_")) {
						t.Errorf("there is %s too", name)
					}
				}
			})
		}
	}
}

// counts waits until each of these series has its value.
func (w *world) counts(want map[string]float64) {
	w.t.Helper()
	rest := maps.Clone(want)
	suite.Until(w.t, "every series has its value", func() bool {
		got := w.told.series()
		maps.DeleteFunc(rest, func(name string, value float64) bool { now, known := got[name]; return known && now == value })
		return len(rest) == 0
	}, func() string { return fmt.Sprintf("not of %v:\n%s", rest, strings.Join(sorted(w.told.series()), "\n")) })
}

// What SQL knows of gateways, with one in each state, and an action without a
// relay.
func TestMetricsFromSQL(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		ctx, by := context.Background(), store.By{Who: "test"}
		w.addRelay("hull", nil, w.relay.Addr(), "hull", "LEEDS_KEY")
		w.addRelay("york", nil, w.relay.Addr(), "york", "LEEDS_KEY")
		opened := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
		w.must(w.store.SaveHealth(ctx, store.Health{Relay: w.relay.Addr() + "/hull", OpenedAt: &opened, LastLifeAt: &opened}))
		w.must(w.store.HoldGateway(ctx, w.relay.Addr()+"/york", by))
		claim := func(id, provider string) {
			_, err := w.store.Claim(ctx, store.Delivery{
				ActionID: id, ActionType: "worklist.create_item", Create: true, ProviderID: provider, AccessionNumber: "SYN" + id[:8], BodySHA256: "1",
				SequenceNumber: 1, OriginalSequence: 1, EnqueuedAt: w.now().Add(-time.Hour), Lease: time.Minute,
			})
			w.must(err)
		}
		claim(newCreate().id(), "hull")
		claim(newCreate().id(), "nowhere")
		w.run()
		at := func(path string) string { return `{gateway="` + w.relay.Addr() + "/" + path + `"}` }
		w.counts(map[string]float64{
			`worklist_waiting` + at("hull"): 1, `worklist_waiting` + at("york"): 0, `worklist_waiting{gateway="none"}`: 1,
			`worklist_retries_waiting` + at("hull"): 0,
			`worklist_breaker_open` + at("hull"):    1, `worklist_breaker_open` + at("york"): 0,
			`worklist_gateway_held` + at("hull"): 0, `worklist_gateway_held` + at("york"): 1,
			`worklist_last_life_timestamp_seconds` + at("hull"): float64(opened.Unix()),
		})
		series := w.told.series()
		if age := series[`worklist_oldest_waiting_age_seconds`+at("hull")]; age < 3600 || age > 7200 {
			t.Errorf("the oldest action at hull is %v s old, want an hour", age)
		}
		for _, absent := range []string{`worklist_last_life_timestamp_seconds` + at("york"), `worklist_breaker_open{gateway="none"}`, `worklist_outcomes_owed`} {
			if value, known := series[absent]; known {
				t.Errorf("%s is %v, want it absent", absent, value)
			}
		}
	})
}

// Deliveries that do not end well are counted too: one that panicked, one that
// lost its lock, and one that cannot be read.
func TestMetricsOfTrouble(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"), func(w *world, _ *relaytest.GatewayConfig) { w.lock = 6 * time.Second })
	keys := w.consumer.Secret
	w.consumer.Secret = func(variable string) string {
		if variable == "BROKEN" {
			panic(leaktest.Name)
		}
		return keys(variable)
	}
	w.addRelay("hull", nil, w.relay.Addr(), provider, "BROKEN")
	w.run()
	w.send(newCreate().messageTo("hull"))
	w.drained()
	broker := `messaging_destination_name="` + queue + `",messaging_operation_name=`
	w.counts(map[string]float64{
		`worklist_panics_total`:                                                                                                                3,
		`worklist_actions_total{gateway="none",outcome="left"}`:                                                                                2,
		`worklist_actions_total{gateway="none",outcome="failed",reason="InternalError"}`:                                                       1,
		`messaging_client_operation_duration_seconds_count{` + broker + `"abandon",messaging_system="servicebus"}`:                             2,
		`messaging_process_duration_seconds_count{error_type="left",messaging_destination_name="` + queue + `",messaging_system="servicebus"}`: 2,
		`worklist_in_flight`: 0,
	})

	acked, goOn := w.stopAfter("exchange")
	id := w.enqueue(newCreate())
	acked()
	w.broker.ExpireLocks()
	w.until("the loss is noticed", func() bool { return strings.Contains(w.log.String(), "lock not renewed") })
	goOn()
	w.counts(map[string]float64{
		`worklist_lock_renewals_lost_total`: 1,
		`worklist_actions_total{gateway="` + w.relay.Addr() + "/" + provider + `",outcome="left"}`: 1,
	})
	w.hasRow(id, store.Confirmed, "", "") // the ack counts all the same

	m := newCreate().message()
	m.ApplicationProperties["DeadLetterReason"] = int64(7) // the SDK panics on it
	w.send(m)
	w.until("it was seen", func() bool { return w.told.series()[`worklist_unreadable_messages_total`] > 0 })
	w.counts(map[string]float64{`worklist_in_flight`: 0})
	if n := w.told.series()[`messaging_client_consumed_messages_total{error_type="unreadable",`+broker+`"receive",messaging_system="servicebus"}`]; n < 1 {
		t.Errorf("%v messages consumed that could not be read", n)
	}
}

// A reconciler counts what it marked, and tells what it found last.
func TestMetricsOfReconciling(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"), func(w *world, _ *relaytest.GatewayConfig) { w.most = 1 })
	a := newCreate()
	w.enqueue(a)
	w.exhaust(1)
	r := w.reconciler()
	r.Metrics, r.Counts = w.told.meters, nil // without the right to count
	r.DryRun = true
	_, err := r.Reconcile(context.Background())
	w.must(err)
	w.counts(map[string]float64{`worklist_dead_letters`: 1, `worklist_stranded`: 0})
	if n, known := w.told.series()[`worklist_dead_letters_reconciled_total{reason="MaxDeliveryCountExceeded"}`]; known {
		t.Errorf("a dry run counted %v", n)
	}
	r.DryRun = false
	_, err = r.Reconcile(context.Background())
	w.must(err)
	w.counts(map[string]float64{`worklist_dead_letters_reconciled_total{reason="MaxDeliveryCountExceeded"}`: 1})
}

// However many actions a gateway has, it has as many series as with the first.
func TestMetricsCardinality(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.URL(t, "sqlite"))
	now := w.now()
	w.must(w.store.SaveHealth(context.Background(), store.Health{Relay: w.relay.Addr() + "/" + provider, LastLifeAt: &now})) // SQL is read now and then
	w.run()
	w.enqueue(newCreate())
	w.drained()
	w.counts(map[string]float64{`worklist_in_flight`: 0, `worklist_dependency_up{dependency="database"}`: 1})
	before := sorted(w.told.series())
	count, step := 50, 25
	if suite.Long() {
		count, step = 1000, 100
	}
	for done := step; done <= count; done += step {
		for range step {
			w.enqueue(newCreate())
		}
		w.until("all so far are confirmed", func() bool {
			counts, err := w.store.Counts(context.Background())
			w.must(err)
			return counts[store.Confirmed] == done+1
		})
	}
	w.drained()
	w.counts(map[string]float64{`worklist_in_flight`: 0})
	if after := sorted(w.told.series()); len(after) != len(before) {
		t.Errorf("%d series, and %d after %d actions more:\n%s", len(before), len(after), count, strings.Join(after, "\n"))
	}
}

// The README's table of metrics is what a scrape shows, both ways: names, kinds
// and labels.
func TestReadmeMetrics(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n| metric | kind | labels | meaning |\n")
	section, _, _ = strings.Cut(section, "\n\n")
	told := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([a-z]+) \\| (.*?) \\| .+ \\|$").FindAllStringSubmatch(section, -1) {
		told[row[1]] = row[2] + " of " + strings.ReplaceAll(row[3], "`", "")
	}

	w := newWorld(t, storetest.URL(t, "sqlite"), func(w *world, _ *relaytest.GatewayConfig) { w.most = 1 })
	w.consumer.OutcomeQueue = outcomeQueue
	given := newCreate()
	w.enqueue(given)
	w.exhaust(1) // the broker's own dead letter
	r := w.reconciler()
	r.Metrics = w.told.meters
	_, err = r.Reconcile(context.Background())
	w.must(err)
	w.relay.Refuse(provider, 1, 404, "There are no listeners connected for the endpoint.")
	now := w.now()
	w.must(w.store.SaveHealth(context.Background(), store.Health{Relay: w.relay.Addr() + "/" + provider, LastLifeAt: &now}))
	w.run()
	w.enqueue(newCreate(), newCreate().with("parameters.worklist_item.scheduled.date", leaktest.BirthDate)) // Expired
	w.drained()
	w.counts(map[string]float64{`worklist_in_flight`: 0, `worklist_dependency_up{dependency="database"}`: 1})
	found := map[string]string{}
	for _, family := range w.told.families() {
		seen := map[string]bool{}
		for _, m := range family.Metric {
			for _, label := range m.Label {
				seen[label.GetName()] = true
			}
		}
		found[family.GetName()] = strings.ToLower(family.GetType().String()) + " of " + strings.Join(slices.Sorted(maps.Keys(seen)), ", ")
	}
	normal := func(row string) string {
		kind, names, _ := strings.Cut(row, " of ")
		labels := strings.Split(names, ", ")
		slices.Sort(labels)
		// Not every broker's fault was met here.
		return kind + " of " + strings.Join(slices.DeleteFunc(labels, func(l string) bool { return l == "error_type" || l == "" }), ", ")
	}
	for _, rows := range []map[string]string{told, found} {
		for name, row := range rows {
			rows[name] = normal(row)
		}
	}
	if diff := cmp.Diff(told, found); diff != "" {
		t.Errorf("README (-) and scrape (+) differ:\n%s", diff)
	}
}
