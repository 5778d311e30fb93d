package deploy_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// composed is what is read of a service of deploy/local/compose.yaml.
type composed struct {
	Image           string
	Command         []string
	Environment     map[string]string
	Ports           []string
	Volumes         []string
	StopGracePeriod string `yaml:"stop_grace_period"`
}

// localSecrets are the only ones that may stand in the file: the emulator's own
// literal, and passwords that say what they are for.
var localSecrets = map[string]string{
	"MSSQL_SA_PASSWORD": "Local-only-1",
	"POSTGRES_PASSWORD": "local-only",
}

func composeFaults(t *testing.T, text []byte) (faults []string) {
	t.Helper()
	var file struct{ Services map[string]composed }
	if err := yaml.Unmarshal(text, &file); err != nil {
		return []string{err.Error()}
	}
	known := documented(t)
	programs := 0
	for name, s := range file.Services {
		fault := func(format string, args ...any) { faults = append(faults, name+": "+fmt.Sprintf(format, args...)) }
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				fault("port %s is not on loopback", port)
			}
		}
		for variable, value := range s.Environment {
			if strings.HasSuffix(variable, "PASSWORD") && value != localSecrets[variable] {
				fault("%s is not one of the local passwords", variable)
			}
		}
		if !strings.HasPrefix(s.Image, "worklist-relay:") {
			continue
		}
		programs++
		for variable := range s.Environment {
			if !slices.Contains(known, variable) {
				fault("the program knows no %s", variable)
			}
		}
		queue, there := emulated(t)[s.Environment["SERVICEBUS_QUEUE"]]
		if sessions := s.Environment["SERVICEBUS_SESSIONS"] == "true"; !there || sessions != queue.RequiresSession {
			fault("Config.json has no queue %s with sessions %t", s.Environment["SERVICEBUS_QUEUE"], sessions)
		}
		if !strings.Contains(s.Environment["SERVICEBUS_CONNECTION_STRING"], ";SharedAccessKey=SAS_KEY_VALUE;") {
			fault("the emulator's key is SAS_KEY_VALUE")
		}
		if database := s.Environment["DATABASE_URL"]; !strings.HasPrefix(database, "postgres://postgres:"+localSecrets["POSTGRES_PASSWORD"]+"@postgres:5432/"+file.Services["postgres"].Environment["POSTGRES_DB"]+"?") {
			fault("DATABASE_URL does not lead to the database here")
		}
		if wrong := ran(t, s.Command, s.Environment); wrong != "" {
			fault("%s", wrong)
		}
		if grace, _ := time.ParseDuration(s.StopGracePeriod); slices.Equal(s.Command, []string{"run"}) && grace <= 45*time.Second+closing {
			fault("it is killed after %q", s.StopGracePeriod)
		}
	}
	if programs != 2 {
		faults = append(faults, fmt.Sprintf("%d services are the program, want 2", programs))
	}
	if !slices.Contains(file.Services["emulator"].Volumes, "./Config.json:/ServiceBus_Emulator/ConfigFiles/Config.json:ro") {
		faults = append(faults, "the emulator does not read Config.json")
	}
	return faults
}

func TestCompose(t *testing.T) {
	t.Parallel()
	text := read(t, "local/compose.yaml")
	for _, fault := range composeFaults(t, text) {
		t.Error(fault)
	}
	for _, p := range []struct{ name, old, new, says string }{
		{"port for everybody", "127.0.0.1:5672:5672", "5672:5672", "port 5672:5672 is not on loopback"},
		{"unknown variable", "    LOG_FORMAT: text", "    LOG_FORMATS: text", "knows no LOG_FORMATS"},
		{"value that is refused", "LOG_FORMAT: text", "LOG_FORMAT: xml", "LOG_FORMAT \"xml\""},
		{"queue that is not there", "SERVICEBUS_QUEUE: worklist-commands-sessions", "SERVICEBUS_QUEUE: worklist-command", "no queue worklist-command"},
		{"queue of the other kind", "SERVICEBUS_QUEUE: worklist-commands-sessions", "SERVICEBUS_QUEUE: worklist-commands", "with sessions true"},
		{"a password of somewhere else", "MSSQL_SA_PASSWORD: Local-only-1", "MSSQL_SA_PASSWORD: Tuesday-17", "MSSQL_SA_PASSWORD"},
		{"killed early", "stop_grace_period: 60s", "stop_grace_period: 50s", "killed after"},
		{"no such command", "command: [migrate]", "command: [migrations]", "migrations"},
		{"Config.json elsewhere", "/ServiceBus_Emulator/", "/ServiceBus-Emulator/", "does not read Config.json"},
	} {
		planted := bytes.Replace(text, []byte(p.old), []byte(p.new), 1)
		if bytes.Equal(planted, text) {
			t.Errorf("%s: nothing was planted", p.name)
		}
		if faults := composeFaults(t, planted); !strings.Contains(strings.Join(faults, "\n"), p.says) {
			t.Errorf("%s: not found: %q", p.name, faults)
		}
	}
}
