package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"go.opentelemetry.io/otel/metric"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
)

const (
	queueName = "worklist-commands"

	// What every hybrid connection here is guarded with, for senders and
	// listeners alike. It guards nothing real, and is only reachable over loopback.
	relayKeyName     = "local"
	relayKeyVariable = "LOCAL_RELAY_KEY"
	relayKey         = "synthetic-key-for-this-machine-only"
)

// settings say what a stack consists of.
type settings struct {
	brokerAddr  string // loopback host:port; "": a free port
	relayAddr   string // loopback host:port; "": a free port
	tls         bool   // the relay speaks wss with a self-signed certificate
	queues      []servicebustest.Queue
	gateways    []gateway
	databaseURL string               // "": a SQLite file that Close removes
	consume     bool                 // run the consumer too
	retry       consumer.RetryPolicy // zero: production's
	clinic      *time.Location
	log         *slog.Logger
	metrics     metric.MeterProvider  // nil: none
	concurrency int                   // of the consumer; 0: its default
	replied     func(actionID string) // told of each reply of a gateway; nil: nobody is
}

// stack is everything that runs: broker, relay, gateways, database and, if
// asked for, the consumer.
type stack struct {
	settings
	broker   *servicebustest.Server
	relay    *relaytest.Server
	attached map[string]*relaytest.Gateway // ours, by name; external ones have none
	store    *store.Store
	folder   string // temporary; Close removes it

	closers []func() error // in the order of starting
}

// start starts everything and returns once all of it listens and receives.
// After an error nothing is left running.
func start(ctx context.Context, s settings) (*stack, error) {
	st := &stack{settings: s, attached: map[string]*relaytest.Gateway{}}
	for _, step := range []func(context.Context) error{
		st.makeFolder, st.startBroker, st.startRelay, st.startGateways, st.openStore, st.addRelays, st.startConsumer,
	} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, st.Close())
		}
	}
	return st, nil
}

// Close stops everything, last started first, and waits for it.
func (s *stack) Close() error {
	var errs []error
	for _, stop := range slices.Backward(s.closers) {
		errs = append(errs, stop())
	}
	s.closers = nil
	return errors.Join(errs...)
}

func (s *stack) onClose(stop func() error) { s.closers = append(s.closers, stop) }

func (s *stack) makeFolder(context.Context) (err error) {
	if s.folder, err = os.MkdirTemp("", "worklist-relay-local-"); err != nil {
		return configuration(fmt.Errorf("temporary folder: %w", err))
	}
	s.onClose(func() error { return os.RemoveAll(s.folder) })
	return nil
}

func (s *stack) startBroker(context.Context) (err error) {
	s.broker, err = servicebustest.NewServer(servicebustest.Config{Addr: s.brokerAddr, HTTPAddr: "127.0.0.1:0", Queues: s.queues})
	if err != nil {
		return configuration(fmt.Errorf("start broker: %w", err))
	}
	s.onClose(s.broker.Close)
	return nil
}

func (s *stack) startRelay(context.Context) (err error) {
	key := relaytest.Key{Name: relayKeyName, Key: relayKey, Send: true, Listen: true}
	config := relaytest.Config{Addr: s.relayAddr, TLS: s.tls}
	for _, g := range s.gateways {
		config.HybridConnections = append(config.HybridConnections, relaytest.HybridConnection{Path: g.Name, Keys: []relaytest.Key{key}})
	}
	if s.relay, err = relaytest.NewServer(config); err != nil {
		return configuration(fmt.Errorf("start relay: %w", err))
	}
	s.onClose(s.relay.Close)
	return nil
}

