package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/uuid"

	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// benchKey is what guards every hybrid connection of a scene.
var benchKey = relaytest.Key{Name: relayKeyName, Key: relayKey, Send: true}

// each runs do for every gateway at once, and returns the errors.
func each(gateways []gateway, do func(g gateway) error) error {
	errs := make([]error, len(gateways))
	var running sync.WaitGroup
	for i, g := range gateways {
		running.Go(func() { errs[i] = do(g) })
	}
	running.Wait()
	return errors.Join(errs...)
}

// bareExchanges is the loop that any sender is at least: for each gateway at
// once, its frames one after the other. redial dials for each of them.
func (b *benchScene) bareExchanges(ctx context.Context, gateways []gateway, n int, redial bool) (cost, error) {
	frames := map[string][][]byte{}
	for _, g := range gateways {
		frames[g.Name] = b.bodies(n)
	}
	return measured(func() error {
		return each(gateways, func(g gateway) error { return b.bareLoop(ctx, g.Name, frames[g.Name], redial) })
	})
}

func (b *benchScene) bareLoop(ctx context.Context, path string, frames [][]byte, redial bool) (err error) {
	var open *relaytest.Bare
	defer func() {
		if open != nil {
			err = errors.Join(err, open.Close())
		}
	}()
	for _, frame := range frames {
		if open == nil {
			if open, err = relaytest.DialBare(ctx, b.relay, path, benchKey, nil); err != nil {
				return err
			}
		}
		if _, err = open.Exchange(frame); err != nil {
			return fmt.Errorf("exchange with %s: %w", path, err)
		}
		if redial {
			if err = open.Close(); err != nil {
				return err
			}
			open = nil
		}
	}
	return nil
}

// bareDrain receives and completes what is in the queue, and does nothing else,
// with as many messages in hand as the consumer would have: one a session, or, off a
// plain queue, one a slot. It takes n messages for each gateway.
func (b *benchScene) bareDrain(ctx context.Context, n int) (cost, error) {
	client, err := b.connect() // as the consumer has one of its own
	if err != nil {
		return cost{}, err
	}
	defer client.Close(ctx)
	if b.sessions() {
		return measured(func() error {
			return each(b.gateways, func(gateway) error { return drainSession(ctx, client, n) })
		})
	}
	receiver, err := client.NewReceiverForQueue(queueName, nil)
	if err != nil {
		return cost{}, err
	}
	return measured(func() error { return drainPlain(ctx, receiver, len(b.gateways), n*len(b.gateways)) })
}

// bareReceive receives and deletes the messages of the sessions, n of each, as
// many at a time as there are: the broker's part, and little else.
func (b *benchScene) bareReceive(ctx context.Context, n int) (cost, error) {
	client, err := b.connect()
	if err != nil {
		return cost{}, err
	}
	defer client.Close(ctx)
	return measured(func() error {
		return each(b.gateways, func(gateway) error {
			receiver, err := client.AcceptNextSessionForQueue(ctx, queueName, &azservicebus.SessionReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
			if err != nil {
				return err
			}
			defer receiver.Close(ctx)
			for done := 0; done < n; {
				messages, err := receiver.ReceiveMessages(ctx, min(n-done, 250), nil)
				if err != nil {
					return err
				}
				done += len(messages)
			}
			return nil
		})
	})
}

func drainSession(ctx context.Context, client *azservicebus.Client, n int) error {
	receiver, err := client.AcceptNextSessionForQueue(ctx, queueName, nil)
	if err != nil {
		return err
	}
	defer receiver.Close(ctx)
	for done := 0; done < n; {
		messages, err := receiver.ReceiveMessages(ctx, 1, nil)
		if err != nil {
			return err
		}
		for _, m := range messages {
			if err := receiver.CompleteMessage(ctx, m, nil); err != nil {
				return err
			}
		}
		done += len(messages)
	}
	return nil
}

func drainPlain(ctx context.Context, receiver *azservicebus.Receiver, inHand, n int) error {
	slots := make(chan struct{}, inHand)
	var failed atomic.Pointer[error]
	for done := 0; done < n; {
		free := takeSlots(slots)
		messages, err := receiver.ReceiveMessages(ctx, free, &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: time.Millisecond})
		if err != nil {
			return err
		}
		for range free - len(messages) {
			<-slots
		}
		for _, m := range messages {
			go func() {
				defer func() { <-slots }()
				if err := receiver.CompleteMessage(ctx, m, nil); err != nil {
					failed.Store(&err)
				}
			}()
		}
		done += len(messages)
	}
	for range inHand {
		slots <- struct{}{}
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// takeSlots waits for a slot and takes every other that is free.
func takeSlots(slots chan struct{}) int {
	slots <- struct{}{}
	for taken := 1; ; taken++ {
		select {
		case slots <- struct{}{}:
		default:
			return taken
		}
	}
}

// bareWrites is the SQL that any sender with these promises is at least: for each
// action a row inserted, marked sent, and marked confirmed, each of the three
// committed before the next. Statements are prepared, and nothing is read.
func (b *benchScene) bareWrites(ctx context.Context, inHand, n int) (c cost, err error) {
	db, err := openBare(ctx, b.databaseURL)
	if err != nil {
		return cost{}, err
	}
	defer db.Close()
	var steps [3]*sql.Stmt
	for i, text := range []string{
		"INSERT INTO bare (id, provider, accession, digest, sequence, status, received_at, claimed_until) VALUES ($1, $2, $3, $4, $5, 'pending', $6, $7)",
		"UPDATE bare SET status = 'sent', relay = $2, sent_at = $3 WHERE id = $1",
		"UPDATE bare SET status = 'confirmed', settlement = $2, confirmed_at = $3, claimed_until = NULL WHERE id = $1",
	} {
		if steps[i], err = db.PrepareContext(ctx, text); err != nil {
			return cost{}, err
		}
	}
	digest := strings.Repeat("0123456789abcdef", 4)
	write := func(i int64) error {
		id, now := uuid.NewString(), time.Now()
		_, first := steps[0].ExecContext(ctx, id, "gw-001", fmt.Sprint("SYN", i), digest, i, now, now.Add(time.Minute))
		_, second := steps[1].ExecContext(ctx, id, "127.0.0.1:12345/gw-001", now)
		_, third := steps[2].ExecContext(ctx, id, "complete", now)
		return errors.Join(first, second, third)
	}
	var next atomic.Int64
	return measured(func() error {
		return each(make([]gateway, inHand), func(gateway) error {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if err := write(i); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// closing closes the scene at the end of a function that returns *err.
func closing(b *benchScene, err *error) { *err = errors.Join(*err, b.Close()) }
