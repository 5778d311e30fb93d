// Command worklist-relay forwards worklist actions from an Azure Service Bus
// queue to imaging gateways behind Azure Relay, and lets operators and
// producers see and do what belongs to it: run, migrate, enqueue, schema, relays, actions, dlq, doctor.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	_ "time/tzdata" // the clinic's time zone, in an image that has no zone files

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Exit codes, as --help documents them.
const (
	exitDone       = 0
	exitFailed     = 1
	exitUsage      = 2
	exitConfig     = 3
	exitRefused    = 4
	exitUnfinished = 5
)

const exitHelp = `Exit codes: 0 done, 1 failed, 2 usage, 3 configuration or database schema,
4 finished but something was refused or needs a person, 5 stopped before everything in
flight had ended.`

// version is set by the release build.
var version = ""

func main() {
	os.Exit(execute(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// execute runs one command line and returns its exit code. The first SIGINT or
// SIGTERM ends the command's context, the second the process, unless the command
// listens for it.
func execute(args []string, in io.Reader, out, errs io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	root := rootCommand()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(errs, "worklist-relay: %v\n", err)
	return exitCode(err)
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "worklist-relay",
		Short:         "Forward worklist actions from a Service Bus queue to imaging gateways",
		Long:          "worklist-relay takes worklist actions off an Azure Service Bus queue, forwards each\nto the one imaging gateway that must have it, records the outcome in SQL, and completes\nor dead-letters the message.\n\n" + exitHelp,
		Version:       programVersion(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		// Also of every command below.
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return blankRequired(cmd) },
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.AddCommand(runCommand(), migrateCommand(), enqueueCommand(), schemaCommand(), relaysCommand(), actionsCommand(), dlqCommand(), doctorCommand())
	fitTerminal(root)
	return root
}

// fitTerminal breaks the help of all commands to the width of a terminal,
// however their texts stand in the source.
func fitTerminal(root *cobra.Command) {
	// pflag leaves up to five columns more than it is told to a last short word.
	root.SetUsageTemplate(strings.NewReplacer(
		"Flags.FlagUsages ", "Flags.FlagUsagesWrapped 75 ",
		" for more information about a command.", " tells more.",
	).Replace(root.UsageTemplate()))
	help := root.HelpFunc() // for the commands below, too
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		cmd.Long = reflowed(cmd.Long)
		help(cmd, args)
	})
}

// failure is an error of a command that was understood, with its exit code.
// Every other error is about the command line.
type failure struct {
	code int
	err  error
}

func (f failure) Error() string { return f.err.Error() }
func (f failure) Unwrap() error { return f.err }

// doing makes a cobra RunE of a function: what it returns failed, unless it says otherwise.
func doing(run func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := run(cmd, args)
		var known failure
		if err == nil || errors.As(err, &known) {
			return err
		}
		return failure{exitFailed, err}
	}
}

func exitCode(err error) int {
	var known failure
	if errors.As(err, &known) {
		return known.code
	}
	return exitUsage
}

func usage(format string, args ...any) error {
	return failure{exitUsage, fmt.Errorf(format, args...)}
}

// blankRequired refuses required flags that hold nothing: a shell makes --why ""
// of a variable that is not set, and the audit would keep no reason.
func blankRequired(cmd *cobra.Command) error {
	var blank []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if len(f.Annotations[cobra.BashCompOneRequiredFlag]) > 0 && f.Changed && strings.TrimSpace(f.Value.String()) == "" {
			blank = append(blank, "--"+f.Name)
		}
	})
	if len(blank) == 0 {
		return nil
	}
	return usage("%s: empty, but required", strings.Join(blank, ", "))
}

// group makes a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{
		Use: use, Short: short,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names := make([]string, len(commands))
			for i, c := range commands {
				names[i] = c.Name()
			}
			return usage("%s needs one of: %s", cmd.CommandPath(), strings.Join(names, ", "))
		},
	}
	g.AddCommand(commands...)
	return g
}

func programVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			v += " " + setting.Value
		}
	}
	return v + " " + info.GoVersion
}
