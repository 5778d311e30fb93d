package main_test

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	service "github.com/worklist-relay/worklist-relay/cmd/worklist-relay"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// How long a ledger, what for and with how much harm. Without flags it is a
// short one on every database there is. With -artifacts the consumers' logs are kept.
var (
	ledgerActions  = flag.Int("ledger.actions", 0, "how many actions (default 60, with -long 600)")
	ledgerKills    = flag.Int("ledger.kills", 0, "how often a consumer is killed; the other harm grows with it (default 1, with -long 6)")
	ledgerSeed     = flag.Uint64("ledger.seed", 0, "what is done and when (0: at random)")
	ledgerSessions = flag.Bool("ledger.sessions", false, "on a session queue (default on both kinds)")
	ledgerDatabase = flag.String("ledger.database", "", "sqlite or postgres (default both)")
	ledgerReplicas = flag.Int("ledger.replicas", 2, "how many consumers at once")
)

// However much harm is done while actions flow, the books balance: what was
// enqueued, what SQL says, what is at the gateways and what is dead-lettered
// agree, and nothing is left over or counted twice.
func TestLedger(t *testing.T) {
	t.Parallel()
	actions, kills := 60, 1
	if suite.Long() {
		actions, kills = 600, 6
	}
	*ledgerActions, *ledgerKills = cmp.Or(*ledgerActions, actions), cmp.Or(*ledgerKills, kills)
	databases := storetest.Dialects
	if *ledgerDatabase != "" {
		databases = []string{*ledgerDatabase}
	}
	for _, database := range databases {
		for queue, sessions := range ledgerQueues() {
			t.Run(database+"/"+queue, func(t *testing.T) {
				t.Parallel() // it waits more than it works
				seed := *ledgerSeed
				if seed == 0 {
					seed = rand.Uint64()
				}
				t.Logf("to run it again: go test ./cmd/worklist-relay -count=1 -run '^TestLedger$' -ledger.database=%s -ledger.sessions=%v -ledger.actions=%d -ledger.kills=%d -ledger.replicas=%d -ledger.seed=%d",
					database, sessions, *ledgerActions, *ledgerKills, *ledgerReplicas, seed)
				l := openLedger(t, database, sessions, seed)
				l.work()
				l.balance()
			})
		}
	}
}

// ledgerQueues are the kinds of queue to run on, and which has sessions.
func ledgerQueues() map[string]bool {
	queues := map[string]bool{"plain": false, "sessions": true}
	flag.Visit(func(f *flag.Flag) {
		if f.Name == "ledger.sessions" {
			maps.DeleteFunc(queues, func(_ string, sessions bool) bool { return sessions != *ledgerSessions })
		}
	})
	return queues
}

const (
	ledgerGateways = 20 // the first half one-shot, the second persistent
	nameOfGateway  = "gw-%03d"
	ledgerPortions = 4 // in which the actions are enqueued
	ledgerTick     = 20 * time.Millisecond
	ledgerStuck    = service.Patience // without anything being settled
)

// traffic is whom the actions are for, in turn: every gateway, and one of each
// half more often.
var traffic = func() (names []string) {
	for i := range ledgerGateways {
		names = append(names, fmt.Sprintf(nameOfGateway, i+1))
	}
	for range ledgerGateways / 4 {
		names = append(names, fmt.Sprintf(nameOfGateway, 1), fmt.Sprintf(nameOfGateway, ledgerGateways))
	}
	return names
}()

func persistent(gateway string) bool { return gateway > fmt.Sprintf(nameOfGateway, ledgerGateways/2) }

// hurry makes the consumers wait no longer than a test can, and give nothing up
// by count that only harm has kept from its gateway.
var hurry = []string{
	"CONNECT_TIMEOUT=1s", "TLS_TIMEOUT=1s", "HANDSHAKE_TIMEOUT=3s", "ACK_TIMEOUT=1s", "IDLE_TIMEOUT=200ms",
	"CLAIM_LEASE=5500ms", "RETRY_DELAYS=300ms,300ms,600ms,1s", "POSTPONE_DELAYS=500ms,1s", "MAX_ATTEMPTS=20",
	"BREAKER_SPAN=1s", "PROBE_DELAYS=200ms,400ms,1s",
	// The samples are for today at the clinic, which must not end meanwhile.
	"CLINIC_TIME_ZONE=Etc/GMT+12",
}

