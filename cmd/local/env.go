package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

// firstVariable begins every env file, which tells one from other files.
const firstVariable = "SERVICEBUS_CONNECTION_STRING"

// variable is one environment variable for worklist-relay.
type variable struct{ name, value string }

// environment is what worklist-relay run needs to work on this stack, and what
// a test program needs to steer it.
func (s *stack) environment(httpAddr, certificate string) []variable {
	env := []variable{
		{firstVariable, s.broker.ConnectionString()},
		{"SERVICEBUS_ADMIN_URL", "http://" + s.broker.HTTPAddr()},
		{"SERVICEBUS_QUEUE", queueName},
		{"DATABASE_URL", s.databaseURL},
		{"RELAY_ALLOW_HOSTS", hostOf(s.relay.Addr())},
	}
	if s.sessions() {
		env = append(env, variable{"SERVICEBUS_SESSIONS", "true"})
	}
	if s.tls {
		env = append(env, variable{"RELAY_CA_FILE", certificate})
	} else {
		env = append(env, variable{"RELAY_PLAIN_HOSTS", s.relay.Addr()})
	}
	return append(env,
		variable{relayKeyVariable, relayKey},
		variable{"LOCAL_HTTP_ADDR", httpAddr},
	)
}

// formatEnv writes KEY=value lines that `env $(cat FILE)` takes: a shell splits
// them at white space, so that no value may hold any. The error names the
// variable, not its value.
func formatEnv(env []variable) (string, error) {
	var lines strings.Builder
	for _, v := range env {
		if strings.ContainsFunc(v.value, unicode.IsSpace) {
			return "", fmt.Errorf("%s: its value has a space, which `env $(cat FILE)` cannot carry", v.name)
		}
		fmt.Fprintf(&lines, "%s=%s\n", v.name, v.value)
	}
	return lines.String(), nil
}

// writeWhole writes a file so that whoever waits for it sees all of it or none,
// and nobody else may read it.
func writeWhole(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// takeEnvFile removes what an earlier run left at path, and refuses anything
// else that stands there.
func takeEnvFile(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", path)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(content) > 0 && !strings.HasPrefix(string(content), firstVariable+"=") {
		return fmt.Errorf("%s holds something else; remove it or name another file", path)
	}
	return os.Remove(path)
}

// dropEnvFile removes the file if it still holds these lines, and not those of
// another run.
func dropEnvFile(path, lines string) error {
	if content, err := os.ReadFile(path); err == nil && string(content) == lines {
		return removeFile(path)
	}
	return nil
}

// removeFile removes a file that may not be there.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// absoluteDatabase makes a SQLite file's name good in any working directory.
func absoluteDatabase(url string) (string, error) {
	file, isSQLite := strings.CutPrefix(url, "sqlite:")
	if !isSQLite || file == "" {
		return url, nil
	}
	absolute, err := filepath.Abs(file)
	return "sqlite:" + absolute, err
}
