package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/store"
)

func TestStandings(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	each(t, func(t *testing.T, f fixture) {
		standings := func(want ...store.Standing) {
			t.Helper()
			got, err := f.Standings(ctx)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "standings", got, append([]store.Standing{}, want...))
		}
		standings()
		for provider, path := range map[string]string{"leeds": "HC-Leeds", "hull": "hc-hull", "york": "hc-hull", "bath": "hc-bath"} {
			r := store.Relay{ProviderID: provider, Namespace: "NS.servicebus.windows.net", HybridConnection: path}
			if err := f.AddRelay(ctx, r, by); err != nil {
				t.Fatal(err)
			}
		}
		const hull = "ns.servicebus.windows.net/hc-hull"
		const bath = "ns.servicebus.windows.net/hc-bath"
		standings(store.Standing{Relay: bath}, store.Standing{Relay: hull}, store.Standing{Relay: gateway})

		nth := func(n int, provider string) store.Delivery {
			d := withAccession(message(fmt.Sprintf("11111111-1111-4111-8111-%012d", n), int64(n)), fmt.Sprint("SYN", n))
			d.ProviderID, d.EnqueuedAt = provider, start.Add(-time.Duration(n)*time.Minute)
			return d
		}
		f.run(nth(1, "leeds"), timedOut) // tried, waits
		f.run(nth(2, "leeds"), confirmed)
		f.run(nth(3, "leeds"), expired)
		f.run(nth(4, "leeds"), postponed)                            // waits, but was not tried
		f.claim(nth(5, "leeds"), store.Claimed)                      // in hand
		f.run(nth(6, "hull"), noListener)                            // two providers of one gateway
		f.claim(nth(7, "york"), store.Claimed)                       //
		f.claim(nth(8, "nowhere"), store.Claimed)                    // no relay
		f.claim(withSetting(nth(9, "leeds"), "east"), store.Claimed) // nor for this setting
		again := nth(10, "leeds")
		f.run(again, noListener)
		f.claim(copyOf(again, 11), store.Claimed) // tried, and in hand again
		opened, life := start.Add(-time.Hour), start.Add(-2*time.Hour)
		if err := f.SaveHealth(ctx, store.Health{Relay: gateway, OpenedAt: &opened, LastLifeAt: &life}); err != nil {
			t.Fatal(err)
		}
		if err := f.SaveHealth(ctx, store.Health{Relay: "ns.servicebus.windows.net/gone", LastLifeAt: &life}); err != nil {
			t.Fatal(err)
		}
		if err := f.HoldGateway(ctx, hull, by); err != nil {
			t.Fatal(err)
		}
		f.run(nth(12, "leeds"), held(21*time.Minute)) // until its day begins
		f.run(nth(13, "bath"), held(21*time.Minute))
		at := func(n int) *time.Time { e := start.Add(-time.Duration(n) * time.Minute); return &e }
		standings(
			store.Standing{Relay: bath, Waiting: 1}, // and none is late
			store.Standing{Relay: hull, Waiting: 2, Retries: 1, Oldest: at(7), HeldAt: &start},
			store.Standing{Relay: gateway, Waiting: 5, Retries: 1, Oldest: at(10), OpenedAt: &opened, LastLifeAt: &life},
			store.Standing{Relay: "", Waiting: 2, Oldest: at(9)},
		)
	})
}

// held is a postponement to a time of its own, before anything was tried.
func held(until time.Duration) func(store.Ref, int64) store.Outcome {
	return func(ref store.Ref, sequence int64) store.Outcome {
		o := postponed(ref, sequence)
		o.NextRetryAt = start.Add(until)
		return o
	}
}

func withSetting(d store.Delivery, setting string) store.Delivery {
	d.SettingID = &setting
	return d
}

func TestCountOutcomesOwed(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	each(t, func(t *testing.T, f fixture) {
		f.run(message(action1, 1), confirmed)
		f.run(withAccession(message(action2, 2), "SYN2"), confirmed)
		if err := f.OweOutcome(ctx, provider, action2); err != nil {
			t.Fatal(err)
		}
		if n, err := f.CountOutcomesOwed(ctx); n != 1 || err != nil {
			t.Errorf("%d owed, %v; want 1", n, err)
		}
	})
}

// What metrics ask every few seconds does not read the actions that have ended,
// however many there are.
func TestStandingsReadNoEndedActions(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	each(t, func(t *testing.T, f fixture) {
		driver, dsn, explain := "postgres", f.url, "EXPLAIN "
		if file, isFile := strings.CutPrefix(f.url, "sqlite:"); isFile {
			driver, dsn, explain = "sqlite", "file:"+file, "EXPLAIN QUERY PLAN "
		}
		db, err := sql.Open(driver, dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		f.run(message(action1, 1), confirmed)
		_, err = db.ExecContext(ctx, `INSERT INTO actions (action_id, action_type, creates, provider_id, accession_number, sequence_number, enqueued_at, received_at, status,
				confirmed_at, updated_at, duplicate, holds_accession, attempts, retry_count, postpone_count, attempt, counted_from)
			WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
			SELECT a.action_id || n.i, a.action_type, a.creates, a.provider_id, 'SYN' || n.i, n.i, a.enqueued_at, a.received_at, a.status,
				a.confirmed_at, a.updated_at, a.duplicate, a.holds_accession, a.attempts, a.retry_count, a.postpone_count, a.attempt, a.counted_from
			FROM actions a, n`)
		if err != nil {
			t.Fatal(err)
		}
		f.claim(withAccession(message(action2, 2), "SYN0"), store.Claimed)
		if _, err := db.ExecContext(ctx, "ANALYZE actions"); err != nil {
			t.Fatal(err)
		}
		for _, query := range store.StandingQueries {
			var plan strings.Builder
			rows, err := db.QueryContext(ctx, explain+strings.ReplaceAll(query, "$1", "'2030-01-01 00:00:00+00'"))
			if err != nil {
				t.Fatal(err)
			}
			columns, err := rows.Columns()
			if err != nil {
				t.Fatal(err)
			}
			for rows.Next() {
				line := make([]any, len(columns))
				for i := range line {
					line[i] = new(any)
				}
				if err := rows.Scan(line...); err != nil {
					t.Fatal(err)
				}
				fmt.Fprintln(&plan, *line[len(line)-1].(*any))
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
			for _, whole := range []string{"Seq Scan on actions", "SCAN a\n", "SCAN actions\n"} {
				if strings.Contains(plan.String(), whole) {
					t.Errorf("%s\nreads every action:\n%s", query, plan.String())
				}
			}
			t.Log(plan.String())
		}
	})
}