// ledger is one run: the programs, what was enqueued, and the harm to be done.
type ledger struct {
	*processes
	began    time.Time
	random   *rand.Rand
	replicas []*exec.Cmd
	settings []string // the consumers' environment beside processes.env
	logs     string   // the folder of the consumers' logs

	entries  map[string]*entry // by action id
	portions [][]byte          // still to be enqueued, as enqueue reads them
	harm     harm
}

// openLedger starts everything, and enqueues nothing yet.
func openLedger(t *testing.T, database string, sessions bool, seed uint64) *ledger {
	t.Helper()
	address := storetest.URL(t, database)
	flags := []string{"--lock", "5s", "--max-delivery", "1000", "--gateways", fmt.Sprintf("%d=one-shot:rtt=3ms,%d=persistent:rtt=3ms", ledgerGateways/2, ledgerGateways/2)}
	if sessions {
		flags = append(flags, "--sessions")
	}
	l := &ledger{
		processes: startServers(t, address, flags...), began: time.Now(),
		random: rand.New(rand.NewPCG(seed, 0)), settings: slices.Clone(hurry), logs: t.ArtifactDir(),
	}
	l.prepare(seed)
	l.plan(database, address)
	t.Cleanup(func() {
		for _, cmd := range l.replicas {
			l.stop(cmd)
		}
	})
	for i := range *ledgerReplicas {
		l.replicas = append(l.replicas, l.consume(i))
	}
	return l
}

// consume starts the consumer of place i. It logs behind the one before it.
func (l *ledger) consume(i int) *exec.Cmd {
	l.t.Helper()
	log, err := os.OpenFile(filepath.Join(l.logs, fmt.Sprintf("replica-%d.log", i)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		l.t.Fatal(err)
	}
	defer log.Close() // the program has its own
	cmd := l.command("worklist-relay", "run")
	cmd.Env = append(slices.Clone(l.env), l.settings...)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	return cmd
}

// kill ends the consumer of place i as a power cut would, and starts another.
func (l *ledger) kill(i int) {
	l.t.Helper()
	cmd := l.replicas[i]
	if err := cmd.Process.Kill(); err != nil {
		l.t.Error(err)
	}
	_ = cmd.Wait() // says that it was killed
	if status := cmd.ProcessState.String(); status != "signal: killed" {
		l.t.Errorf("consumer %d had ended by itself: %s", i, status)
	}
	l.replicas[i] = l.consume(i)
}

// work enqueues, does harm as the work gets on, and returns when nothing is left.
func (l *ledger) work() {
	l.t.Helper()
	tick := time.NewTicker(ledgerTick)
	defer tick.Stop()
	last, since := -1, time.Now()
	for ; ; <-tick.C {
		settled := l.settled()
		if settled != last {
			last, since = settled, time.Now()
		}
		l.feed(settled)
		l.harm.advance(settled)
		switch {
		case settled == len(l.entries) && l.harm.over() && l.queue().left() == 0:
			return
		case time.Since(since) > ledgerStuck:
			l.t.Errorf("%d of %d actions are settled, and nothing has moved for %v", settled, len(l.entries), ledgerStuck)
			return
		}
	}
}

// feed enqueues the next portion when half of the one before is settled.
func (l *ledger) feed(settled int) {
	l.t.Helper()
	fed := ledgerPortions - len(l.portions)
	if len(l.portions) == 0 || settled*2*ledgerPortions < (2*fed-1)*len(l.entries) {
		return
	}
	// Harm to the broker may stop it half-way. To send all again is harmless.
	for range 5 {
		cmd := l.command("worklist-relay", "enqueue", "-")
		cmd.Stdin = bytes.NewReader(l.portions[0])
		out, err := cmd.CombinedOutput()
		if err == nil {
			l.portions = l.portions[1:]
			return
		}
		l.t.Logf("enqueue: %v\n%s", err, out)
	}
	l.t.Fatal("enqueue does not succeed")
}

// settled is how many actions SQL says are over.
func (l *ledger) settled() int {
	l.t.Helper()
	counts := l.counts()
	return counts[store.Confirmed] + counts[store.Failed]
}
