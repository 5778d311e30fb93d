package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
)

// serveFlags are what serve was told.
type serveFlags struct {
	consume     bool
	sessions    bool
	lock        time.Duration // of a received message; 0: the queue's own
	deliveries  int           // that may fail; 0: the queue's own
	tls         bool
	verbose     bool
	gateways    string
	config      string // a Service Bus emulator's Config.json; "": one queue
	envFile     string
	brokerAddr  string
	relayAddr   string
	httpAddr    string
	databaseURL string
}

func serveCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Keep broker, relay and gateways up for other programs until SIGINT or SIGTERM",
		Long: "Keep Service Bus, Azure Relay, gateways and the consumer up until SIGINT or SIGTERM.\n" +
			"KEY=value lines for worklist-relay are printed once everything listens:\n\n" +
			"  local serve --consumer=false --env-file e\n" +
			"  env $(cat e) worklist-relay run\n\n" +
			"Gateways are NAME=MODE or COUNT=MODE, each with an optional :rtt=DURATION, separated\n" +
			"by commas. Modes: " + gatewayModes + ".\n" +
			"LOCAL_HTTP_ADDR answers GET /health, /gateways and /broker, and POST\n" +
			"  /gateways/NAME  {\"mode\":\"silent\"}, until further notice\n" +
			"  /gateways/NAME  {\"next\":[{\"kind\":\"lose-ack\"},{\"kind\":\"late\",\"after\":\"5s\"}]}, for one frame\n" +
			"                  each; kinds: " + strings.Join(faultKinds(), ", ") + "\n" +
			"  /broker         {\"fault\":\"away\",\"for\":\"5s\"}\n" +
			"  /relay          {\"drop\":\"NAME\"} cuts the senders' connections to a gateway, \"*\" all",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := f.settings(cmd.ErrOrStderr())
			if err != nil {
				return fmt.Errorf("serve: %w", err)
			}
			if err := serve(cmd.Context(), f, s, cmd.OutOrStdout()); err != nil {
				return fmt.Errorf("serve: %w", err)
			}
			return nil
		},
	}
	f.register(cmd)
	return cmd
}

func (f *serveFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.consume, "consumer", true, "run the consumer too; false starts the servers only")
	flags.StringVar(&f.gateways, "gateways", "leeds=one-shot,hull=persistent,york=reject", "which gateways listen, and how they behave")
	flags.StringVar(&f.config, "config", "", "take the queues from this Config.json of the Service Bus emulator")
	flags.BoolVar(&f.sessions, "sessions", false, "make it a session queue")
	flags.DurationVar(&f.lock, "lock", 0, "how long a received message stays locked, up to 5m (default the queue's own: 1m)")
	flags.IntVar(&f.deliveries, "max-delivery", 0, "how many deliveries of a message may fail before it is dead-lettered, up to 2000 (default the queue's own: 10)")
	flags.BoolVar(&f.tls, "tls", false, "let the relay speak wss with a self-signed certificate, written beside the env file")
	flags.StringVar(&f.envFile, "env-file", "", "write the KEY=value lines to this file as well; removed at the end")
	flags.StringVar(&f.brokerAddr, "broker-addr", "", "loopback HOST:PORT of the broker (default a free port)")
	flags.StringVar(&f.relayAddr, "relay-addr", "", "loopback HOST:PORT of the relay (default a free port)")
	flags.StringVar(&f.httpAddr, "http-addr", "", "loopback HOST:PORT of the control address (default a free port)")
	flags.StringVar(&f.databaseURL, "database-url", "", "postgres://... or sqlite:FILE, which is migrated (default a SQLite file, removed at the end)")
	flags.BoolVar(&f.verbose, "verbose", false, "log at info level instead of warn")
}

