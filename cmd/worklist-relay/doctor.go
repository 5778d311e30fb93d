package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/store"
)

func doctorCommand() *cobra.Command {
	var d doctor
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check all that run depends on, and say how to mend it",
		Long: "doctor checks the configuration, the way to each host (DNS, TCP, TLS), the tokens of\n" +
			"Entra ID, the rights on the queue and its properties, the database and its schema, the\n" +
			"clocks, the relays and the container, from where it runs and with the credentials of\n" +
			"run. Each finding is a line, with what mends it below. It needs no shell beside it, and\n" +
			"works when everything is down.\n\n" +
			"It changes nothing: it receives and locks no message, writes no row (one write is made\n" +
			"and taken back), and prints no body, no token and no key. On a queue with sessions it\n" +
			"opens an empty session of its own for a moment. Gateways are only called with --echo,\n" +
			"since each answers one call at a time.\n\n" +
			"  ok       as it should be\n" +
			"  note     to be known, and no fault\n" +
			"  skipped  cannot be judged; the line says why\n" +
			"  warning  works, but not for long, or not as well as it might\n" +
			"  FAILED   run cannot work like this\n\n" +
			"A check takes --timeout at most, all of them about ten times that, and longer with\n" +
			"--echo. Ctrl-C ends it at once, with what is known.\n\n" +
			"The JSON is worst (ok, warning or failed) and findings: check, target, state (ok, note,\n" +
			"skipped, warning, failed), found and mend (\"\" where there is nothing to mend).\n\n" +
			"Exit codes: 0 no warning and no failure, 4 warnings, 1 a failure, 3 a failure of the\n" +
			"configuration or the database schema, 5 stopped by a signal.",
		Args: cobra.NoArgs,
		PreRunE: func(*cobra.Command, []string) error {
			if d.timeout <= 0 || d.timeout > 5*time.Minute {
				return usage("--timeout %s is not above 0 and at most 5m", d.timeout)
			}
			return nil
		},
		RunE: doing(func(cmd *cobra.Command, _ []string) error {
			d.config, d.faults = readConfig(needService)
			d.told = sayFindings(cmd.OutOrStdout())
			if asJSON {
				d.told = func([]finding) {}
			}
			d.examine(cmd.Context())
			if asJSON {
				if err := printJSON(cmd.OutOrStdout(), d.document()); err != nil {
					return err
				}
			} else {
				fmt.Fprintln(cmd.OutOrStdout(), d.sum())
			}
			return d.verdict(cmd.Context())
		}),
	}
	cmd.Flags().BoolVar(&d.echo, "echo", false, "call each gateway with an echo, as relays ping does")
	cmd.Flags().DurationVar(&d.timeout, "timeout", 10*time.Second, "how long each check may take")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// doctor is one examination. What is known after a stage is used by the later
// ones, which run after it and not beside it.
type doctor struct {
	config  config
	faults  error // of the configuration
	timeout time.Duration
	echo    bool
	told    func([]finding) // prints findings as they come, in order

	findings []finding

	cut        map[string]string // what need not be asked, and why: "Service Bus", "the database"
	store      *store.Store      // nil: not open, or its schema is another
	inspection store.Inspection
	clocks     []clock
}

// examine goes through the stages in the order in which their findings are printed.
func (d *doctor) examine(ctx context.Context) {
	d.cut = map[string]string{}
	defer func() {
		if d.store != nil {
			_ = d.store.Close()
		}
	}()
	for _, stage := range []struct {
		name string
		look func(context.Context) []finding
	}{
		{"configuration", d.lookAtConfiguration},
		{"hosts", d.lookAtHosts},
		{"tokens", d.lookAtTokens},
		{"queue and database", d.lookAtQueueAndDatabase},
		{"clocks", d.lookAtClocks},
		{"relays", d.lookAtRelays},
		{"container", d.lookAtContainer},
	} {
		found := []finding{{Check: stage.name, State: skipped, Found: "stopped by a signal"}}
		if ctx.Err() == nil {
			found = stage.look(ctx)
		}
		d.findings = append(d.findings, found...)
		d.told(found)
	}
}

// lookAtConfiguration reports what readConfig found, and what run says of OTEL_*.
// What is usable is used by the later stages all the same.
func (d *doctor) lookAtConfiguration(context.Context) []finding {
	var list configFaults
	_ = errors.As(d.faults, &list) // readConfig has no other error
	list = append(list, otelFaults(os.Getenv)...)
	if len(list) == 0 {
		return []finding{{Check: "configuration", State: fine, Found: d.summary()}}
	}
	var findings []finding
	for _, fault := range list {
		findings = append(findings, finding{Check: "configuration", State: failed, Found: fault,
			Mend: "`worklist-relay run --help` tells what each variable means."})
	}
	return findings
}

// summary is the configuration in a line, without what could be a secret.
func (d *doctor) summary() string {
	kind, identity := "without", "shared keys"
	if d.config.ServiceBusSessions {
		kind = "with"
	}
	if len(d.config.audiences()) > 0 {
		identity = "Entra ID"
	}
	return fmt.Sprintf("no faults; version %s, queue %s %s sessions, %s", programVersion(), d.config.ServiceBusQueue, kind, identity)
}

// lookAtQueueAndDatabase asks both at once: neither needs the other.
func (d *doctor) lookAtQueueAndDatabase(ctx context.Context) []finding {
	answers := make(chan databaseAnswer, 1)
	go func() { answers <- d.askDatabase(ctx) }()
	queue := d.askQueue(ctx)
	database := <-answers
	d.store, d.inspection = database.store, database.inspection
	d.clocks = append(queue.clocks, database.clocks...)
	return append(queue.findings, database.findings...)
}

// lateness is how long a check that should have ended may still take.
const lateness = time.Second

// within runs look, which is to mind its context, for limit at most. ok is false
// where it does not return even then: it is left behind, and the end of the
// program ends it. A library that hangs must not hang the report.
func within[T any](ctx context.Context, limit time.Duration, look func(context.Context) T) (answer T, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan T, 1)
	go func() { done <- look(ctx) }()
	select {
	case answer = <-done:
		return answer, true
	case <-ctx.Done():
	}
	late := time.NewTimer(lateness)
	defer late.Stop()
	select {
	case answer = <-done:
		return answer, true
	case <-late.C:
		return answer, false
	}
}

// probe is one check, which runs beside others.
type probe struct {
	check, target string
	limit         time.Duration // 0: the timeout
	look          func(context.Context) []finding
}

// together runs probes at the same time, at most width of them, and returns
// what each found, in their order. 0 is no limit to the width.
func (d *doctor) together(ctx context.Context, width int, probes ...probe) [][]finding {
	if width == 0 {
		width = max(len(probes), 1)
	}
	found := make([][]finding, len(probes))
	slots, done := make(chan struct{}, width), make(chan struct{})
	for i, p := range probes {
		go func() {
			slots <- struct{}{}
			limit := p.limit
			if limit == 0 {
				limit = d.timeout
			}
			list, ok := within(ctx, limit, p.look)
			if !ok {
				list = []finding{d.bad(ctx, p.check, p.target, fmt.Sprintf("no answer within %s", limit), "Try again; if it stays, look at what it names.")}
			}
			found[i] = list
			<-slots
			done <- struct{}{}
		}()
	}
	for range probes {
		<-done
	}
	return found
}

// sayFindings prints findings as they come.
func sayFindings(w io.Writer) func([]finding) {
	return func(list []finding) {
		for _, f := range list {
			f.print(w)
		}
	}
}
