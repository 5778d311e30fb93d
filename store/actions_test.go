package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/store"
)

func TestActionsFilters(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		f.run(message(action1, 1), confirmed)
		f.clock.advance(time.Minute)
		d := message(action2, 2)
		d.AccessionNumber = "ACC20260302CD34"
		ref := f.claim(d, store.Claimed).Ref()
		o := noListener(ref, 2)
		o.Relay = "ns/sites/100%_x"
		f.record(o)
		f.clock.advance(time.Minute)
		d = message(action3, 3)
		d.ProviderID = "york"
		f.run(d, expired)

		at := func(minutes time.Duration) time.Time { return start.Add(minutes * time.Minute) }
		for name, test := range map[string]struct {
			filter store.ActionFilter
			want   string
		}{
			"all, newest first":       {store.ActionFilter{}, "321"},
			"limit":                   {store.ActionFilter{Limit: 2}, "32"},
			"provider":                {store.ActionFilter{ProviderID: provider}, "21"},
			"status":                  {store.ActionFilter{Status: store.Failed}, "3"},
			"accession":               {store.ActionFilter{AccessionNumber: "ACC20260302AB12"}, "31"},
			"provider and accession":  {store.ActionFilter{ProviderID: "york", AccessionNumber: "ACC20260302AB12"}, "3"},
			"action":                  {store.ActionFilter{ActionID: strings.ToUpper(action2)}, "2"},
			"another's action":        {store.ActionFilter{ProviderID: "york", ActionID: action2}, ""},
			"full relay":              {store.ActionFilter{Relay: gateway}, "1"},
			"path":                    {store.ActionFilter{Relay: "HC-Leeds"}, "1"},
			"part of a name":          {store.ActionFilter{Relay: "leeds"}, ""},
			"path of two":             {store.ActionFilter{Relay: "sites/100%_x"}, "2"},
			"wildcards are literal":   {store.ActionFilter{Relay: "%"}, ""},
			"underscore is literal":   {store.ActionFilter{Relay: "100%%x"}, ""},
			"since, inclusive":        {store.ActionFilter{Since: at(1)}, "32"},
			"until, exclusive":        {store.ActionFilter{Until: at(1)}, "1"},
			"overdue":                 {store.ActionFilter{Overdue: start.Add(5*time.Second + time.Microsecond)}, "2"},
			"not overdue":             {store.ActionFilter{Overdue: start.Add(5 * time.Second)}, ""},
			"all at once":             {store.ActionFilter{ProviderID: provider, Status: store.Pending, Relay: "100%_x", AccessionNumber: "ACC20260302CD34", ActionID: action2, Since: at(0), Until: at(9), Overdue: at(9), Limit: 9}, "2"},
			"all but one, nothing":    {store.ActionFilter{ProviderID: provider, Status: store.Sent}, ""},
			"another time zone":       {store.ActionFilter{Since: at(1).In(time.FixedZone("", 3600)), Until: at(2).In(time.FixedZone("", -3600))}, "2"},
			"finer than microseconds": {store.ActionFilter{Since: at(2).Add(time.Nanosecond)}, "3"},
		} {
			actions, err := f.Actions(context.Background(), test.filter)
			if err != nil {
				t.Fatal(name, err)
			}
			got := ""
			for _, a := range actions {
				got += a.ActionID[:1]
			}
			same(t, name, got, test.want)
			test.filter.Limit = 1
			n, err := f.CountActions(context.Background(), test.filter)
			if err != nil {
				t.Fatal(name, err)
			}
			if name != "limit" {
				same(t, name+", counted", n, len(test.want))
			}
		}
	})
}

// In SQLite times are text: text must sort as time does.
func TestTimesSort(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		f.clock.advance(time.Second - 123456*time.Microsecond)
		const base = "00000000-0000-4000-8000-00000000000"
		want := ""
		for i, step := range []time.Duration{0, time.Microsecond, 9 * time.Microsecond, 90 * time.Microsecond, 900 * time.Millisecond, 99900 * time.Microsecond, time.Hour} {
			f.clock.advance(step)
			d := message(base+string(rune('0'+i)), int64(i))
			f.claim(d, store.Claimed)
			want = d.ActionID[35:] + want
		}
		actions, err := f.Actions(context.Background(), store.ActionFilter{})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, a := range actions {
			got += a.ActionID[35:]
		}
		same(t, "order", got, want)
	})
}

func TestAction(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		ctx := context.Background()
		f.run(message(action1, 1), timedOut)
		a, attempts, audit, err := f.Action(ctx, provider, action1)
		if err != nil || a.ActionID != action1 || len(attempts) != 1 || len(audit) != 0 {
			t.Errorf("%+v %v %v %v", a, attempts, audit, err)
		}
		for _, test := range [][2]string{{"york", action1}, {provider, action2}, {"", "nonsense"}} {
			if _, _, _, err := f.Action(ctx, test[0], test[1]); !errors.Is(err, store.ErrNoAction) {
				t.Error(test, err)
			}
		}
	})
}

func TestActionJSON(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		f.run(message(action1, 1), postponed)
		text, err := json.Marshal(f.action(action1))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`"setting_id":null`, `"received_at":"2026-03-02T09:00:00.123456Z"`, `"next_retry_at":"2026-03-02T09:00:30.123456Z"`, `"settlement":"postpone"`} {
			if !strings.Contains(string(text), want) {
				t.Errorf("no %s in %s", want, text)
			}
		}
	})
}

func TestCounts(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f fixture) {
		f.run(message(action1, 1), confirmed)
		f.run(message(action2, 2), noListener)
		got, err := f.Counts(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		same(t, "counts", got, map[store.Status]int{store.Pending: 1, store.Sent: 0, store.Confirmed: 1, store.Failed: 0})
	})
}
