// Package deploy_test checks what is deployed without a provider, a subscription
// or a container: Terraform against the provider's schema and against the
// program, and the files of deploy/local.
package deploy_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// checks are what must hold of the module, whatever it is given. Each says what is wrong.
var checks = map[string]func(*testing.T, *module) []string{
	"schema":      func(_ *testing.T, m *module) []string { return m.faults },
	"format":      unformatted,
	"scale rules": scaleFaults,
	"grace":       graceFaults,
	"lock":        lockFaults,
	"roles":       roleFaults,
	"environment": environmentFaults,
	"arguments":   argumentFaults,
	"queue":       queueFaults,
	"alerts":      alertFaults,
}

// given are the variables of the runs below tests/, which have no default.
func given(t *testing.T) map[string]cty.Value {
	t.Helper()
	file := parse(t, "terraform/tests/roles.tftest.hcl")
	return variablesOf(t, file.Blocks, "variables")
}

// everything also asks for what is off by default.
func everything(t *testing.T) map[string]cty.Value {
	t.Helper()
	values := given(t)
	for _, b := range parse(t, "terraform/tests/roles.tftest.hcl").Blocks {
		if b.Type == "run" && b.Labels[0] == "all_that_can_be_asked_for" {
			for name, value := range variablesOf(t, b.Body.Blocks, "variables") {
				values[name] = value
			}
		}
	}
	values["relay_diagnostics_enabled"] = cty.True
	values["relay_namespace_ids"] = cty.MapVal(map[string]cty.Value{
		"all": cty.StringVal("/subscriptions/0/resourceGroups/relay/providers/Microsoft.Relay/namespaces/contoso-relay"),
	})
	return values
}

func parse(t *testing.T, path string) *hclsyntax.Body {
	t.Helper()
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file, diags := parseOnce(source, path)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return file.Body.(*hclsyntax.Body)
}

func variablesOf(t *testing.T, blocks hclsyntax.Blocks, typ string) map[string]cty.Value {
	t.Helper()
	values := map[string]cty.Value{}
	for _, b := range blocks {
		if b.Type != typ {
			continue
		}
		for name, attribute := range b.Body.Attributes {
			value, diags := attribute.Expr.Value(nil)
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			values[name] = value
		}
	}
	return values
}

func TestModule(t *testing.T) {
	t.Parallel()
	for with, values := range map[string]map[string]cty.Value{"the defaults": given(t), "everything": everything(t)} {
		m := loadModule(t, "terraform", values)
		if len(m.resources) < 15 {
			t.Fatalf("read %d resources", len(m.resources))
		}
		for name, check := range checks {
			t.Run(with+"/"+name, func(t *testing.T) {
				t.Parallel()
				for _, fault := range check(t, m) {
					t.Error(fault)
				}
			})
		}
	}
}

// The example fits the schema, and gives the module what it needs and nothing else.
func TestExample(t *testing.T) {
	t.Parallel()
	values := variablesOf(t, parse(t, "terraform/tests/example.tftest.hcl").Blocks, "variables")
	m := loadModule(t, "terraform/examples/complete", values)
	for _, fault := range append(m.faults, unformatted(t, m)...) {
		t.Error(fault)
	}
	if len(m.calls) != 1 {
		t.Fatalf("%d modules", len(m.calls))
	}
	arguments := m.calls[0].Body.Attributes
	known := []string{"source"}
	for _, v := range loadModule(t, "terraform", given(t)).variables {
		known = append(known, v.name)
		if v.block.Body.Attributes["default"] == nil && arguments[v.name] == nil {
			t.Errorf("the example does not give the module its %s", v.name)
		}
	}
	for name := range arguments {
		if !slices.Contains(known, name) {
			t.Errorf("the example gives the module a %s, which it does not take", name)
		}
	}
}

