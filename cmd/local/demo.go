package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
)

const (
	demoRetry = 500 * time.Millisecond

	// midnightMargin is how far ahead the samples' day is looked up, so that a
	// run that begins just before the clinic's midnight does not end in another
	// day than its samples are scheduled for.
	midnightMargin = 2 * time.Minute
)

// demo is the main job: it starts everything, sends the samples, shows what
// became of each, and fails unless that is what was expected.
func demo(ctx context.Context, stdout, stderr io.Writer, verbose bool) (err error) {
	limited, cancel := context.WithTimeout(ctx, usual.demo)
	defer cancel()
	now, err := clinicNow()
	if err != nil {
		return err
	}
	list, err := demoSamples(rand.Uint64(), now.Add(midnightMargin))
	if err != nil {
		return err
	}
	st, err := start(limited, demoSettings(now.Location(), logTo(stderr, verbose)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	st.prepareFaults()

	tell, done := progress(stderr, len(list))
	fates, err := st.sendAll(limited, list, tell)
	done()
	if err != nil && !errors.Is(limited.Err(), context.DeadlineExceeded) {
		return err
	}
	// When the time is over, the report says what is missing.
	reading, stop := context.WithTimeout(ctx, usual.read)
	defer stop()
	b, err := st.openBooks(reading, list, fates)
	if err != nil {
		return err
	}
	return report(stdout, list, b)
}

func demoSettings(clinic *time.Location, log *slog.Logger) settings {
	return settings{
		queues: []servicebustest.Queue{{Name: queueName, DeadLetteringOnExpiration: true}},
		gateways: []gateway{
			{Name: oneShotGateway, Mode: relaytest.ModeOneShot, RTT: 20 * time.Millisecond},
			{Name: persistentGateway, Mode: relaytest.ModePersistent, RTT: 20 * time.Millisecond},
			{Name: rejectingGateway, Mode: relaytest.ModeReject, RTT: 20 * time.Millisecond},
		},
		consume: true,
		retry:   consumer.RetryPolicy{Delays: []time.Duration{demoRetry}, Postponements: []time.Duration{demoRetry}},
		clinic:  clinic,
		log:     log,
	}
}

// prepareFaults makes the first dial of one gateway and the first exchange of
// another go wrong, as they do when a gateway restarts.
func (s *stack) prepareFaults() {
	s.relay.Refuse(oneShotGateway, 1, http.StatusNotFound, "There are no listeners connected for the endpoint.")
	s.attached[persistentGateway].Script(relaytest.Reply{Close: 1000})
}

// sendAll sends the samples wave by wave, and returns what became of them when
// all are settled or something went wrong.
func (s *stack) sendAll(ctx context.Context, list []sample, tell func(int)) (fates map[string]fate, err error) {
	client, err := s.connect()
	if err != nil {
		return nil, err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), usual.closing)
		defer cancel()
		err = errors.Join(err, client.Close(closing))
	}()
	w, err := newWatcher(client)
	if err != nil {
		return nil, err
	}
	for wave := 0; len(w.fates) < len(list); wave++ {
		for _, s := range list {
			if s.wave != wave {
				continue
			}
			if err := w.send(ctx, s); err != nil {
				return w.fates, err
			}
		}
		if err := w.await(ctx, tell); err != nil {
			return w.fates, err
		}
	}
	return w.fates, nil
}

// report prints the table and the counts. Its error is the first of what
// disagrees, all of which is printed.
func report(w io.Writer, list []sample, b books) error {
	if err := printTable(w, linesOf(list, b)); err != nil {
		return err
	}
	sent, dead, left := len(b.fates), b.queue.DeadLettered, b.left()
	writes, items := b.writes()
	fmt.Fprintf(w, "\nqueue     %d enqueued: %d completed, %d dead-lettered, %d left\n", sent, sent-dead-left, dead, left)
	fmt.Fprintf(w, "gateways  %d writes, %d items\n", writes, items)
	fmt.Fprintf(w, "SQL       %d confirmed, %d failed, %d open\n", b.rowsOf(store.Confirmed), b.rowsOf(store.Failed),
		b.rowsOf(store.Pending)+b.rowsOf(store.Sent))
	wrong := b.disagreements(list)
	if len(wrong) == 0 {
		fmt.Fprintln(w, "\nEvery action met its expected outcome; queue, gateways and SQL agree.")
		return nil
	}
	fmt.Fprintf(w, "\n%s\n", strings.Join(wrong, "\n"))
	return fmt.Errorf("%d disagreements, the first: %s", len(wrong), wrong[0])
}

// linesOf is the table: what each sample was, and what became of it.
func linesOf(list []sample, b books) []line {
	var lines []line
	for _, s := range list {
		l := line{what: s.what, gateway: s.gateway, outcome: "not sent"}
		if was, sent := b.fates[s.label]; sent {
			l.outcome, l.reason, l.took = was.outcome(), was.reason, was.took
		}
		if s.row != "" {
			l.tries, l.phases = b.rows[s.actionID].Attempts, b.rows[s.actionID].phases
		}
		lines = append(lines, l)
	}
	return lines
}

func (f fate) outcome() string {
	switch {
	case !f.settled:
		return "waiting"
	case f.reason != "":
		return "dead-lettered"
	}
	return "completed"
}
