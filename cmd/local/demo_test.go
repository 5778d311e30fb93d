package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
)

// onWrite calls back at the first write.
type onWrite struct {
	strings.Builder
	once sync.Once
	do   func()
}

func (w *onWrite) Write(b []byte) (int, error) {
	w.once.Do(w.do)
	return w.Builder.Write(b)
}

func TestDemoInterrupted(t *testing.T) {
	before := goleak.IgnoreCurrent()
	ctx, interrupt := context.WithCancel(t.Context())
	var stdout strings.Builder
	stderr := &onWrite{do: interrupt} // the first line of progress
	if code := run(ctx, nil, &stdout, stderr); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	// What was cut short may be logged in between.
	if text := stderr.String(); !strings.Contains(text, "settled\n") || !strings.HasSuffix(text, "\nlocal: interrupted\n") {
		t.Errorf("stderr: %s", text)
	}
	noLeak(t, before)
}

// started starts a stack that stops with the test, and leaves nothing behind.
func started(t *testing.T, s settings) *stack {
	t.Helper()
	before := goleak.IgnoreCurrent()
	s.queues = []servicebustest.Queue{{Name: queueName}}
	s.clinic, s.log = time.UTC, logTo(t.Output(), true)
	st, err := start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
		noLeak(t, before)
	})
	return st
}

// When the time is over the report names what is missing. It is over at the first
// look after what nothing precedes was sent.
func TestTimeOver(t *testing.T) {
	st := started(t, settings{gateways: []gateway{{Name: oneShotGateway, Mode: relaytest.ModeOffline}}})
	list, err := demoSamples(1, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ctx, over := context.WithCancel(t.Context())
	fates, err := st.sendAll(ctx, list, func(int) { over() })
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	b, err := st.openBooks(t.Context(), list, fates)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := report(&text, list, b); err == nil {
		t.Error("report is content")
	}
	for _, want := range []string{
		"create, no listener once  leeds    waiting   0      -      -       -\n",
		"update to COMPLETED       hull     not sent ",
		"queue     2 enqueued: 0 completed, 0 dead-lettered, 2 left",
		"queue: sample-1 (create, no listener once, leeds) is not settled",
		"SQL: sample-1 (create, no listener once, leeds) has no row",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("report does not say %q:\n%s", want, &text)
		}
	}
}

// An exchange with a gateway that never answers does not keep a stop waiting
// for its ack timeout, and is recorded for what it was.
func TestStopWithSilentGateway(t *testing.T) {
	database := "sqlite:" + t.TempDir() + "/worklist.sqlite"
	st := started(t, settings{
		gateways:    []gateway{{Name: oneShotGateway, Mode: relaytest.ModeSilent}},
		databaseURL: database, consume: true,
	})
	list, err := demoSamples(1, time.Now().Add(midnightMargin))
	if err != nil {
		t.Fatal(err)
	}
	client, err := st.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(context.WithoutCancel(t.Context()))
	w, err := newWatcher(client)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.send(t.Context(), list[0]); err != nil {
		t.Fatal(err)
	}
	suite.Until(t, "the gateway has a frame", func() bool { return st.snapshots()[0].Exchanges == 1 })
	client.Close(t.Context())
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	row, attempts, _, err := db.Action(t.Context(), "", list[0].actionID)
	if err != nil {
		t.Fatal(err)
	}
	if row.Status != store.Sent || len(attempts) != 1 || deref(attempts[0].Phase) != "ack_lost" {
		t.Errorf("action is %s after %+v", row.Status, attempts)
	}
}
