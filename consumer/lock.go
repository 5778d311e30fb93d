package consumer

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

const (
	lockMargin   = 500 * time.Millisecond // with less lock than this left, work is not begun
	renewTimeout = 10 * time.Second
)

// lock keeps a message ours while it is worked on. Between holdLock and
// release only its goroutine touches the message's LockedUntil.
type lock struct {
	stop context.CancelFunc
	done chan struct{}
}

// holdLock renews the message's lock, each time at half of what is left of it,
// until release.
func holdLock(from settler, m *azservicebus.ReceivedMessage, log *slog.Logger) *lock {
	ctx, stop := context.WithCancel(context.Background())
	l := &lock{stop: stop, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		for m.LockedUntil != nil {
			pause(ctx, max(time.Until(*m.LockedUntil)/2, lockMargin/2))
			if ctx.Err() != nil {
				return
			}
			if err := renew(ctx, from, m); err != nil && ctx.Err() == nil {
				log.Warn("lock not renewed", "error", err)
				if lost(err) || time.Until(*m.LockedUntil) <= 0 {
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
}

func renew(ctx context.Context, from settler, m *azservicebus.ReceivedMessage) error {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	return from.RenewMessageLock(ctx, m, nil)
}

func lost(err error) bool {
	var failure *azservicebus.Error
	return errors.As(err, &failure) && failure.Code == azservicebus.CodeLockLost
}

// tooLate reports whether the lock is, or is about to be, another's.
func tooLate(m *azservicebus.ReceivedMessage) bool {
	return m.LockedUntil != nil && time.Until(*m.LockedUntil) < lockMargin
}
