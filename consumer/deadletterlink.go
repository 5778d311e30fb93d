package consumer

import (
	"context"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

const mostAbandoned = 16 // messages that are given back at once

// deadLink is one receiver of the dead-letter queue, with what it holds.
type deadLink struct {
	waits    *waits
	receiver *azservicebus.Receiver
	held     []*azservicebus.ReceivedMessage
	credit   int // messages asked for that have not come: they may still
}

// receive asks for at most n messages for as long as wait. readable is false
// where the SDK panicked on one of them.
func (l *deadLink) receive(ctx context.Context, n int, wait time.Duration) (messages []*azservicebus.ReceivedMessage, readable bool, err error) {
	deadline, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	l.credit = max(l.credit, n)
	defer func() {
		if recover() != nil {
			messages, readable, err = nil, false, nil
			l.credit-- // at least
		}
	}()
	for {
		messages, err = l.receiver.ReceiveMessages(deadline, n, nil)
		switch {
		case len(messages) > 0:
			l.credit -= len(messages)
			return messages, true, nil
		case deadline.Err() != nil:
			return nil, true, nil
		case err != nil:
			return nil, true, err
		}
		pause(deadline, l.waits.FirstBackoff) // the SDK repaired its link
	}
}

// hold keeps a message until the end of the pass, without its body.
func (l *deadLink) hold(m *azservicebus.ReceivedMessage) {
	m.Body = nil
	clear(m.RawAMQPMessage.Body.Data) // the SDK's own reference
	l.held = append(l.held, m)
}

// drain uses up what was asked for and has not come: what was given back would
// come on this link, and stay locked with it.
func (l *deadLink) drain() {
	for l.credit > 0 {
		messages, readable, err := l.receive(context.Background(), l.credit, l.waits.FirstBackoff)
		if len(messages) == 0 && readable || err != nil {
			return
		}
		l.abandon(messages)
	}
}

// abandon gives messages back, but for those whose lock has run out, which are
// back already.
func (l *deadLink) abandon(messages []*azservicebus.ReceivedMessage) {
	ctx, cancel := context.WithTimeout(context.Background(), l.waits.SendDeadline)
	defer cancel()
	slots := make(chan struct{}, mostAbandoned)
	var abandoning sync.WaitGroup
	for _, m := range messages {
		if ranOut(m) {
			continue
		}
		slots <- struct{}{}
		abandoning.Go(func() {
			defer func() { <-slots }()
			_ = l.receiver.AbandonMessage(ctx, m, nil) // else its lock runs out
		})
	}
	abandoning.Wait()
}

func ranOut(m *azservicebus.ReceivedMessage) bool { return !time.Now().Before(value(m.LockedUntil)) }
