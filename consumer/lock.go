package consumer

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

const (
	lockMargin   = 500 * time.Millisecond // with less lock than this left, work is not begun
	renewTimeout = 10 * time.Second       // for a message's lock
)

var errLockLost = errors.New("the lock was lost")

// renewable is a lock of the broker: a message's, or a session's.
type renewable interface {
	until() time.Time // zero: there is none to renew
	renew(context.Context) error
}

// lock keeps a message or a session ours while it is worked on. Between holdLock
// and release only its goroutine calls the renewable.
type lock struct {
	stop    context.CancelFunc // of the renewal
	done    chan struct{}
	working context.Context // ends with the caller's, or when the lock is lost
	cancel  context.CancelFunc
	gone    atomic.Bool
}

// holdLock renews r, each time at half of what is left of it, until release.
// The renewal does not end with ctx: what was sent goes on.
func holdLock(ctx context.Context, r renewable, log *slog.Logger) *lock {
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	l := &lock{stop: stop, done: make(chan struct{})}
	l.working, l.cancel = context.WithCancel(ctx)
	go func() {
		defer close(l.done)
		for until := r.until(); !until.IsZero(); until = r.until() {
			pause(renewing, max(time.Until(until)/2, lockMargin/2))
			if renewing.Err() != nil {
				return
			}
			if err := r.renew(renewing); err != nil && renewing.Err() == nil {
				log.Warn("lock not renewed", "error", err)
				if isLockLost(err) || time.Until(r.until()) <= 0 {
					l.gone.Store(true)
					l.cancel()
					return
				}
			}
		}
	}()
	return l
}

// release ends the renewal and waits for it: a renewal under way while the
// message is settled would report a lock as lost that was given up.
func (l *lock) release() {
	l.stop()
	<-l.done
	l.cancel()
}

// lost reports that the lock ran out, or could not be kept.
func (l *lock) lost() bool { return l.gone.Load() }

func isLockLost(err error) bool {
	var failure *azservicebus.Error
	return errors.Is(err, errLockLost) || errors.As(err, &failure) && failure.Code == azservicebus.CodeLockLost
}

// tooLate reports whether the lock is, or is about to be, another's.
func tooLate(r renewable) bool {
	until := r.until()
	return !until.IsZero() && time.Until(until) < lockMargin
}

// messageLock is the lock of one message of a plain queue.
type messageLock struct {
	through *azservicebus.Receiver
	message *azservicebus.ReceivedMessage
}

func (l messageLock) until() time.Time { return value(l.message.LockedUntil) }

func (l messageLock) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	return l.through.RenewMessageLock(ctx, l.message, nil)
}
