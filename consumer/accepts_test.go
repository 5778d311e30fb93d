package consumer

import (
	"runtime"
	"testing"

	"github.com/worklist-relay/worklist-relay/relay"
)

// Slots that are lent are made up for by the accepts that still wait; only when
// too few do is one of them without. None is lent by nobody.
func TestLend(t *testing.T) {
	t.Parallel()
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

// An accept that gives its slot to a kept session lets that run. Else it would take
// and give back the next slot that is free, many thousand times, while the session
// that was given one waits for a processor.
func TestAnAcceptThatGivesItsSlotLetsTheSessionRun(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const slots = 2
	c := &Consumer{Relay: &relay.Client{}}
	all := newSessions(slots)
	for range slots {
		all.slots <- struct{}{}
	}
	all.resuming.Add(1) // another that waits: so no accept begins
	resumed := make(chan struct{})
	go func() {
		(&session{all: all}).takeSlot(t.Context())
		close(resumed)
	}()
	for range 100 {
		runtime.Gosched() // until it waits: nothing tells when a channel is waited for
	}
	for range slots {
		<-all.slots
	}
	for range 100 {
		if err := c.acceptNext(t.Context(), nil, all, acceptWait); err != nil {
			t.Fatal(err)
		}
		select {
		case <-resumed:
			return
		default:
		}
	}
	t.Error("the session did not run")
}
