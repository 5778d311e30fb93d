package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

const (
	lookEvery  = 20 * time.Millisecond
	barEvery   = 100 * time.Millisecond
	tellEvery  = 500 * time.Millisecond
	peekAtOnce = 250 // the service gives no more
)

// watcher sends samples and sees them leave the queue. It peeks as any other
// client of the queue could, and takes nothing. It is for one goroutine.
type watcher struct {
	sender     *azservicebus.Sender
	live, dead *azservicebus.Receiver
	fates      map[string]fate // by label
	settled    int
}

func newWatcher(client *azservicebus.Client) (*watcher, error) {
	w := &watcher{fates: map[string]fate{}}
	var errs [3]error
	w.sender, errs[0] = client.NewSender(queueName, nil)
	w.live, errs[1] = client.NewReceiverForQueue(queueName, nil)
	w.dead, errs[2] = client.NewReceiverForQueue(queueName, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	return w, errors.Join(errs[:]...)
}

func (w *watcher) send(ctx context.Context, s sample) error {
	w.fates[s.label] = fate{sent: time.Now()}
	if err := w.sender.SendMessage(ctx, s.message, nil); err != nil {
		return fmt.Errorf("enqueue %s: %w", s, err)
	}
	return nil
}

// await returns when all that was sent is settled, or with ctx's error.
func (w *watcher) await(ctx context.Context, tell func(settled int)) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		if err := w.look(ctx); err != nil {
			return err
		}
		tell(w.settled)
		if w.settled == len(w.fates) {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// look finds out what was settled since the last look. A message is in the
// queue, under its own name or its copy's, until it is settled, so the
// dead-letter queue is asked second: what is in neither was completed.
func (w *watcher) look(ctx context.Context) error {
	live, err := peek(ctx, w.live)
	if err != nil {
		return fmt.Errorf("peek %s: %w", queueName, err)
	}
	dead, err := peek(ctx, w.dead)
	if err != nil {
		return fmt.Errorf("peek dead letters of %s: %w", queueName, err)
	}
	now := time.Now()
	for label, f := range w.fates {
		if _, waits := live[label]; !waits && !f.settled {
			f.settled, f.reason, f.took = true, dead[label], now.Sub(f.sent)
			w.fates[label] = f
			w.settled++
		}
	}
	return nil
}

// peek gives the dead-letter reason, "" if none, of each sample in a queue.
func peek(ctx context.Context, from *azservicebus.Receiver) (map[string]string, error) {
	reasons := map[string]string{}
	for next := int64(0); ; {
		messages, err := from.PeekMessages(ctx, peekAtOnce, &azservicebus.PeekMessagesOptions{FromSequenceNumber: &next})
		if err != nil || len(messages) == 0 {
			return reasons, err
		}
		for _, m := range messages {
			if m.CorrelationID != nil {
				reasons[*m.CorrelationID] = deref(m.DeadLetterReason)
			}
			next = deref(m.SequenceNumber) + 1
		}
	}
}

// progress shows how many of total are settled: a bar on a terminal, otherwise
// a line now and then. What it left on the terminal is gone after done.
func progress(w io.Writer, total int) (tell func(settled int), done func()) {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		bar := progressbar.NewOptions(total,
			progressbar.OptionSetWriter(w), progressbar.OptionSetDescription("settled"), progressbar.OptionShowCount(),
			progressbar.OptionSetWidth(40), progressbar.OptionSetPredictTime(false), progressbar.OptionThrottle(barEvery))
		// A bar that cannot be drawn stops nothing.
		return func(settled int) { _ = bar.Set(settled) }, func() { _ = bar.Clear() }
	}
	told, when := 0, time.Now()
	return func(settled int) {
		if settled == told || settled < total && time.Since(when) < tellEvery {
			return
		}
		told, when = settled, time.Now()
		fmt.Fprintf(w, "%d of %d settled\n", settled, total)
	}, func() {}
}
