package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var tableRow = regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| (.*?) \\| (.*?) \\|$")

// The README's configuration table is the code's, row by row.
func TestReadmeConfigurationTable(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(readme), "\n## Configuration\n")
	if !found {
		t.Fatal("README has no section Configuration")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var told []string
	for _, row := range tableRow.FindAllStringSubmatch(section, -1) {
		told = append(told, strings.Join(row[1:], " | "))
	}
	var real []string
	for _, v := range variables() {
		fallback := ""
		if v.Default != "" {
			fallback = "`" + v.Default + "`"
		}
		real = append(real, strings.Join([]string{v.Name, fallback, v.Doc}, " | "))
	}
	for _, row := range real {
		if !slices.Contains(told, row) {
			t.Errorf("README lacks:\n| `%s |", strings.Replace(row, " |", "` |", 1))
		}
	}
	for _, row := range told {
		if !slices.Contains(real, row) {
			t.Errorf("README tells of what the code does not have: %s", row)
		}
	}
}

// Every fault is reported at once, by the variable's name.
func TestReadConfigReportsEveryFault(t *testing.T) {
	for name, value := range map[string]string{
		"ACK_TIMEOUT": "soon", "CONCURRENCY": "many", "LOG_LEVEL": "loud", "RETRY_DELAYS": "5s,later",
		"SERVICEBUS_CONNECTION_STRING": "", "SERVICEBUS_NAMESPACE": "", "DATABASE_URL": "",
	} {
		t.Setenv(name, value)
	}
	_, err := readConfig(needService)
	if err == nil || exitCode(err) != exitConfig {
		t.Fatalf("error %v", err)
	}
	for _, name := range []string{"ACK_TIMEOUT", "CONCURRENCY", "LOG_LEVEL", "RETRY_DELAYS", "SERVICEBUS_CONNECTION_STRING", "DATABASE_URL"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not among the faults:\n%v", name, err)
		}
	}
}

func TestReadConfigChecksValues(t *testing.T) {
	for name, value := range map[string]string{
		"CLINIC_TIME_ZONE": "Europe/Nowhere", "RELEASE_AT": "25:00", "CONCURRENCY": "0", "MAX_ATTEMPTS": "0",
		"ACK_TIMEOUT": "-1s", "RETRY_DELAYS": "5s,0s", "LOG_FORMAT": "xml", "RELAY_CA_FILE": "testdata/none.pem",
		"OUTCOME_QUEUE":                "Worklist-Commands",
		"SERVICEBUS_CONNECTION_STRING": "a", "SERVICEBUS_NAMESPACE": "b",
	} {
		t.Setenv(name, value)
	}
	_, err := readConfig(needQueue)
	if err == nil {
		t.Fatal("no error")
	}
	for _, name := range []string{"CLINIC_TIME_ZONE", "RELEASE_AT", "CONCURRENCY", "MAX_ATTEMPTS", "ACK_TIMEOUT", "RETRY_DELAYS", "LOG_FORMAT", "RELAY_CA_FILE", "SERVICEBUS_NAMESPACE", "OUTCOME_QUEUE"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not among the faults:\n%v", name, err)
		}
	}
}

func TestReadConfigDefaults(t *testing.T) {
	t.Setenv("SERVICEBUS_CONNECTION_STRING", "Endpoint=sb://localhost;SharedAccessKeyName=local;SharedAccessKey=SYNTHETIC;UseDevelopmentEmulator=true")
	t.Setenv("DATABASE_URL", "sqlite:file")
	c, err := readConfig(needService)
	if err != nil {
		t.Fatal(err)
	}
	if c.ServiceBusQueue != "worklist-commands" || c.Concurrency != 16 || len(c.RetryDelays) != 6 || c.clinic.String() != "Europe/London" {
		t.Errorf("defaults are %+v", c)
	}
}
