package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	service "github.com/worklist-relay/worklist-relay/cmd/worklist-relay"
	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// Dead letters of ten gateways, of which one is still off; with -long a thousand.
// The first replay is killed half-way, the second confirms the rest of nine gateways,
// and of the tenth sends one canary and says why no more.
func TestReplayOfAThousand(t *testing.T) {
	t.Parallel()
	for _, dialect := range storetest.Dialects {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, dialect)
			s.env["BREAKER_SPAN"], s.env["RETRY_DELAYS"] = "1h", "1h"
			const gateways = 10
			each, rate := 6, "20" // slow enough to be killed half-way
			if suite.Long() {
				each, rate = 100, "0"
			}
			all := []*relaytest.Gateway{s.gateway}
			for i := 1; i < gateways; i++ {
				all = append(all, s.addGateway(fmt.Sprintf("gateway-%d", i)))
			}
			off := all[gateways-1]
			off.SetMode(relaytest.ModeOffline)
			ids := s.deadLetters(all, each)
			s.start()

			first := s.command("dlq", "replay", "--yes", "--reason-why", "the network is mended", "--canary-wait", "10m", "--rate", rate)
			s.must(first.Start())
			s.until("many are confirmed", func() bool { return s.count(store.Confirmed) > gateways*each/4 })
			s.must(first.Process.Kill())
			_ = first.Wait() // killed
			s.until("what it had locked is free again", func() bool {
				return !slices.ContainsFunc(s.broker.Messages(queue+"/$DeadLetterQueue"), func(m servicebustest.MessageState) bool { return m.State == "locked" })
			})

			var out bytes.Buffer
			replays := 1
			for replays == 1 || s.count(store.Confirmed) < (gateways-1)*each {
				// A canary of a slow machine may take too long for one.
				if replays++; replays == each {
					t.Fatalf("%d replays, and %d are confirmed\n%s", replays, s.count(store.Confirmed), out.String())
				}
				out.Reset()
				again := s.command("dlq", "replay", "--yes", "--reason-why", "once more", "--canary-wait", "10s", "--json")
				again.Stdout = &out
				_ = again.Run() // 4, since one gateway is off
				s.until("nothing is in flight but canaries", func() bool { q := s.queueState(); return q.Active+q.Locked == 0 })
			}
			var report consumer.ReplayReport
			s.must(json.NewDecoder(&out).Decode(&report))
			at := slices.IndexFunc(report.Routes, func(r consumer.RouteReport) bool { return r.Route == s.toRelay.addr()+"/"+off.Name() })
			if at < 0 || report.Routes[at].State != consumer.RouteStopped || report.Routes[at].Why == "" {
				t.Errorf("routes %+v", report.Routes)
			}
			if n := s.count(store.Confirmed); n != (gateways-1)*each {
				t.Errorf("%d are confirmed", n)
			}
			for _, g := range all[:gateways-1] {
				for _, item := range g.Snapshot().Items {
					if item.Writes != 1 {
						t.Errorf("%s: %+v", g.Name(), item)
					}
				}
				if n := len(g.Snapshot().Items); n != each {
					t.Errorf("%s holds %d items, want %d", g.Name(), n, each)
				}
			}
			// Each replay sent one canary at most to the gateway that is off, and no more.
			sent := 0
			for _, id := range ids[gateways-1] {
				if s.row(id).ReplayedSequence != nil {
					sent++
				}
			}
			if q := s.queueState(); sent != q.Active+q.Locked+q.Scheduled || q.DeadLettered+sent != each || sent == 0 || sent > replays {
				t.Errorf("%d canaries of %d replays, queue %+v", sent, replays, q)
			}
		})
	}
}

// count is how many actions stand at a status.
func (s *scene) count(status store.Status) int {
	s.t.Helper()
	counts, err := s.store.Counts(context.Background())
	s.must(err)
	return counts[status]
}

// command is the program about to be run with these arguments, for at most some minutes.
func (s *scene) command(args ...string) *exec.Cmd {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), service.Patience)
	s.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, service.Program, args...)
	cmd.Env = environ(s.env)
	return cmd
}

// deadLetters makes so many of each gateway, with their failed rows, mixed, and
// returns the action ids by gateway.
func (s *scene) deadLetters(gateways []*relaytest.Gateway, each int) [][]string {
	s.t.Helper()
	ctx := context.Background()
	ids := make([][]string, len(gateways))
	for range each {
		for i, g := range gateways {
			ids[i] = append(ids[i], s.enqueue(g.Name()))
		}
	}
	receiver, err := s.client.NewReceiverForQueue(queue, nil)
	s.must(err)
	defer receiver.Close(ctx)
	reason := string(consumer.ReasonRetriesExhausted)
	for left := each * len(gateways); left > 0; {
		messages, err := receiver.ReceiveMessages(ctx, min(left, 20), nil)
		s.must(err)
		for _, m := range messages { // before their locks run out
			s.must(receiver.DeadLetterMessage(ctx, m, &azservicebus.DeadLetterOptions{Reason: &reason}))
		}
		for _, m := range messages {
			_, err := s.store.DeadLettered(ctx, store.Lost{Invalid: store.Invalid{
				ActionID: m.MessageID, ActionType: "worklist.create_item", ProviderID: m.ApplicationProperties["provider_id"].(string), Reason: reason,
				SequenceNumber: *m.SequenceNumber, EnqueuedAt: *m.EnqueuedTime,
			}}, store.By{Who: "test"})
			s.must(err)
		}
		left -= len(messages)
	}
	return ids
}