// settings checks the flags. Nothing has been started or written when it fails.
func (f serveFlags) settings(log io.Writer) (settings, error) {
	err := errors.Join(
		checkLoopback("--broker-addr", f.brokerAddr),
		checkLoopback("--relay-addr", f.relayAddr),
		checkLoopback("--http-addr", f.httpAddr),
	)
	if err != nil {
		return settings{}, usage(err)
	}
	gateways, err := parseGateways(f.gateways)
	if err != nil {
		return settings{}, usage(fmt.Errorf("--gateways: %w", err))
	}
	queues, err := f.queues()
	if err != nil {
		return settings{}, configuration(fmt.Errorf("--config %s: %w", f.config, err))
	}
	database, err := absoluteDatabase(f.databaseURL)
	if err != nil {
		return settings{}, configuration(fmt.Errorf("--database-url: %w", err))
	}
	now, err := clinicNow()
	return settings{
		brokerAddr: f.brokerAddr, relayAddr: f.relayAddr, tls: f.tls,
		queues: queues, gateways: gateways, databaseURL: database,
		consume: f.consume, clinic: now.Location(), log: logTo(log, f.verbose),
	}, err
}

// queues are those of the Config.json, among which ours has to be.
func (f serveFlags) queues() ([]servicebustest.Queue, error) {
	if f.config == "" {
		return []servicebustest.Queue{f.adapt(servicebustest.Queue{Name: queueName, DeadLetteringOnExpiration: true})}, nil
	}
	file, err := os.Open(f.config)
	if err != nil {
		return nil, errors.Unwrap(err) // without the path, which the caller says
	}
	defer file.Close()
	queues, err := servicebustest.ReadConfig(file)
	if err != nil {
		return nil, err
	}
	for i, q := range queues {
		if strings.EqualFold(q.Name, queueName) {
			queues[i] = f.adapt(q)
			return queues, nil
		}
	}
	return nil, fmt.Errorf("no queue %s", queueName)
}

// adapt is our queue as the flags want it, where they say anything.
func (f serveFlags) adapt(q servicebustest.Queue) servicebustest.Queue {
	q.RequiresSession = q.RequiresSession || f.sessions
	q.LockDuration = cmp.Or(f.lock, q.LockDuration)
	q.MaxDeliveryCount = cmp.Or(f.deliveries, q.MaxDeliveryCount)
	return q
}

// serve keeps everything up until ctx ends.
func serve(ctx context.Context, f serveFlags, s settings, stdout io.Writer) (err error) {
	if f.envFile != "" {
		// Whoever waits for the file must not find an earlier run's.
		if err := takeEnvFile(f.envFile); err != nil {
			return configuration(fmt.Errorf("--env-file: %w", err))
		}
	}
	st, err := start(ctx, s)
	switch {
	case err != nil && ctx.Err() != nil:
		return errors.New("interrupted before everything was up")
	case err != nil:
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	httpAddr, err := st.startControl(f.httpAddr)
	if err != nil {
		return err
	}
	certificate, err := st.writeCertificate(f.envFile)
	if err != nil {
		return configuration(err)
	}
	lines, err := formatEnv(st.environment(httpAddr, certificate))
	if err != nil {
		return configuration(err)
	}
	if f.envFile != "" {
		if err := writeWhole(f.envFile, []byte(lines)); err != nil {
			return configuration(err)
		}
		defer func() { err = errors.Join(err, dropEnvFile(f.envFile, lines)) }()
	}
	if _, err := io.WriteString(stdout, lines); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// startControl serves the control address and says which it is.
func (s *stack) startControl(addr string) (string, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return "", configuration(fmt.Errorf("control address: %w", err))
	}
	server := &http.Server{Handler: s.control(), ReadHeaderTimeout: usual.header}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	s.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), usual.closing)
		defer cancel()
		err := server.Shutdown(ctx)
		if err != nil {
			err = server.Close()
		}
		<-ended // ErrServerClosed, which says nothing
		return err
	})
	return listener.Addr().String(), nil
}

// writeCertificate writes the relay's certificate beside the env file, or into
// the temporary folder, and says where; "" without TLS.
func (s *stack) writeCertificate(envFile string) (string, error) {
	if !s.tls {
		return "", nil
	}
	path := filepath.Join(s.folder, "relay.pem")
	if envFile != "" {
		path = envFile + ".pem"
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if err := writeWhole(path, s.relay.CertificatePEM()); err != nil {
		return "", err
	}
	s.onClose(func() error { return removeFile(path) })
	return path, nil
}
