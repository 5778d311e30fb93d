package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// bench measures this machine. Its figures are added as they come.
type bench struct {
	quick    bool
	postgres string // URL; "": SQLite only
	figures  []figure
	tell     io.Writer // what is being measured
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

// scaled is how many of something are measured.
func (b *bench) scaled(full, quick int) int {
	if b.quick {
		return quick
	}
	return full
}

func (b *bench) add(figures ...figure) { b.figures = append(b.figures, figures...) }

const (
	benchLimit = 10 * time.Minute // for all of it
)

// benchParts are the parts of the bench, in the order of the table.
var benchParts = []struct {
	name string
	run  func(*bench, context.Context) error
}{
	{"makespan", (*bench).benchMakespan},
	{"rate", (*bench).benchRate},
	{"latency", (*bench).benchLatency},
	{"exchange", (*bench).benchExchange},
}

func benchCommand() *cobra.Command {
	var asJSON bool
	var only []string
	b := &bench{}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure what this machine can do",
		Long:  "Measure.",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), benchLimit, errors.New("the bench took too long"))
			defer cancel()
			b.tell = cmd.ErrOrStderr()
			for _, part := range benchParts {
				if len(only) > 0 && !strings.Contains(strings.Join(only, ","), part.name) {
					continue
				}
				fmt.Fprintf(b.tell, "measuring %s\n", part.name)
				if err := part.run(b, ctx); err != nil {
					return fmt.Errorf("bench: %s: %w", part.name, err)
				}
			}
			if asJSON {
				return printFiguresJSON(cmd.OutOrStdout(), machine(), b.figures)
			}
			return printFigures(cmd.OutOrStdout(), machine(), b.figures)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	flags.BoolVar(&b.quick, "quick", false, "measure less, in about a minute")
	flags.StringSliceVar(&only, "only", nil, "measure only these parts")
	flags.StringVar(&b.postgres, "database-url", os.Getenv("TEST_DATABASE_URL"), "PostgreSQL to measure on too")
	return cmd
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
