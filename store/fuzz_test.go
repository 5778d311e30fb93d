package store_test

import (
	"context"
	"flag"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// Texts of a gateway's making are stored whatever bytes they hold.
func FuzzRecordText(f *testing.F) {
	f.Add("database is locked")
	f.Add("")
	f.Add("\x00\xff\xed\xa0\x80")
	f.Add(strings.Repeat("é", 1500))
	stores := []fixture{open(f, storetest.URL(f, "sqlite"))}
	// While fuzzing, workers are killed and would leave their schemas behind.
	if flag.Lookup("test.fuzz").Value.String() == "" {
		if url := storetest.Optional(f, "postgres"); url != "" {
			stores = append(stores, open(f, url))
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, f := range stores {
			f.t = t
			f.clock.advance(lease)
			d := message(action1, 1)
			c, err := f.Claim(context.Background(), d)
			if err != nil {
				t.Fatal(err)
			}
			for c.Verdict != store.Claimed { // a settled row of the input before
				f.clock.advance(20 * lease)
				d.SequenceNumber++
				c = f.claim(d, store.Claimed)
			}
			o := noListener(c.Ref(), 1)
			o.Phase, o.Error, o.Reason, o.Description, o.Relay = s, s, s, s, s
			f.record(o)
			a := f.action(action1)
			for _, got := range []*string{a.LastError, a.LastPhase, a.Relay, a.SettlementReason, a.SettlementDescription} {
				if got != nil && (!utf8.ValidString(*got) || strings.Contains(*got, "\x00") || len(*got) > 2048) {
					t.Errorf("%s stored %q", f.Dialect(), *got)
				}
			}
			if utf8.ValidString(s) && !strings.Contains(s, "\x00") && s != "" && len(s) <= 2048 {
				same(t, f.Dialect(), value(a.LastError), s)
			}
		}
	})
}

// However a password is mangled into a URL, no error shows it.
func FuzzOpen(f *testing.F) {
	for _, mangled := range []string{"%s", "12/%s", "12#%s", "%zz%s", "[%s", "%s@x:1"} {
		f.Add(mangled)
	}
	f.Fuzz(func(t *testing.T, before string) {
		const secret = "0p3n5e5ame"
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s, err := store.Open(ctx, "postgres://relay:"+before+secret+"@127.0.0.1:1/x?sslmode=disable")
		if err == nil {
			t.Fatal("opened", s.Close())
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", before, err)
		}
	})
}
