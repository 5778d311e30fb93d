package servicebustest_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"
	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
	"go.uber.org/goleak"
)

func ExampleNewServer() {
	server, err := servicebustest.NewServer(servicebustest.Config{Queues: []servicebustest.Queue{{Name: "worklist", MaxDeliveryCount: 1}}})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	ctx := context.Background()
	client, err := azservicebus.NewClientFromConnectionString(server.ConnectionString(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close(ctx)

	sender, _ := client.NewSender("worklist", nil)
	sender.SendMessage(ctx, &azservicebus.Message{Body: []byte("SYNTHETIC^PERSON")}, nil)
	receiver, _ := client.NewReceiverForQueue("worklist", nil)
	messages, _ := receiver.ReceiveMessages(ctx, 1, nil)
	fmt.Printf("received %s, delivery %d\n", messages[0].Body, messages[0].DeliveryCount)

	server.ExpireLocks()
	fmt.Printf("%+v\n", server.Queues())
	for _, m := range server.Messages("worklist/$DeadLetterQueue") {
		fmt.Println(m.DeadLetterReason)
	}
	// Output:
	// received SYNTHETIC^PERSON, delivery 1
	// [{Name:worklist Active:0 Scheduled:0 DeadLettered:1 Locked:0 Deferred:0}]
	// MaxDeliveryCountExceeded
}

func TestNewServerFaults(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	queue := func(q servicebustest.Queue) servicebustest.Config {
		q.Name = queueName
		return servicebustest.Config{Queues: []servicebustest.Queue{q}}
	}
	tests := []struct {
		name, want string
		config     servicebustest.Config
	}{
		{"a port in use", taken.Addr().String(), servicebustest.Config{Addr: taken.Addr().String()}},
		{"an HTTP port in use", taken.Addr().String(), servicebustest.Config{HTTPAddr: taken.Addr().String()}},
		{"an address that is none", "nonsense", servicebustest.Config{Addr: "nonsense"}},
		{"a queue twice", "queue Worklist: configured twice", servicebustest.Config{Queues: []servicebustest.Queue{{Name: "worklist"}, {Name: "Worklist"}}}},
		{"a queue without a name", `queue "": not a name`, servicebustest.Config{Queues: []servicebustest.Queue{{}}}},
		{"a lock too long", "queue worklist: LockDuration 6m0s", queue(servicebustest.Queue{LockDuration: 6 * time.Minute})},
		{"a negative count", "queue worklist: MaxDeliveryCount -1", queue(servicebustest.Queue{MaxDeliveryCount: -1})},
		{"a negative window", "queue worklist: DuplicateDetectionWindow -1s", queue(servicebustest.Queue{DuplicateDetectionWindow: -time.Second})},
		{"a negative time to live", "queue worklist: DefaultTTL -1s", queue(servicebustest.Queue{DefaultTTL: -time.Second})},
		{"a negative size", "queue worklist: MaxMessageBytes -1", queue(servicebustest.Queue{MaxMessageBytes: -1})},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server, err := servicebustest.NewServer(test.config)
			if err == nil {
				server.Close()
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
}

func TestClose(t *testing.T) {
	before := goleak.IgnoreCurrent()
	server, err := servicebustest.NewServer(servicebustest.Config{HTTPAddr: "127.0.0.1:0", Queues: []servicebustest.Queue{{Name: queueName}}})
	must(t, err)
	var idle []net.Conn
	for range 3 {
		conn, err := net.Dial("tcp", server.Addr()) // a client that never says a word
		must(t, err)
		idle = append(idle, conn)
	}
	server.Delay(time.Hour, time.Hour)
	server.Away(time.Hour)
	must(t, server.Close())
	must(t, server.Close())
	goleak.VerifyNone(t, before)
	for _, conn := range idle {
		conn.Close()
	}
}

// TestManyAtOnce has several clients send, receive and complete, each over one connection that is busy in both directions, and
// counts that every message came exactly once and whole.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, servicebustest.Config{Queues: []servicebustest.Queue{{Name: queueName}}})
	const clients = 3
	each := 500
	if suite.Long() {
		each = 1500
	}
	ctx, done := context.WithCancel(r.ctx)
	defer done()
	var mu sync.Mutex
	seen := make(map[string]int)
	var running sync.WaitGroup
	for i := range clients {
		client := r.dial(r.server.ConnectionString())
		sender, err := client.NewSender(queueName, nil)
		must(t, err)
		receiver, err := client.NewReceiverForQueue(queueName, nil)
		must(t, err)
		running.Go(func() {
			for n := range each {
				body := fmt.Sprintf("%d-%d-%s", i, n, strings.Repeat("x", n%700))
				if err := sender.SendMessage(r.ctx, &azservicebus.Message{Body: []byte(body)}, nil); err != nil {
					t.Error(err)
					done()
					return
				}
			}
		})
		running.Go(func() {
			for ctx.Err() == nil {
				messages, err := receiver.ReceiveMessages(ctx, 20, nil)
				if err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				for _, m := range messages {
					if err := receiver.CompleteMessage(r.ctx, m, nil); err != nil {
						t.Error(err)
					}
					mu.Lock()
					seen[string(m.Body)]++
					if len(seen) == clients*each {
						done()
					}
					mu.Unlock()
				}
			}
		})
	}
	running.Wait()
	for i := range clients {
		for n := range each {
			if body := fmt.Sprintf("%d-%d-%s", i, n, strings.Repeat("x", n%700)); seen[body] != 1 {
				t.Errorf("message %d of client %d came %d times", n, i, seen[body])
			}
		}
	}
	r.state(servicebustest.QueueState{})
}

// TestSettledMessagesAreFreed passes 40 MB through a queue, in its long form 100, and looks at what is left of it.
func TestSettledMessagesAreFreed(t *testing.T) {
	r := newRig(t, servicebustest.Config{Queues: []servicebustest.Queue{{Name: queueName, RequiresDuplicateDetection: true}}})
	sender, receiver := r.sender(), r.receiver()
	body := make([]byte, 100<<10)
	heap := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	many := 400
	if suite.Long() {
		many = 1000
	}
	before := heap()
	for range many {
		must(t, sender.SendMessage(r.ctx, &azservicebus.Message{Body: body}, nil))
		must(t, receiver.CompleteMessage(r.ctx, r.receiveOne(receiver), nil))
	}
	if after := heap(); after > before+20<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
	r.state(servicebustest.QueueState{})
}

func TestQueuesAndMessages(t *testing.T) {
	t.Parallel()
	prove(t, []behaviour{{name: "what is told without AMQP", config: func(config *servicebustest.Config) {
		config.Queues = append(config.Queues, servicebustest.Queue{Name: "another"})
	}, prove: func(t *testing.T, r *rig) {
		r.sendMessage(&azservicebus.Message{
			Body: []byte("SYNTHETIC^PERSON"), MessageID: ptr("one"), SessionID: ptr("s"), ApplicationProperties: map[string]any{"b": 1, "a": "secret"},
		})
		r.sendMessage(&azservicebus.Message{MessageID: ptr("two"), ScheduledEnqueueTime: ptr(time.Now().Add(time.Hour))})
		m := r.receiveOne(r.receiver())
		states := r.server.Messages(strings.ToUpper(queueName))
		want := servicebustest.MessageState{
			SequenceNumber: 1, EnqueuedSequenceNumber: 1, MessageID: "one", SessionID: "s", State: "locked", Properties: []string{"a", "b"},
			EnqueuedTime: states[0].EnqueuedTime, LockedUntil: states[0].LockedUntil,
		}
		if diff := cmp.Diff(want, states[0]); diff != "" {
			t.Error(diff)
		}
		if !states[0].LockedUntil.Truncate(time.Millisecond).Equal(*m.LockedUntil) || states[1].State != "scheduled" || states[1].ScheduledTime.IsZero() {
			t.Errorf("told %+v, received %+v", states, m)
		}
		if told := fmt.Sprintf("%+v", states); strings.Contains(told, "SYNTHETIC") || strings.Contains(told, "secret") {
			t.Errorf("told too much: %s", told)
		}
		if got := r.server.Messages("elsewhere"); got != nil {
			t.Errorf("an unknown queue holds %v", got)
		}
		if diff := cmp.Diff([]servicebustest.QueueState{{Name: "another"}, {Name: queueName, Locked: 1, Scheduled: 1}}, r.server.Queues()); diff != "" {
			t.Error(diff)
		}
	}}})
}
