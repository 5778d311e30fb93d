package deploy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// alerts are those that Azure Monitor tells, by the name of their runbook. Others
// are told by the program's own metrics.
var alerts = []string{"dead-letters", "job-failed", "no-listener", "nothing-completes", "restarts", "scaler-failure"}

var runbookLink = regexp.MustCompile(`Runbook: https://\S+/deploy/runbooks/([a-z-]+)\.md$`)

func alertFaults(t *testing.T, m *module) (faults []string) {
	var told []string
	for _, typ := range []string{"azurerm_monitor_metric_alert", "azurerm_monitor_scheduled_query_rules_alert_v2"} {
		for _, one := range m.instancesOf(typ) {
			name := asString(at(one, "name"))
			link := runbookLink.FindStringSubmatch(asString(at(one, "description")))
			if link == nil || !strings.HasSuffix(name, "-"+link[1]) {
				faults = append(faults, fmt.Sprintf("alert %s: the description does not end with its own runbook", name))
				continue
			}
			told = append(told, link[1])
			if actions := len(elements(at(one, "action"))); actions != 1 {
				faults = append(faults, fmt.Sprintf("alert %s: tells %d action groups", name, actions))
			}
			query := asString(at(one, "criteria", 0, "query"))
			faults = append(faults, unsaid(t, name, query)...)
			faults = append(faults, unanswered(name, query)...)
		}
	}
	if slices.Sort(told); !slices.Equal(told, alerts) {
		faults = append(faults, fmt.Sprintf("the alerts are %v, want %v", told, alerts))
	}
	return faults
}

var logged = regexp.MustCompile(`\b(?:msg|phase) == '([^']+)'`)

// unsaid are what a query looks for in the program's log, and the program never says.
func unsaid(t *testing.T, alert, query string) (faults []string) {
	t.Helper()
	if strings.Contains(query, "ConsoleLogs") && !logged.MatchString(query) {
		faults = append(faults, "alert "+alert+": looks for nothing in the program's log")
	}
	code, err := source()
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range logged.FindAllStringSubmatch(query, -1) {
		if !strings.Contains(code, `"`+match[1]+`"`) {
			faults = append(faults, fmt.Sprintf("alert %s: the program never says %q", alert, match[1]))
		}
	}
	return faults
}

// exported are the metrics of Service Bus that a diagnostic setting sends to Log
// Analytics, of those that an alert might want. How many messages a queue holds
// is never sent: not ActiveMessages, DeadletteredMessages, ScheduledMessages or Size.
var exported = []string{"AbandonMessage", "CompleteMessage", "IncomingMessages", "IncomingRequests", "OutgoingMessages"}

var refused = regexp.MustCompile(`\b(?:union|search)\b`)

var metricNamed = regexp.MustCompile(`\bMetricName == '([^']+)'`)

// unanswered is what a query asks for in vain: a metric that never comes, or too many tables.
func unanswered(alert, query string) (faults []string) {
	if operator := refused.FindString(query); operator != "" {
		faults = append(faults, fmt.Sprintf("alert %s: Azure takes no alert whose query has the operator %s", alert, operator))
	}
	named := metricNamed.FindAllStringSubmatch(query, -1)
	if strings.Contains(query, "AzureMetrics") && len(named) == 0 {
		faults = append(faults, "alert "+alert+": names no metric")
	}
	for _, match := range named {
		if !slices.Contains(exported, match[1]) {
			faults = append(faults, fmt.Sprintf("alert %s: %s is not sent to Log Analytics", alert, match[1]))
		}
	}
	return faults
}

// source is the code whose log the alerts read.
var source = sync.OnceValues(func() (string, error) {
	var all strings.Builder
	for _, pattern := range []string{"../consumer/*.go", "../relay/*.go"} {
		files, _ := filepath.Glob(pattern) // the pattern is well formed
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return "", err
			}
			all.Write(text)
		}
	}
	return all.String(), nil
})

// Every alert's runbook is there, where there are runbooks.
func TestRunbooks(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("runbooks"); err != nil {
		t.Skip("no runbooks yet")
	}
	for _, name := range alerts {
		if _, err := os.Stat(filepath.Join("runbooks", name+".md")); err != nil {
			t.Error(err)
		}
	}
}
