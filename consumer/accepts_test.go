package consumer

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A session that was kept gets the slot of the accept that has waited longest: one
// that is over has a session for its slot, or gives that back by itself. Whoever was
// ended and has a session all the same is told so, and ends another. None is ended
// before it has settled.
func TestEndAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newSessions(3)
		begin := func() (context.Context, func() bool) {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			t.Cleanup(cancel)
			done, free := all.beginAccept(ctx, cancel)
			if !free {
				t.Error("no slot is free, and none was asked for")
			}
			time.Sleep(time.Second)
			return ctx, done
		}
		end := func() {
			all.endAccept()
			synctest.Wait()
		}
		granted, doneGranted := begin()
		first, doneFirst := begin()
		second, doneSecond := begin()
		if doneGranted() {
			t.Error("it was ended by nobody")
		}
		end()
		if granted.Err() != nil || first.Err() != nil || second.Err() != nil {
			t.Error("ended what was over, or has not settled")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if first.Err() == nil || second.Err() != nil {
			t.Fatal("not the one was ended that waited longest")
		}
		if !doneFirst() {
			t.Error("it was ended, and not told so")
		}
		time.Sleep(time.Second)
		end() // by the first, which has a session
		if second.Err() == nil || !doneSecond() {
			t.Error("the other was not ended in its place")
		}
		end()
		all.resuming.Add(1)
		if done, free := all.beginAccept(t.Context(), func() {}); free || done() {
			t.Error("an accept began while a session that was kept waits for a slot")
		}
	})
}
