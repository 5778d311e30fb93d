package deploy_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// process is one to be confined.
type process struct {
	Root     string // folder that is / to it, and cannot be written
	Data     string // folder that is /data to it, and can
	UID, GID int
	Args     []string // the first is the program, seen from Root
	Env      []string
}

// bundle is the config.json of an OCI bundle, as runc takes it.
func (p process) bundle() []byte {
	type object = map[string]any
	text, err := json.Marshal(object{
		"ociVersion": "1.0.2",
		"process": object{
			"user": object{"uid": p.UID, "gid": p.GID}, "cwd": "/", "env": p.Env, "args": p.Args,
			"capabilities": object{}, "noNewPrivileges": true,
		},
		"root": object{"path": p.Root, "readonly": true},
		"mounts": []object{
			{"destination": "/proc", "type": "proc", "source": "proc"},
			{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "noexec", "mode=755", "size=64k"}},
			{"destination": "/data", "type": "bind", "source": p.Data, "options": []string{"bind", "nosuid", "nodev", "noexec"}},
		},
		"linux": object{"namespaces": []object{{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}}},
	})
	if err != nil {
		panic(err) // of strings and numbers alone
	}
	return text
}

// confiner is the name by which this test program calls itself, see init.
const confiner = "confine"

// inChroot confines it where runc cannot be had: the test program calls itself in
// new namespaces, makes itself small there and becomes the process.
func (p process) inChroot() *exec.Cmd {
	text, err := json.Marshal(p)
	if err != nil {
		panic(err) // of strings and numbers alone
	}
	return &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{confiner, string(text)},
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS},
	}
}

func init() {
	if os.Args[0] != confiner {
		return
	}
	var p process
	err := json.Unmarshal([]byte(os.Args[1]), &p)
	if err == nil {
		err = p.become()
	}
	fmt.Fprintln(os.Stderr, "confine:", err)
	os.Exit(126)
}

// become turns this process into p. It returns only if that fails.
func (p process) become() error {
	runtime.LockOSThread() // capabilities belong to a thread
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"folders", func() error { return os.MkdirAll(filepath.Join(p.Root, "data"), 0o755) }},
		{"private mounts", func() error { return syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "") }},
		{"mount root", func() error { return syscall.Mount(p.Root, p.Root, "", syscall.MS_BIND, "") }},
		{"mount data", func() error {
			return syscall.Mount(p.Data, filepath.Join(p.Root, "data"), "", syscall.MS_BIND, "")
		}},
		{"read-only root", func() error {
			return syscall.Mount("", p.Root, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, "")
		}},
		{"chroot", func() error { return syscall.Chroot(p.Root) }},
		{"chdir", func() error { return syscall.Chdir("/") }},
		{"bounding set", dropBoundingSet},
		{"no new privileges", func() error { return prctl(noNewPrivileges, 1) }},
		{"groups", func() error { return syscall.Setgroups(nil) }},
		{"gid", func() error { return syscall.Setgid(p.GID) }},
		{"uid", func() error { return syscall.Setuid(p.UID) }},
		{"exec", func() error { return syscall.Exec(p.Args[0], p.Args, p.Env) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// noNewPrivileges is PR_SET_NO_NEW_PRIVS of prctl(2).
const noNewPrivileges = 38

// dropBoundingSet drops every capability that the kernel knows.
func dropBoundingSet() error {
	for capability := uintptr(0); ; capability++ {
		if err := prctl(syscall.PR_CAPBSET_DROP, capability); err == syscall.EINVAL && capability > 0 {
			return nil // the last one was the last
		} else if err != nil {
			return err
		}
	}
}

func prctl(option, value uintptr) error {
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, option, value, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
