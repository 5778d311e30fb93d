package store_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// What a write was compiled to is of no harm when the tables change after it,
// also by another process.
func TestTablesChangeUnderAWrite(t *testing.T) {
	ctx := context.Background()
	url := storetest.URL(t, "sqlite")
	s, err := store.Open(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Claim(ctx, message(action1, 1)); err == nil {
		t.Fatal("claimed without a table")
	}
	f := open(t, url)
	if c, err := s.Claim(ctx, message(action1, 1)); err != nil || c.Verdict != store.Claimed {
		t.Fatal(c.Verdict, err)
	}
	for i, change := range []string{
		"ALTER TABLE actions ADD COLUMN more TEXT NOT NULL DEFAULT 'of it'",
		"DROP INDEX actions_accession",
		"CREATE INDEX actions_accession ON actions (accession_number, provider_id)",
	} {
		if _, err := raw(t, url).Exec(change); err != nil {
			t.Fatal(err)
		}
		d := message(fmt.Sprint("00000000-0000-4000-8000-00000000000", i), 2)
		d.AccessionNumber = fmt.Sprint("ACC", i)
		if c, err := s.Claim(ctx, d); err != nil || c.Verdict != store.Claimed {
			t.Fatal(c.Verdict, err)
		}
		f.mark(store.Ref{ProviderID: provider, ActionID: d.ActionID, Attempt: 1})
		f.record(confirmed(store.Ref{ProviderID: provider, ActionID: d.ActionID, Attempt: 1}, 2))
		same(t, change, f.action(d.ActionID).Status, store.Confirmed)
	}
}
