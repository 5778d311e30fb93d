package store_test

import (
	"testing"

	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// A good action asks for as little as this: claim, mark and record.
func TestAskedForAGoodAction(t *testing.T) {
	t.Parallel()
	most := map[string][3][2]int{ // statements, transactions
		"sqlite":   {{1, 1}, {1, 1}, {2, 1}},
		"postgres": {{1, 1}, {1, 1}, {1, 1}},
	}
	storetest.Each(t, func(t *testing.T, url string) {
		f, d := openDriven(t, url)
		create := message(action1, 1)
		update := message(action2, 2) // its create is confirmed and holds the number, which an update does not mind
		update.ActionType, update.Create = "worklist.update_status", false
		other := message(action3, 3)
		other.AccessionNumber = "ACC20260302CD34"
		for _, m := range []store.Delivery{create, update, other} {
			var ref store.Ref
			steps := []func(){
				func() { ref = f.claim(m, store.Claimed).Ref() },
				func() { f.mark(ref) },
				func() { f.record(confirmed(ref, m.SequenceNumber)) },
			}
			for i, name := range []string{"claim", "mark", "record"} {
				statements, transactions := d.since(steps[i])
				same(t, name+" of "+m.ActionID, [2]int{statements, transactions}, most[f.Dialect()][i])
			}
			same(t, "status", f.action(m.ActionID).Status, store.Confirmed)
		}
	})
}
