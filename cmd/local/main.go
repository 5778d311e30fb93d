// Command local runs all of worklist-relay in one process on this machine: an
// in-process Service Bus, an in-process Azure Relay, gateways that listen on it, a
// SQLite file, and the same consumer that production runs.
//
//	local          sends about thirty sample actions, good and bad, through all of
//	               it and compares what queue, gateways and SQL say afterwards
//	local serve    keeps the servers up for other programs
//	local sample   prints sample actions as worklist-relay enqueue reads them
//	local bench    measures what this machine can do
//
// Everything listens on loopback only, and every participant is synthetic.
//
// Exit codes: 0 done, 1 failed, 2 usage, 3 configuration: what the flags name
// cannot be used.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // a fresh machine may have no time zones

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	// A reader that goes away (local | head) is a write error, after which
	// everything is still taken down, and not the end of the process.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

const (
	exitDone          = 0
	exitFailed        = 1
	exitUsage         = 2
	exitConfiguration = 3
)

// codedError is an error with the exit code it deserves.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

// usage is for what was typed wrong.
func usage(err error) error { return &codedError{exitUsage, err} }

// configuration is for what was typed well and cannot be used.
func configuration(err error) error { return &codedError{exitConfiguration, err} }

// run carries out one command line and returns its exit code. An error is one
// sentence on stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := rootCommand()
	root.SetArgs(append([]string{}, args...)) // nil would be those of the process
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	fmt.Fprintln(stderr, "local:", err)
	var coded *codedError
	if errors.As(err, &coded) {
		return coded.code
	}
	return exitFailed
}

func rootCommand() *cobra.Command {
	var verbose bool
	root := &cobra.Command{
		Use:   "local",
		Short: "Run all of worklist-relay on this machine",
		Long: "Run all of worklist-relay in one process: Service Bus, Azure Relay, three gateways,\n" +
			"a SQLite file and the consumer. Without a sub-command, send sample actions through\n" +
			"it and compare what queue, gateways and SQL say afterwards.",
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := demo(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), verbose)
			if cmd.Context().Err() != nil {
				return errors.New("interrupted") // which explains whatever else went wrong
			}
			return err
		},
	}
	root.Flags().BoolVar(&verbose, "verbose", false, "log at info level instead of warn")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	root.AddCommand(serveCommand(), sampleCommand(), benchCommand(), benchConsumerCommand())
	return root
}

// noArguments refuses what is no flag and no sub-command.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(fmt.Errorf("%s takes no argument %q", cmd.CommandPath(), args[0]))
	}
	return nil
}

// logTo is the consumer's log: warnings, or everything it does when verbose.
func logTo(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelWarn
	if verbose {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}
