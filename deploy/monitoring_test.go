package deploy_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const runbooksURL = "https://github.com/worklist-relay/worklist-relay/blob/main/deploy/runbooks"

// rule is one of Prometheus: a recorded series, or an alert.
type rule struct {
	Record, Alert, Expr, For string
	Labels, Annotations      map[string]string
}

func rulesOf(t *testing.T) (rules []rule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	readYAML(t, "monitoring/rules.yaml", &file)
	for _, group := range file.Groups {
		rules = append(rules, group.Rules...)
	}
	if len(rules) == 0 {
		t.Fatal("monitoring/rules.yaml has no rules")
	}
	return rules
}

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// Each alert says what is wrong, what to run first and where to read on, and
// pages only while the clinics are open.
func TestAlertsAreWhole(t *testing.T) {
	t.Parallel()
	for _, r := range rulesOf(t) {
		if r.Alert == "" {
			continue
		}
		if r.Annotations["summary"] == "" || !strings.Contains(r.Annotations["description"], "worklist-relay ") {
			t.Errorf("%s needs a summary, and a description that names a command", r.Alert)
		}
		open := strings.Contains(r.Expr, "worklist:clinic_open == 1")
		switch severity := r.Labels["severity"]; {
		case severity != "page" && severity != "ticket":
			t.Errorf("%s has the severity %q, not page or ticket", r.Alert, severity)
		case severity == "page" && !open:
			t.Errorf("%s pages while no participant can be at a machine", r.Alert)
		}
	}
}

// alertCase is one expectation of a rules test.
type alertCase struct {
	Alert  string `yaml:"alertname"`
	Expect []struct {
		Annotations map[string]string `yaml:"exp_annotations"`
	} `yaml:"exp_alerts"`
}

func alertCases(t *testing.T) (cases []alertCase) {
	t.Helper()
	for _, name := range rulesTests(t) {
		var file struct {
			Tests []struct {
				Cases []alertCase `yaml:"alert_rule_test"`
			}
		}
		readYAML(t, name, &file)
		for _, test := range file.Tests {
			cases = append(cases, test.Cases...)
		}
	}
	return cases
}

func rulesTests(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("monitoring/*_test.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("the rules have no tests: %v", err)
	}
	return files
}

// The tests of the rules see each alert fire, with its text, and see it not fire.
func TestEveryAlertIsTested(t *testing.T) {
	t.Parallel()
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, c := range alertCases(t) {
		if len(c.Expect) == 0 {
			silent[c.Alert] = true
		}
		for _, alert := range c.Expect {
			fires[c.Alert+" "+alert.Annotations["runbook_url"]] = true
		}
	}
	for _, r := range rulesOf(t) {
		if r.Alert != "" && (!fires[r.Alert+" "+r.Annotations["runbook_url"]] || !silent[r.Alert]) {
			t.Errorf("no test of the rules shows %s both firing and silent", r.Alert)
		}
	}
}

// TestRules has promtool check the rules and run their tests. It is skipped
// without promtool; with REQUIRE_PROMTOOL=1 it fails instead.
func TestRules(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", "monitoring/rules.yaml")
	promtool(t, append([]string{"test", "rules"}, rulesTests(t)...)...)
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	program, err := exec.LookPath("promtool")
	switch {
	case err != nil && os.Getenv("REQUIRE_PROMTOOL") == "1":
		t.Fatalf("REQUIRE_PROMTOOL=1, but %v", err)
	case err != nil:
		t.Skipf("rules and queries are not tested: %v", err)
	}
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// panel is one of the dashboard.
type panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	Targets                  []struct{ Expr string }
	FieldConfig              struct {
		Defaults struct{ Unit, NoValue string }
	}
	Links []struct{ URL string }
}

func dashboard(t *testing.T) (panels []panel) {
	t.Helper()
	text, err := os.ReadFile("monitoring/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct{ Panels []panel }
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatalf("monitoring/dashboard.json: %v", err)
	}
	if len(board.Panels) == 0 {
		t.Fatal("monitoring/dashboard.json has no panels")
	}
	return board.Panels
}

func TestDashboard(t *testing.T) {
	t.Parallel()
	ids, cells := map[int]string{}, map[[2]int]string{}
	for _, p := range dashboard(t) {
		if other, taken := ids[p.ID]; taken || p.ID == 0 {
			t.Errorf("%q has the id %d, as %q has", p.Title, p.ID, other)
		}
		ids[p.ID] = p.Title
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, taken := cells[[2]int{x, y}]; taken || x >= 24 {
					t.Fatalf("%q lies over %q, or beyond the right edge", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 || len(p.Links) == 0 {
			t.Errorf("%q needs a description, a unit, a query and a link to a runbook", p.Title)
		}
		// That no replica runs does not mean that nothing is wrong.
		for _, target := range p.Targets {
			if v := p.FieldConfig.Defaults.NoValue; (v == "none" || v == "0") && !strings.Contains(target.Expr, "or worklist:") {
				t.Errorf("%q says %s where no replica says anything", p.Title, v)
			}
		}
		for _, link := range p.Links {
			runbookExists(t, p.Title, link.URL)
		}
	}
}

// Every query of the dashboard is one that Prometheus takes.
func TestDashboardQueries(t *testing.T) {
	t.Parallel()
	exprs := queries(t)
	var rules []map[string]string
	for _, where := range slices.Sorted(maps.Keys(exprs)) {
		rules = append(rules, map[string]string{"record": fmt.Sprintf("worklist:query_%d", len(rules)), "expr": exprs[where]})
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
}

// queries are those of the dashboard, by panel, with Grafana's variables filled in.
func queries(t *testing.T) map[string]string {
	t.Helper()
	filled := strings.NewReplacer("$__rate_interval", "5m", "$gateway", ".*")
	list := map[string]string{}
	for _, p := range dashboard(t) {
		for i, target := range p.Targets {
			list[p.Title+", query "+string(rune('A'+i))] = filled.Replace(target.Expr)
		}
	}
	return list
}

// Every series that a rule or a panel asks for is one that the program has, by
// the README's table, or that a rule records; and so are the labels.
func TestMetricsExist(t *testing.T) {
	t.Parallel()
	known := readmeSeries(t)
	exprs := queries(t)
	for _, r := range rulesOf(t) {
		if r.Record != "" {
			known[r.Record] = groupings(r.Expr)
			exprs["rule "+r.Record] = r.Expr
		} else {
			exprs["alert "+r.Alert+" "+r.Labels["severity"]] = r.Expr
		}
	}
	for _, where := range slices.Sorted(maps.Keys(exprs)) {
		var labels []string
		for _, s := range selectors(exprs[where]) {
			its, exists := known[s.name]
			if strings.HasPrefix(s.name, "go_") || strings.HasPrefix(s.name, "process_") {
				exists = true
			}
			if !exists {
				t.Errorf("%s asks for %s, which is neither in the README's table nor recorded", where, s.name)
			}
			for _, label := range s.labels {
				if !slices.Contains(its, label) {
					t.Errorf("%s asks %s for the label %s, which it does not have", where, s.name, label)
				}
			}
			labels = append(labels, its...)
		}
		for _, label := range groupings(exprs[where]) {
			if !slices.Contains(append(labels, "job", "instance"), label) {
				t.Errorf("%s groups by %s, which none of its series has", where, label)
			}
		}
	}
}