func (s *stack) startGateways(context.Context) error {
	for _, g := range s.gateways {
		if g.Mode == external {
			continue
		}
		attached, err := relaytest.NewGateway(relaytest.GatewayConfig{
			Name: g.Name, Relay: s.relay, Mode: g.Mode, RTT: g.RTT, DiscardFrames: true, Replied: s.replied,
			Key: relaytest.Key{Name: relayKeyName, Key: relayKey, Listen: true},
		})
		if err != nil {
			return fmt.Errorf("start gateway %s: %w", g.Name, err)
		}
		s.attached[g.Name] = attached
		s.onClose(attached.Close)
	}
	return nil
}

func (s *stack) openStore(ctx context.Context) (err error) {
	if s.databaseURL == "" {
		s.databaseURL = "sqlite:" + filepath.Join(s.folder, "worklist.sqlite")
	}
	if s.store, err = store.Open(ctx, s.databaseURL); err != nil {
		return configuration(err)
	}
	s.onClose(s.store.Close)
	if err := s.store.Migrate(ctx); err != nil {
		return configuration(err)
	}
	return nil
}

// addRelays routes each gateway's provider to it, in place of what a database
// that was used before may say.
func (s *stack) addRelays(ctx context.Context) error {
	name, variable := relayKeyName, relayKeyVariable
	for _, g := range s.gateways {
		err := s.store.ReplaceRelay(ctx, store.Relay{
			ProviderID: g.Name, Namespace: s.relay.Addr(), HybridConnection: g.Name,
			KeyName: &name, KeyVariable: &variable,
		}, store.By{Who: "local", Why: "a relay for each gateway on this machine"})
		if err != nil {
			return err
		}
	}
	return nil
}

// startConsumer runs the consumer as production does.
func (s *stack) startConsumer(context.Context) error {
	if !s.consume {
		return nil
	}
	sender := s.relayClient()
	s.onClose(sender.Close)
	c := &consumer.Consumer{
		Connect: s.connect, Queue: queueName, Sessions: s.sessions(), Store: s.store, Relay: sender,
		Secret: secret, Retry: s.retry, Clinic: s.clinic, Log: s.log,
		Metrics: s.metrics, Concurrency: s.concurrency,
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	s.onClose(func() error {
		cancel()
		return s.awaitConsumer(ended)
	})
	return nil
}

// awaitConsumer waits for what is in flight. An exchange with a gateway that
// does not answer is ended by taking the relay away.
func (s *stack) awaitConsumer(ended <-chan error) error {
	grace := time.NewTimer(usual.exchange)
	defer grace.Stop()
	select {
	case err := <-ended:
		return err
	case <-grace.C:
	}
	return errors.Join(s.relay.Close(), <-ended)
}

// sessions reports whether our queue is a session queue.
func (s *stack) sessions() bool {
	return slices.ContainsFunc(s.queues, func(q servicebustest.Queue) bool {
		return strings.EqualFold(q.Name, queueName) && q.RequiresSession
	})
}

// relayClient is a client that may dial the relay of this stack and no other.
func (s *stack) relayClient() *relay.Client {
	if s.tls {
		return &relay.Client{AllowHosts: []string{hostOf(s.relay.Addr())}, RootCAs: s.relay.CertPool()}
	}
	return &relay.Client{PlainHosts: []string{s.relay.Addr()}}
}

// connect opens a client of the broker.
func (s *stack) connect() (*azservicebus.Client, error) {
	return azservicebus.NewClientFromConnectionString(s.broker.ConnectionString(), nil)
}

// secret is the one key that relay rows name here.
func secret(variable string) string {
	if variable == relayKeyVariable {
		return relayKey
	}
	return ""
}

func hostOf(addr string) string {
	host, _, _ := net.SplitHostPort(addr) // a listener's own address always splits
	return host
}

// checkLoopback refuses an address that other machines could reach: what is
// served here asks nobody who they are. An empty address is a free port.
func checkLoopback(flag, addr string) error {
	if addr == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s: %q is not HOST:PORT", flag, addr)
	}
	if ip := net.ParseIP(host); strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%s: %q is not on loopback; use 127.0.0.1", flag, addr)
}
