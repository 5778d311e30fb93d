package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

// ward is a consumer in a process of its own, this program run again, whose
// memory and sockets are nobody else's. What passes between the two is JSON: the
// child reads its scene, and then, for each further value, tells what it holds.
// Where its standard input ends, so does it.
type ward struct {
	*process
	ask  *json.Encoder
	tell *json.Decoder
	end  io.Closer // of its standard input
}

// wardScene is where a ward finds what it needs.
type wardScene struct {
	Broker, Relay, Database string // connection string, host:port, URL
	Slots                   int
	Idle                    time.Duration // how long it keeps a connection unused
}

// held is what a ward holds: memory after two collections, of which the second
// takes what pools gave up in the first, and sockets.
type held struct {
	Heap       uint64 // bytes of objects that are in use
	Stacks     uint64 // bytes, with those that the runtime keeps for goroutines to come
	Goroutines int
	sockets    int // counted from outside
}

// startWard starts one for the scene. It ends with ctx at the latest.
func (b *benchScene) startWard(ctx context.Context, slots int) (*ward, error) {
	own, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, own)
	cmd.Args, cmd.Env = []string{"local", wardCommand}, []string{}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w := &ward{ask: json.NewEncoder(in), tell: json.NewDecoder(out), end: in}
	if w.process, err = launch(cmd); err != nil {
		return nil, err
	}
	err = w.ask.Encode(wardScene{Broker: b.broker.ConnectionString(), Relay: b.relay.Addr(), Database: b.databaseURL, Slots: slots, Idle: usual.idle})
	if err != nil {
		return nil, errors.Join(err, w.stop())
	}
	return w, nil
}

// held asks the ward what it holds. Its sockets are counted first: collections
// take a moment, in which an idle one may be closed.
func (w *ward) held() (h held, err error) {
	if h.sockets, err = openSockets(w.cmd.Process.Pid); err != nil {
		return held{}, err
	}
	if err = w.ask.Encode(struct{}{}); err == nil {
		err = w.tell.Decode(&h)
	}
	if err != nil {
		return held{}, fmt.Errorf("ask the consumer's process: %w", err)
	}
	return h, nil
}

// stop ends the ward and waits for it.
func (w *ward) stop() error {
	_ = w.end.Close() // SIGTERM follows
	return w.process.stop()
}

const wardCommand = "bench-consumer"

func benchConsumerCommand() *cobra.Command {
	return &cobra.Command{
		Use:    wardCommand,
		Short:  "Be the consumer that bench measures",
		Args:   noArguments,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return beWard(cmd.Context(), json.NewDecoder(cmd.InOrStdin()), json.NewEncoder(cmd.OutOrStdout()))
		},
	}
}

// beWard runs the consumer as production does, until asked has no more.
func beWard(ctx context.Context, asked *json.Decoder, tell *json.Encoder) (err error) {
	var scene wardScene
	if err := asked.Decode(&scene); err != nil {
		return usage(fmt.Errorf("%s is for bench alone: %w", wardCommand, err))
	}
	now, err := clinicNow()
	if err != nil {
		return err
	}
	s, err := store.Open(ctx, scene.Database)
	if err != nil {
		return err
	}
	defer s.Close()
	sender := &relay.Client{PlainHosts: []string{scene.Relay}, IdleTimeout: scene.Idle}
	defer sender.Close()
	c := &consumer.Consumer{
		Connect: func() (*azservicebus.Client, error) {
			return azservicebus.NewClientFromConnectionString(scene.Broker, nil)
		},
		Queue: queueName, Store: s, Relay: sender, Secret: secret, Clinic: now.Location(), Concurrency: scene.Slots,
		Log:     slog.New(slog.NewJSONHandler(nowhere{}, nil)),
		Metrics: benchMetrics(),
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-ended)
	}()
	var question struct{}
	for asked.Decode(&question) == nil {
		runtime.GC()
		runtime.GC()
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		if err := tell.Encode(held{Heap: memory.HeapAlloc, Stacks: memory.StackInuse, Goroutines: runtime.NumGoroutine()}); err != nil {
			return err
		}
	}
	return nil
}