// What only a second apply, or the first statement in the database, would show.
func TestExampleLasts(t *testing.T) {
	t.Parallel()
	m := loadModule(t, "terraform/examples/complete", variablesOf(t, parse(t, "terraform/tests/example.tftest.hcl").Blocks, "variables"))
	for _, one := range m.instancesOf("azurerm_container_app_environment") {
		if asString(at(one, "infrastructure_resource_group_name")) == "" {
			t.Error("the environment takes a name of Azure's for its resource group, and the next plan would make it anew")
		}
	}
	for _, r := range m.resources {
		if r.block.Labels[0] != "azurerm_postgresql_flexible_server_database" {
			continue
		}
		source := m.sources[r.block.DefRange().Filename]
		after := r.block.Body.Attributes["depends_on"]
		if after == nil || !bytes.Contains(after.SrcRange.SliceBytes(source), []byte("active_directory_administrator")) {
			t.Errorf("%s may be made before the administrator, who then may grant nothing on it", r.address)
		}
	}
}

// Each run of refused.tftest.hcl is refused by the variable that it expects, and by no other.
func TestRefused(t *testing.T) {
	t.Parallel()
	body := parse(t, "terraform/tests/refused.tftest.hcl")
	if refused := refusals(t, given(t)); len(refused) > 0 {
		t.Fatalf("what is right is refused: %v", refused)
	}
	if refused := refusals(t, everything(t)); len(refused) > 0 {
		t.Fatalf("all that can be asked for is refused: %v", refused)
	}
	runs := 0
	for _, b := range body.Blocks {
		if b.Type != "run" {
			continue
		}
		runs++
		values := variablesOf(t, body.Blocks, "variables")
		for name, value := range variablesOf(t, b.Body.Blocks, "variables") {
			values[name] = value
		}
		want := regexp.MustCompile(`\[var\.(\w+)\]`).FindSubmatch(b.Body.Attributes["expect_failures"].SrcRange.SliceBytes(read(t, "terraform/tests/refused.tftest.hcl")))
		if got := refusals(t, values); len(got) != 1 || got[0] != string(want[1]) {
			t.Errorf("%s is refused by %v, want %s", b.Labels[0], got, want[1])
		}
	}
	if runs < 20 {
		t.Errorf("%d runs", runs)
	}
}

// refusals names the variables whose validation does not hold.
func refusals(t *testing.T, values map[string]cty.Value) (refused []string) {
	t.Helper()
	m := readModule(t, "terraform", nil)
	inputs := m.give(values)
	scope := &hcl.EvalContext{Functions: functions, Variables: map[string]cty.Value{"var": cty.ObjectVal(inputs)}}
	for _, v := range m.variables {
		for _, b := range v.block.Body.Blocks {
			holds, diags := b.Body.Attributes["condition"].Expr.Value(scope)
			if diags.HasErrors() {
				t.Errorf("%s: %v", v.name, diags)
			}
			if !asBool(holds) && !slices.Contains(refused, v.name) {
				refused = append(refused, v.name)
			}
		}
	}
	return refused
}

func TestVariablesAreDocumented(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"terraform", "terraform/examples/complete"} {
		m := loadModule(t, dir, nil)
		for _, v := range m.variables {
			if v.block.Body.Attributes["description"] == nil || v.block.Body.Attributes["type"] == nil {
				t.Errorf("%s: variable %s has no description or no type", dir, v.name)
			}
		}
		for _, b := range m.outputs {
			if b.Body.Attributes["description"] == nil {
				t.Errorf("%s: output %s has no description", dir, b.Labels[0])
			}
		}
	}
}

func unformatted(_ *testing.T, m *module) (faults []string) {
	for name, source := range m.sources {
		if !bytes.Equal(hclwrite.Format(source), source) {
			faults = append(faults, name+" is not formatted: terraform fmt -recursive deploy/terraform")
		}
	}
	return faults
}

// Terraform itself is asked where it is installed.
func TestTerraformFormat(t *testing.T) {
	t.Parallel()
	terraform, err := exec.LookPath("terraform")
	if err != nil {
		t.Skip("no terraform at hand")
	}
	cmd := exec.Command(terraform, "fmt", "-check", "-recursive", "-diff", "terraform")
	cmd.Env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+os.DevNull, "CHECKPOINT_DISABLE=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("terraform fmt: %v\n%s", err, out)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(path))
	if err != nil {
		t.Fatal(err)
	}
	return text
}
