package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

func runCommand() *cobra.Command {
	var migrate bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Forward actions until SIGTERM or SIGINT",
		Long: "run takes actions off the queue and sees each one through, until SIGTERM or SIGINT.\n" +
			"Then it stops receiving, lets what was sent have its ack, and exits with 0. A second\n" +
			"signal, or the end of SHUTDOWN_GRACE, closes the connections to the gateways instead:\n" +
			"what had no ack is left to redelivery, and the exit code is 5.\n" +
			"A SQLite file is migrated at the start, a PostgreSQL database only with --migrate.\n\n" + environmentHelp(),
		Args: cobra.NoArgs,
		RunE: doing(func(cmd *cobra.Command, _ []string) error {
			c, err := readConfig(needService)
			if err != nil {
				return err
			}
			return c.run(cmd, migrate)
		}),
	}
	cmd.Flags().BoolVar(&migrate, "migrate", false, "bring a PostgreSQL schema up to date first")
	return cmd
}

// run is the production service: its parts put together, and taken down in order.
func (c config) run(cmd *cobra.Command, migrate bool) error {
	ctx := cmd.Context()
	log := c.logger(cmd.ErrOrStderr())
	entra, err := c.entra()
	if err != nil {
		return failure{exitConfig, err}
	}
	told, err := startTelemetry(log)
	if err != nil {
		return err
	}
	defer told.stop()
	var health health
	httpAddr, stopHTTP, err := usual.serveHTTP(c.HTTPAddr, health.handler(told.page))
	if err != nil {
		return failure{exitConfig, err}
	}
	defer stopHTTP()
	context.AfterFunc(ctx, health.stopping)
	stopReporting, err := consumer.ReportWaiting(told.metrics)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	outcomes, err := c.awaitStore(ctx, migrate, log, &health)
	stopReporting()
	if ctx.Err() != nil {
		return nil // nothing was begun
	}
	if err != nil {
		return err
	}
	defer outcomes.Close()
	gateways := c.gateways()
	defer gateways.Close()
	service := &consumer.Consumer{
		Connect: c.connect, Queue: c.ServiceBusQueue, Sessions: c.ServiceBusSessions, OutcomeQueue: c.OutcomeQueue, Store: outcomes, Relay: gateways,
		Secret: os.Getenv, Entra: entra, Concurrency: c.Concurrency,
		Retry:   c.retryPolicy(),
		Breaker: relay.BreakerPolicy{Span: c.BreakerSpan, Probes: delays(c.ProbeDelays)},
		Clinic:  c.clinic, ReleaseAt: c.releaseAt, ClaimLease: c.ClaimLease, Log: log,
		Metrics: told.metrics, Traces: told.traces,
	}
	reconciler, err := c.reconciler(outcomes, log)
	if err != nil {
		return err
	}
	reconciler.Metrics = told.metrics
	defer c.startReconciling(ctx, reconciler)()
	health.running(service.Dependencies, service.Alive, reconciler.Alive)
	log.Info("running", "version", programVersion(), "queue", c.ServiceBusQueue, "sessions", c.ServiceBusSessions, "database", outcomes.Dialect(), "concurrency", c.Concurrency, "http_addr", httpAddr)
	defer log.Info("stopped")
	return c.serve(ctx, service, gateways)
}

// errUnfinished is what run ends with when it did not wait for what was sent.
var errUnfinished = failure{exitUnfinished, errors.New("stopped before everything in flight had ended; what had no ack is left to redelivery")}

// serve runs the service until ctx ends, and then until nothing is in flight,
// the grace is over or a second signal comes.
func (c config) serve(ctx context.Context, service *consumer.Consumer, gateways *relay.Client) error {
	signals := make(chan os.Signal, 2) // the first is ctx's too
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	ended := make(chan error, 1)
	go func() { ended <- service.Run(ctx) }()
	select {
	case err := <-ended:
		return err
	case <-signals:
	}
	grace := time.NewTimer(c.ShutdownGrace)
	defer grace.Stop()
	select {
	case err := <-ended:
		return err
	case <-signals:
	case <-grace.C:
	}
	grace.Reset(usual.lastMoments - usual.flush - usual.hangUp)
	_ = gateways.Close() // with Close frames: a gateway whose peer just vanishes stalls
	select {
	case <-ended:
	case <-grace.C:
	}
	return errUnfinished
}

// awaitStore opens the database with the schema of this program. A server that
// is away, or does not let us in yet, is waited for: a restart would not bring it
// back, and roles take minutes to work. What cannot mend itself is an error.
func (c config) awaitStore(ctx context.Context, migrate bool, log *slog.Logger, health *health) (*store.Store, error) {
	health.waiting("database", errors.New("not asked yet"))
	for wait := usual.storeRetry; ; wait = min(2*wait, usual.storeRetryMost) {
		outcomes, err := c.openDatabase(ctx)
		if err == nil {
			if err = bringUp(ctx, outcomes, migrate); err == nil {
				return outcomes, nil
			}
			_ = outcomes.Close() // err says more
		}
		if !store.Unavailable(err) || strings.HasPrefix(c.DatabaseURL, "sqlite:") {
			return nil, err
		}
		health.waiting("database", err)
		log.Warn("database not available, trying again", "error", err, "in", wait.String())
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// bringUp migrates where that is wanted, and refuses any other schema.
func bringUp(ctx context.Context, s *store.Store, migrate bool) error {
	// A SQLite file belongs to this program alone; a PostgreSQL database has
	// other users, and who may change its schema is not for run to assume.
	if migrate || s.Dialect() == "sqlite" {
		if err := s.Migrate(ctx); err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
	}
	if err := s.CheckSchema(ctx); err != nil {
		return failure{exitConfig, err}
	}
	return nil
}

func migrateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database schema up to date",
		Long:  "migrate brings the schema of DATABASE_URL up to this program's version. It may run\nbeside others: the changes are made under a lock.",
		Args:  cobra.NoArgs,
		RunE: doing(func(cmd *cobra.Command, _ []string) error {
			c, err := readConfig(needDatabase)
			if err != nil {
				return err
			}
			s, err := c.openDatabase(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			before, _, err := s.Version(cmd.Context())
			if err != nil {
				return err
			}
			if err := s.Migrate(cmd.Context()); err != nil {
				return fmt.Errorf("migrate: %w", err)
			}
			after, _, err := s.Version(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "schema version %d (was %d)\n", after, before)
			return nil
		}),
	}
}
