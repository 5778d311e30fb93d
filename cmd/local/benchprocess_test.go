package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// linked is the production binary as go run links it: what that has linked stays
// in the build cache, and what go build has does not.
func linked(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "worklist-relay")
	if out, err := exec.Command("go", "run", "-exec", "cp", programPackage, path).CombinedOutput(); err != nil {
		t.Fatalf("go run: %v\n%s", err, out)
	}
	return path
}

func TestStatusKiB(t *testing.T) {
	t.Parallel()
	const status = "Name:\tworklist-relay\nVmRSSX:\t 1 kB\nVmHWM:\t   27136 kB\nVmRSS:\t   26004 kB\nThreads:\t7\n"
	for _, test := range []struct {
		status, name string
		want         int
		fault        string
	}{
		{status, "VmRSS", 26004, ""},
		{status, "VmHWM", 27136, ""},
		{status, "VmSwap", 0, "no VmSwap"},
		{status, "Threads", 0, `Threads "7" is no size`},
		{"VmRSS:\tmany kB\n", "VmRSS", 0, `"many kB" is no size`},
	} {
		got, err := statusKiB(test.status, test.name)
		if got != test.want || (err == nil) != (test.fault == "") || err != nil && !strings.Contains(err.Error(), test.fault) {
			t.Errorf("%s: %d, %v; want %d, %q", test.name, got, err, test.want, test.fault)
		}
	}
}

// A binary that is named and not there is told before anything is measured.
func TestBenchWithoutProgram(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "worklist-relay")
	folder := t.TempDir()
	for _, test := range []struct{ path, why string }{
		{missing, "no such file"},
		{folder, folder + " is no program"},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), []string{"bench", "--database-url", "", "--worklist-relay", test.path}, &out, &errs)
		if code != exitConfiguration || out.Len() > 0 {
			t.Errorf("bench: exit code %d, output:\n%s", code, out.String())
		}
		if lines := strings.Count(errs.String(), "\n"); lines != 1 || !strings.Contains(errs.String(), "--worklist-relay: ") || !strings.Contains(errs.String(), test.why) {
			t.Errorf("standard error:\n%s", errs.String())
		}
	}
}

// Where none can be built, the part that needs one is left out, and one line says why.
func TestBenchCannotBuild(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // no go command
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"bench", "--only", "process", "--database-url", ""}, &out, &errs)
	lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
	if code != exitDone || len(lines) != 2 || !strings.HasPrefix(lines[1], "process is left out") {
		t.Errorf("bench: exit code %d, standard error:\n%s", code, errs.String())
	}
}

func TestFirstFault(t *testing.T) {
	t.Parallel()
	for output, want := range map[string]string{
		"":                                    "",
		"go.mod file not found\n":             "go.mod file not found",
		"# example.org/x\n\nlink: no space\n": "link: no space",
	} {
		if got := firstFault(output); got != want {
			t.Errorf("%q: %q, want %q", output, got, want)
		}
	}
}

// A build that is interrupted leaves nothing but in the folder that it was given.
func TestBuildProgramInterrupted(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	t.Setenv("GOFLAGS", "-a") // or it may be done before it is interrupted
	folder := t.TempDir()
	used := func(folder string) bool { entries, _ := os.ReadDir(folder); return len(entries) > 0 }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := buildProgram(ctx, folder)
		ended <- err
	}()
	suite.Until(t, "a build is seen", func() bool { return used(folder) || used(temporary) })
	cancel()
	if err := <-ended; err == nil {
		t.Error("it was built all the same")
	}
	if used(temporary) {
		t.Error("a temporary folder is left")
	}
}

// BenchmarkStart is measure 9, with SQLite.
func BenchmarkStart(b *testing.B) {
	ctx := context.Background()
	program, err := findProgram(ctx, "", b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	scene, err := newBenchScene(ctx, "", true, false, uniform(1, relaytest.ModePersistent, 0))
	if err != nil {
		b.Fatal(err)
	}
	defer scene.Close()
	var sum time.Duration
	for b.Loop() {
		took, err := scene.startToAck(ctx, program)
		if err != nil {
			b.Fatal(err)
		}
		sum += took
	}
	b.ReportMetric(millis(sum)/float64(b.N), "ms/start")
}
