package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// programPackage is the production binary.
const programPackage = "github.com/worklist-relay/worklist-relay/cmd/worklist-relay"

// buildProgram builds the production binary as the image has it, into folder,
// which is the caller's to remove.
// That needs the go command, and the module around the working directory.
func buildProgram(ctx context.Context, folder string) (path string, err error) {
	path = filepath.Join(folder, "worklist-relay")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", path, programPackage)
	// What a build leaves that is interrupted goes with the folder.
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOTMPDIR="+folder)
	build.Cancel, build.WaitDelay = func() error { return build.Process.Signal(os.Interrupt) }, usual.interrupt
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, firstFault(string(out)))
	}
	return path, nil
}

// firstFault is the first line of what go build wrote that is not the name of a package.
func firstFault(output string) string {
	for line := range strings.Lines(output) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return line
		}
	}
	return ""
}

// checkProgram says why the binary that the caller names cannot be started; ""
// is one that is yet to be built.
func checkProgram(named string) error {
	if named == "" {
		return nil
	}
	info, err := os.Stat(named)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		return fmt.Errorf("%s is no program", named)
	}
	return nil
}

// findProgram is the binary that the caller names, or one that is built into
// folder. An error says why there is none.
func findProgram(ctx context.Context, named, folder string) (path string, err error) {
	if named == "" {
		return buildProgram(ctx, folder)
	}
	return filepath.Abs(named)
}

// process is a program that runs, with nothing in its environment but what it is
// given: what stands in ours could lead it to a cloud.
type process struct {
	cmd   *exec.Cmd
	log   bytes.Buffer  // what it wrote on standard error; to be read once ended is closed
	ended chan struct{} // closed when it has
}

// launch starts cmd. The caller stops it.
func launch(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	cmd.Stderr = &p.log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // stop tells
	}()
	return p, nil
}

// startProgram starts `worklist-relay run` for the scene.
func (b *benchScene) startProgram(path string) (*process, error) {
	cmd := exec.Command(path, "run")
	for _, v := range b.environment("", "") {
		cmd.Env = append(cmd.Env, v.name+"="+v.value)
	}
	cmd.Env = append(cmd.Env, "HTTP_ADDR=127.0.0.1:0") // as in production, metrics are kept for whoever asks
	return launch(cmd)
}

// await waits for done, for the process's end or for the context's.
func (p *process) await(ctx context.Context, what string, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-p.ended:
		return fmt.Errorf("waiting for %s: %s ended (%v): %s", what, filepath.Base(p.cmd.Path), p.cmd.ProcessState, lastLine(p.log.String()))
	case <-ctx.Done():
		return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
	}
}

// stop asks the process to end, and waits for it. It is to end with 0.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it has ended: its code tells
	late := time.AfterFunc(usual.stop, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	<-p.ended
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("%s ended with %v: %s", filepath.Base(p.cmd.Path), p.cmd.ProcessState, lastLine(p.log.String()))
	}
	return nil
}

// stopping stops the process at the end of a function that returns *err.
func (p *process) stopping(err *error) { *err = errors.Join(*err, p.stop()) }

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}
