package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// allFigures takes each once: with -long as bench does, of few actions, and
// otherwise of fewer and with fewer gateways, all parts at a time, with a program
// that is linked already and connections that are not idle for long.
func allFigures(t *testing.T) (figures []figure) {
	all := bench{postgres: os.Getenv("TEST_DATABASE_URL"), share: 25, makespan: makespanGateways, tell: io.Discard}
	if suite.Long() {
		if err := all.run(t.Context(), benchParts); err != nil {
			t.Fatal(err)
		}
		return all.figures
	}
	all.share, all.makespan, all.program = 1000, 5, linked(t)
	parts, errs := make([]bench, len(benchParts)), make([]error, len(benchParts))
	var running sync.WaitGroup
	for i := range parts {
		parts[i] = all
		running.Go(func() { errs[i] = parts[i].run(t.Context(), benchParts[i:i+1]) })
	}
	running.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		figures = append(figures, part.figures...)
	}
	return figures
}

// TestBench takes every figure once: none is looked at but for being there.
func TestBench(t *testing.T) {
	if !suite.Long() { // and nothing runs yet beside this
		usual.idle, usual.quiet = 300*time.Millisecond, 2*residentLook
	}
	t.Parallel()
	figures := allFigures(t)
	seen := map[string]bool{}
	for _, f := range figures {
		number, _, _ := strings.Cut(strings.TrimSpace(f.Measure), " ")
		if seen[f.Measure] {
			t.Errorf("two figures are called %q", f.Measure)
		}
		seen[number], seen[f.Measure] = true, true
		if f.How == "" || f.Value == 0 && f.Goal != "" && f.Goal != "<= 0" {
			t.Errorf("not measured, or without how: %+v", f)
		}
		if (f.Goal == "") != (f.Reached == nil) {
			t.Errorf("a goal without a verdict, or the other way round: %+v", f)
		}
	}
	for _, number := range []string{"1", "2", "3", "4", "6", "7", "8", "9", "10", "11", "12"} {
		if !seen[number] {
			t.Errorf("no figure for measure %s", number)
		}
	}
	var table, object bytes.Buffer
	if err := errors.Join(printFigures(&table, "m", figures), printFiguresJSON(&object, "m", figures)); err != nil {
		t.Fatal(err)
	}
	var back struct{ Figures []figure }
	if err := json.Unmarshal(object.Bytes(), &back); err != nil || len(back.Figures) != len(figures) {
		t.Errorf("%d of %d figures came back: %v", len(back.Figures), len(figures), err)
	}
	for _, f := range figures {
		if !strings.Contains(table.String(), f.Measure) {
			t.Errorf("%s is not in the table:\n%s", f.Measure, &table)
		}
	}
}

// The table is in the order of its numbers, and tells the databases apart.
func TestFiguresInOrder(t *testing.T) {
	t.Parallel()
	var figures []figure
	for _, measure := range []string{"2 b", "10 d", "6 c, SQLite", "6   part of c, SQLite", "1 a", "6 c, PostgreSQL", "1 aa"} {
		how := "how"
		if measure == "2 b" {
			how = "otherwise"
		}
		figures = append(figures, reported(measure, 1, "s", how))
	}
	inOrder(figures)
	var got []string
	for _, f := range figures {
		got = append(got, f.Measure)
	}
	want := []string{"1 a", "1 aa", "2 b", "6 c, SQLite", "6   part of c, SQLite", "6 c, PostgreSQL", "10 d"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	var table bytes.Buffer
	if err := printFigures(&table, "m", figures); err != nil || strings.Count(table.String(), "how") != 1 {
		t.Errorf("how is told more often than once, or not at all: %v\n%s", err, &table)
	}
}

func TestFigureVerdicts(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]struct {
		figure
		want bool
	}{
		"ratio small enough":      {reported("", 105, "s", "").against(100).atMost(1.05), true},
		"ratio too large":         {reported("", 106, "s", "").against(100).atMost(1.05), false},
		"limit large enough":      {reported("", 4, "us", "").limitBy(3).atLeast(0.75), true},
		"limit too small":         {reported("", 4, "us", "").limitBy(2).atLeast(0.75), false},
		"difference small enough": {reported("", 7, "ms", "").beyond(2).atMost(5), true},
		"difference too large":    {reported("", 7.5, "ms", "").beyond(2).atMost(5), false},
		"value small enough":      {reported("", 250, "ms", "").atMost(250), true},
		"value too large":         {reported("", 251, "ms", "").atMost(250), false},
	} {
		if *f.Reached != f.want {
			t.Errorf("%s: %+v", name, f.figure)
		}
	}
}

// each database that can be measured here.
func eachBenchDatabase(b *testing.B, do func(b *testing.B, url string)) {
	measuring := &bench{postgres: os.Getenv("TEST_DATABASE_URL")}
	for _, database := range measuring.databases() {
		b.Run(strings.ToLower(database.name), func(b *testing.B) { do(b, database.url) })
	}
}

