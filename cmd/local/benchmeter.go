package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// cost is what a piece of work took.
type cost struct {
	took     time.Duration
	cpu      time.Duration // of this process, in user and system mode
	database time.Duration // of the PostgreSQL servers on this machine, likewise
	allocs   uint64        // objects that this process allocated
	bytes    uint64        // and their size
}

// plus is what two pieces of work took one after the other.
func (c cost) plus(d cost) cost {
	return cost{c.took + d.took, c.cpu + d.cpu, c.database + d.database, c.allocs + d.allocs, c.bytes + d.bytes}
}

// allCPU is the time of all processes that had a part in it.
func (c cost) allCPU() time.Duration { return c.cpu + c.database }

// meter measures from its start on.
type meter struct {
	began    time.Time
	cpu      time.Duration
	database time.Duration
	memory   runtime.MemStats
}

func startMeter() *meter {
	m := &meter{}
	runtime.GC() // what went before is not to be paid for by what follows
	runtime.ReadMemStats(&m.memory)
	m.database, m.cpu, m.began = postgresCPU(), processCPU(), time.Now()
	return m
}

func (m *meter) stop() cost {
	c := cost{took: time.Since(m.began), cpu: processCPU() - m.cpu, database: postgresCPU() - m.database}
	var now runtime.MemStats
	runtime.ReadMemStats(&now)
	c.allocs, c.bytes = now.Mallocs-m.memory.Mallocs, now.TotalAlloc-m.memory.TotalAlloc
	return c
}

// measured is what do took.
func measured(do func() error) (cost, error) {
	m := startMeter()
	err := do()
	return m.stop(), err
}

func processCPU() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// clockTick is the unit of the times in /proc/PID/stat on every Linux that Go
// runs on: USER_HZ, proc(5).
const clockTick = time.Second / 100

// postgresCPU is what every PostgreSQL process of this machine has used, those
// that have ended included; 0 where none can be seen.
func postgresCPU() (sum time.Duration) {
	names, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well formed
	for _, name := range names {
		stat, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(stat, []byte("(postgres)")) {
			continue // it ended meanwhile, or is another program
		}
		// After the name: state is field 3, utime and stime 14 and 15, and those
		// of children that were waited for 16 and 17.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		for _, field := range fields[11:15] {
			ticks, _ := strconv.Atoi(string(field)) // the kernel writes numbers
			sum += time.Duration(ticks) * clockTick
		}
	}
	return sum
}
