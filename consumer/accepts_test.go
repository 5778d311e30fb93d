package consumer

import (
	"context"
	"testing"
)

// A session that was kept gets the slot of an accept that still waits: one that is
// over has a session for its slot, or gives that back by itself. Whoever was ended
// and has a session all the same is told so, and ends another.
func TestEndAccept(t *testing.T) {
	all := newSessions(3)
	begin := func() (context.Context, func() bool) {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		done, free := all.beginAccept(ctx, cancel)
		if !free {
			t.Error("no slot is free, and none was asked for")
		}
		return ctx, done
	}
	granted, doneGranted := begin()
	first, doneFirst := begin()
	if doneGranted() {
		t.Error("it was ended by nobody")
	}
	all.endAccept()
	if granted.Err() != nil || first.Err() == nil {
		t.Fatal("ended the accept that is over, not the one that waits")
	}
	second, doneSecond := begin()
	if !doneFirst() {
		t.Error("it was ended, and not told so")
	}
	all.endAccept() // by the first, which has a session
	if second.Err() == nil || !doneSecond() {
		t.Error("the other was not ended in its place")
	}
	all.endAccept()
	all.resuming.Add(1)
	if done, free := all.beginAccept(t.Context(), func() {}); free || done() {
		t.Error("an accept began while a session that was kept waits for a slot")
	}
}
