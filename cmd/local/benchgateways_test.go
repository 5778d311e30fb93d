package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

// A person who finds the hidden command is told what it is for.
func TestBenchConsumerAlone(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	root := rootCommand()
	root.SetArgs([]string{wardCommand})
	root.SetIn(strings.NewReader(""))
	root.SetOut(&out)
	root.SetErr(&errs)
	err := root.ExecuteContext(t.Context())
	if err == nil || !strings.Contains(err.Error(), "for bench alone") {
		t.Errorf("%s: %v", wardCommand, err)
	}
}

// BenchmarkIdleGateways is measure 8 with fewer gateways: the memory of one that
// was used once and is idle.
func BenchmarkIdleGateways(b *testing.B) {
	const gateways = 250
	var bytes float64
	for b.Loop() {
		i, err := idle(context.Background(), gateways)
		if err != nil {
			b.Fatal(err)
		}
		if left := i.left(); left > 0 {
			b.Fatalf("%d sockets are left", left)
		}
		bytes += i.perGateway(gateways)
	}
	b.ReportMetric(bytes/float64(b.N), "B/gateway")
}
