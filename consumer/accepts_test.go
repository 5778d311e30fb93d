package consumer

import "testing"

// Slots that are lent are made up for by the accepts that still wait; only when
// too few do is one of them without. None is lent by nobody.
func TestLend(t *testing.T) {
	all := newSessions(3)
	ask := func(what string, got, want bool) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	ask("lend, and no accept waits", all.lend(), false)
	ask("begin the first", all.beginAccept(), true)
	ask("begin the second", all.beginAccept(), true)
	ask("lend one", all.lend(), true)
	ask("end one, and the other makes up for what is lent", all.endAccept(), true)
	ask("lend, and none is left", all.lend(), false)
	ask("end the other", all.endAccept(), false)
	ask("lend, and no accept waits", all.lend(), false)
	ask("begin another", all.beginAccept(), true)
	ask("end it, and nothing is lent", all.endAccept(), true)
	all.resuming.Add(1)
	ask("begin while a session that was kept waits for a slot", all.beginAccept(), false)
	ask("lend what was not begun", all.lend(), false)
}