// perAction reports what n actions cost.
func perAction(b *testing.B, c cost, n int) {
	b.ReportMetric(rate(n, c.took), "actions/s")
	b.ReportMetric(micros(c.allCPU(), n), "cpu-us/action")
	b.ReportMetric(float64(c.took.Nanoseconds())/float64(n), "ns/op")
	b.ReportMetric(float64(c.allocs)/float64(n), "allocs/op")
	b.ReportMetric(float64(c.bytes)/float64(n), "B/op")
}

// BenchmarkMakespan is measures 1 to 3, with ten actions for each gateway: each
// iteration is one makespan.
func BenchmarkMakespan(b *testing.B) {
	const pause, n = 100 * time.Millisecond, 10
	for _, mode := range []relaytest.Mode{relaytest.ModePersistent, relaytest.ModeOneShot} {
		b.Run(string(mode), func(b *testing.B) {
			eachBenchDatabase(b, func(b *testing.B, url string) {
				var ours, bare time.Duration
				for b.Loop() {
					took, least, err := makespan(b.Context(), url, uniform(makespanGateways, mode, pause), n, mode == relaytest.ModeOneShot)
					if err != nil {
						b.Fatal(err)
					}
					ours, bare = ours+took, bare+least
				}
				b.ReportMetric(float64(ours)/float64(bare), "ratio")
				b.ReportMetric(rate(b.N*n*makespanGateways, ours), "actions/s")
			})
		})
	}
	b.Run("beside-lost", func(b *testing.B) {
		eachBenchDatabase(b, func(b *testing.B, url string) {
			var ours time.Duration
			for b.Loop() {
				took, err := amongLost(b.Context(), url, uniform(makespanGateways, relaytest.ModePersistent, pause), n)
				if err != nil {
					b.Fatal(err)
				}
				ours += took
			}
			b.ReportMetric(rate(b.N*n*(makespanGateways-3), ours), "actions/s")
		})
	})
}

// BenchmarkActions is measures 4 to 6: an iteration is an action.
func BenchmarkActions(b *testing.B) {
	for _, queue := range []string{"sessions", "plain"} {
		b.Run(queue, func(b *testing.B) {
			eachBenchDatabase(b, func(b *testing.B, url string) {
				inScene(b, url, queue == "sessions", func(s *benchScene, n int) (cost, error) { return s.forward(b.Context(), n) })
			})
		})
	}
}

// BenchmarkParts is what the actions of BenchmarkActions need whoever forwards them.
func BenchmarkParts(b *testing.B) {
	eachBenchDatabase(b, func(b *testing.B, url string) {
		ctx := b.Context()
		b.Run("receive-complete", func(b *testing.B) {
			inScene(b, url, true, func(s *benchScene, n int) (cost, error) {
				if err := s.enqueue(ctx, s.gateways, n); err != nil {
					return cost{}, err
				}
				return s.bareDrain(ctx, n)
			})
		})
		b.Run("exchange", func(b *testing.B) {
			inScene(b, url, true, func(s *benchScene, n int) (cost, error) { return s.bareExchanges(ctx, s.gateways, n, false) })
		})
		b.Run("bare-commits", func(b *testing.B) {
			inScene(b, url, true, func(s *benchScene, n int) (cost, error) { return s.bareWrites(ctx, rateGateways, n*rateGateways) })
		})
		b.Run("our-commits", func(b *testing.B) {
			inScene(b, url, true, func(s *benchScene, n int) (cost, error) { return writes(ctx, s.store, rateGateways, n*rateGateways) })
		})
	})
}

// inScene reports what do takes for about b.N actions, an equal number for each
// of 16 gateways that answer at once.
func inScene(b *testing.B, url string, sessions bool, do func(s *benchScene, n int) (cost, error)) {
	scene, err := newBenchScene(b.Context(), url, sessions, false, uniform(rateGateways, relaytest.ModePersistent, 0))
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := scene.Close(); err != nil {
			b.Error(err)
		}
	}()
	n := (b.N + rateGateways - 1) / rateGateways
	c, err := do(scene, n)
	if err != nil {
		b.Fatal(err)
	}
	perAction(b, c, n*rateGateways)
}

// BenchmarkLatency is measure 7: an iteration is an action, 50 of which are
// enqueued in a second.
func BenchmarkLatency(b *testing.B) {
	eachBenchDatabase(b, func(b *testing.B, url string) {
		ours, bare, err := latency(b.Context(), url, max(b.N, (uncounted+1)*latencyGateways))
		if err != nil {
			b.Fatal(err)
		}
		for percent, unit := range map[int]string{50: "p50-ms", 99: "p99-ms"} {
			b.ReportMetric(millis(ours.percentile(percent)), unit)
			b.ReportMetric(millis(bare.percentile(percent)), "bare-"+unit)
		}
	})
}
