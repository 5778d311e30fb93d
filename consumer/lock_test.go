package consumer

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slowLock is a lock of a minute whose renewal takes a while, and longer than
// its caller cares for.
type slowLock struct {
	expires  time.Time
	takes    time.Duration
	err      error
	renewing atomic.Bool
	renewals int
}

func (l *slowLock) until() time.Time { return l.expires }

func (l *slowLock) renew(context.Context) error {
	l.renewing.Store(true)
	defer l.renewing.Store(false)
	<-time.After(l.takes)
	l.renewals++
	if l.err == nil {
		l.expires = time.Now().Add(time.Minute)
	}
	return l.err
}

// After release nobody touches the lock: a renewal under way while the message
// is settled would report as lost what was given up.
func TestReleaseWaitsForTheRenewal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &slowLock{expires: time.Now().Add(time.Minute), takes: 5 * time.Second}
		l := holdLock(t.Context(), r, slog.New(slog.DiscardHandler))
		<-time.After(32 * time.Second) // the renewal began after 30 s
		if !r.renewing.Load() {
			t.Fatal("not renewed at half of what was left")
		}
		l.release()
		if r.renewing.Load() {
			t.Error("released while it was being renewed")
		}
		if l.lost() || l.working.Err() == nil {
			t.Errorf("lost %v, working %v: want not lost, and ended", l.lost(), l.working.Err())
		}
	})
}

// A lock is renewed for as long as the work lasts, not only until the service
// stops, each time before half of it is gone.
func TestLockIsHeldPastTheEndOfItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := &slowLock{expires: time.Now().Add(time.Minute)}
		l := holdLock(ctx, r, slog.New(slog.DiscardHandler))
		cancel()
		<-time.After(5 * time.Minute)
		l.release()
		if r.renewals < 9 || l.lost() {
			t.Errorf("renewed %d times in 5 min, lost %v", r.renewals, l.lost())
		}
	})
}

// A lock that is lost ends the work; one that could not be renewed just now is
// tried again while it lasts.
func TestLockLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &slowLock{expires: time.Now().Add(time.Minute), err: errLockLost}
		l := holdLock(t.Context(), r, slog.New(slog.DiscardHandler))
		<-l.working.Done()
		if !l.lost() || r.renewals != 1 {
			t.Errorf("lost %v after %d renewals, want after the first", l.lost(), r.renewals)
		}
		l.release()

		busy := &slowLock{expires: time.Now().Add(time.Minute), err: errors.New("server busy")}
		began := time.Now()
		l = holdLock(t.Context(), busy, slog.New(slog.DiscardHandler))
		<-l.working.Done()
		if took := time.Since(began); !l.lost() || took < time.Minute-lockMargin || took > time.Minute+lockMargin {
			t.Errorf("lost %v after %s, want after the minute", l.lost(), took)
		}
		l.release()
	})
}
