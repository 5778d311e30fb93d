package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const benchLimit = 15 * time.Minute // for all of it

// quickShare says how much less --quick measures. Only a test changes it, before
// anything begins.
var quickShare = 5

// bench measures this machine. Its figures are added as they come.
type bench struct {
	postgres string    // URL; "": SQLite only
	program  string    // worklist-relay; "": it is built
	share    int       // of the full number of actions, one in so many is measured
	makespan int       // gateways of measures 1 to 3
	tell     io.Writer // what is being measured
	figures  []figure
}

// benchPart is a part of the bench that can be measured by itself.
type benchPart struct {
	name string
	what string
	run  func(*bench, context.Context) error
}

// benchParts are in the order in which they are measured.
var benchParts = []benchPart{
	{"makespan", "50 gateways that take their time, against a bare loop (1 to 3)", (*bench).benchMakespan},
	{"rate", "actions that nothing waits for: rate and CPU, against their parts (4 to 6, 11)", (*bench).benchRate},
	{"latency", "from the queue to the ack, at 50 actions a second (7)", (*bench).benchLatency},
	{"exchange", "an exchange over an open connection, against dialling for each (12)", (*bench).benchExchange},
	{"flat", "the SQL of an action among a thousand rows and among a million (10)", (*bench).benchFlat},
	{"process", "a worklist-relay of its own: from its start to the first ack, and its size (8, 9)", (*bench).benchProcess},
	{"gateways", "what a gateway costs that was used once, and what an open socket does (8)", (*bench).benchGateways},
}

// benchDatabase is a database that is measured on.
type benchDatabase struct {
	name string
	url  string // "": a new SQLite file for each scene
}

func (b *bench) databases() []benchDatabase {
	list := []benchDatabase{{name: "SQLite"}}
	if b.postgres != "" {
		list = append(list, benchDatabase{"PostgreSQL", b.postgres})
	}
	return list
}

// scaled is how many of something are measured: full, or b's share of it.
func (b *bench) scaled(full int) int { return max(full/b.share, 2) }

func (b *bench) add(figures ...figure) { b.figures = append(b.figures, figures...) }

// run measures the parts one after the other.
func (b *bench) run(ctx context.Context, parts []benchPart) error {
	ctx, cancel := context.WithTimeoutCause(ctx, benchLimit, fmt.Errorf("not done within %v", benchLimit))
	defer cancel()
	if err := checkDatabase(ctx, b.postgres); err != nil {
		return configuration(fmt.Errorf("bench: --database-url: %w", err))
	}
	if err := checkProgram(b.program); err != nil {
		return configuration(fmt.Errorf("bench: --worklist-relay: %w", err))
	}
	for _, part := range parts {
		fmt.Fprintf(b.tell, "%s: %s\n", part.name, part.what)
		if err := part.run(b, ctx); err != nil {
			return fmt.Errorf("bench: %s: %w", part.name, err)
		}
	}
	return nil
}

type benchFlags struct {
	json, quick bool
	only        []string
	databaseURL string
	program     string
}

func benchCommand() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure what this machine can do",
		Long: "Measure what the service costs on this machine, beside what nobody can do without:\n" +
			"bare exchanges with the gateways, bare receives and completions, bare commits. Both are\n" +
			"taken in one run, since machines differ; so the RATIO is what to compare, on a machine\n" +
			"that has nothing else to do. A goal that is missed is no error. Where bench fails or is\n" +
			"interrupted, what it had measured by then is printed all the same.\n\n" +
			"LIMIT is what the figure is held against, in the figure's unit; RATIO is of the two, or,\n" +
			"for measure 7, the difference. GOAL is for the ratio, or without a limit for the figure.\n\n" +
			"Everything runs on loopback. SQLite files are made in the temporary folder, whose disk\n" +
			"counts, and PostgreSQL is measured too where --database-url names it, in schemas of its\n" +
			"own that are dropped at the end; its CPU is counted if it runs on this machine.\n\n" +
			"Parts:\n" + partsHelp(),
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			parts, err := f.parts()
			if err != nil {
				return usage(fmt.Errorf("bench: --only: %w", err))
			}
			b := &bench{postgres: f.databaseURL, program: f.program, share: 1, makespan: makespanGateways, tell: cmd.ErrOrStderr()}
			if f.quick {
				b.share = quickShare
			}
			err = b.run(cmd.Context(), parts)
			if cmd.Context().Err() != nil {
				err = errors.New("interrupted")
			}
			if err != nil && len(b.figures) == 0 {
				return err
			}
			inOrder(b.figures)
			printing := printFigures
			if f.json {
				printing = printFiguresJSON
			}
			if failed := printing(cmd.OutOrStdout(), machine(), b.figures); err == nil {
				err = failed
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.json, "json", false, "print one JSON object")
	flags.BoolVar(&f.quick, "quick", false, fmt.Sprintf("measure a %dth of the actions: less exact, and start-up weighs more", quickShare))
	flags.StringSliceVar(&f.only, "only", nil, "measure these parts only, separated by commas")
	flags.StringVar(&f.databaseURL, "database-url", os.Getenv("TEST_DATABASE_URL"), "postgres://... to measure too (default $TEST_DATABASE_URL)")
	flags.StringVar(&f.program, "worklist-relay", "", "the worklist-relay to start (default one that is built here)")
	flags.Lookup("database-url").DefValue = "" // it may hold a password
	return cmd
}

// parts are those that were asked for.
func (f benchFlags) parts() ([]benchPart, error) {
	if len(f.only) == 0 {
		return benchParts, nil
	}
	var parts []benchPart
	for _, name := range f.only {
		i := slices.IndexFunc(benchParts, func(p benchPart) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no part %q; the parts are:\n%s", name, partsHelp())
		}
		parts = append(parts, benchParts[i])
	}
	return parts, nil
}

func partsHelp() string {
	var help strings.Builder
	for _, p := range benchParts {
		fmt.Fprintf(&help, "  %-9s %s\n", p.name, p.what)
	}
	return strings.TrimSuffix(help.String(), "\n")
}

// machine says what is measured.
func machine() string {
	model := "unknown processor"
	info, _ := os.ReadFile("/proc/cpuinfo") // no such file elsewhere
	for line := range strings.Lines(string(info)) {
		if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	return fmt.Sprintf("%s, %d processors, %s/%s, %s", model, runtime.GOMAXPROCS(0), runtime.GOOS, runtime.GOARCH, runtime.Version())
}
