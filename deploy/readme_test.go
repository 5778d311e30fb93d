package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What deploy/README.md says is there: variables, folders, the names of jobs.
func TestReadme(t *testing.T) {
	t.Parallel()
	text := string(read(t, "README.md"))
	example := loadModule(t, "terraform/examples/complete", nil)
	known := map[string]bool{}
	for _, v := range example.variables {
		known[v.name] = true
	}
	set := regexp.MustCompile(`-var '?(\w+)=`).FindAllStringSubmatch(text, -1)
	for _, name := range set {
		if !known[name[1]] {
			t.Errorf("the example has no variable %s", name[1])
		}
	}
	required, _, _ := strings.Cut(strings.SplitAfter(text, "# with ")[1], "\n")
	for _, v := range example.variables {
		if v.block.Body.Attributes["default"] == nil && !strings.Contains(required, v.name) {
			t.Errorf("the first apply does not say that it needs %s", v.name)
		}
	}
	names := regexp.MustCompile(`(?:-n|--name) (worklist-relay[a-z-]*)`).FindAllStringSubmatch(text, -1)
	m := loadModule(t, "terraform", given(t))
	for _, name := range names {
		if _, made := m.containers()[name[1]]; !made {
			t.Errorf("no %s is made", name[1])
		}
	}
	for _, path := range []string{"terraform", "local/compose.yaml", "local/Config.json", "testdata/azurerm.json", "terraform/alerts_log.tf"} {
		if _, err := os.Stat(filepath.FromSlash(path)); err != nil || !strings.Contains(text, filepath.Base(path)) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if len(set) < 3 || len(names) < 6 {
		t.Errorf("found %d variables and %d names", len(set), len(names))
	}
	sql := string(read(t, "terraform/outputs.tf"))
	for _, statement := range []string{"pgaadauth_create_principal_with_oid(", "GRANT CONNECT ON DATABASE ", "GRANT USAGE, CREATE ON SCHEMA public TO "} {
		if !strings.Contains(text, statement) || !strings.Contains(sql, statement) {
			t.Errorf("README.md and the output database_role_sql do not both have %q", statement)
		}
	}
}
