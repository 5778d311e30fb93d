package deploy_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/zclconf/go-cty/cty"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
)

// containers are those of the app and its jobs, by where they are.
func (m *module) containers() map[string]cty.Value {
	all := map[string]cty.Value{}
	for _, typ := range []string{"azurerm_container_app", "azurerm_container_app_job"} {
		for _, one := range m.instancesOf(typ) {
			for _, c := range elements(at(one, "template", 0, "container")) {
				all[asString(at(one, "name"))] = c
			}
		}
	}
	return all
}

// environmentOf is the environment of a container without what comes from secrets.
func environmentOf(container cty.Value) map[string]string {
	values := map[string]string{}
	for _, e := range elements(at(container, "env")) {
		if asString(at(e, "secret_name")) == "" {
			values[asString(at(e, "name"))] = asString(at(e, "value"))
		}
	}
	return values
}

// documented are the environment variables of the README's table.
func documented(t *testing.T) []string {
	t.Helper()
	_, table, found := strings.Cut(string(read(t, "../README.md")), "\n| variable | default | meaning |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	var names []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\|").FindAllStringSubmatch(table, -1) {
		names = append(names, row[1])
	}
	if !found || len(names) < 20 {
		t.Fatalf("the README's table of variables has %d", len(names))
	}
	return names
}

func environmentFaults(t *testing.T, m *module) (faults []string) {
	known := documented(t)
	for where, c := range m.containers() {
		seen := map[string]bool{}
		for _, e := range elements(at(c, "env")) {
			name := asString(at(e, "name"))
			if seen[name] {
				faults = append(faults, fmt.Sprintf("%s: %s is set twice", where, name))
			}
			seen[name] = true
			fromSecret := asString(at(e, "secret_name")) != "" // a relay's key has whatever name the relay's row says
			if !fromSecret && !slices.Contains(known, name) && !strings.HasPrefix(name, "OTEL_") {
				faults = append(faults, fmt.Sprintf("%s: the program knows no %s", where, name))
			}
		}
	}
	return faults
}

// The module lets through every setting of the program that nothing else sets.
func TestSettings(t *testing.T) {
	t.Parallel()
	said := environmentOf(loadModule(t, "terraform", everything(t)).containers()["worklist-relay"])
	for _, name := range documented(t) {
		_, set := said[name]
		development := slices.Contains([]string{"RELAY_CA_FILE", "RELAY_PLAIN_HOSTS", "SERVICEBUS_ADMIN_URL", "SERVICEBUS_CONNECTION_STRING"}, name)
		values := given(t)
		values["settings"] = cty.MapVal(map[string]cty.Value{name: cty.StringVal("x")})
		refused := len(refusals(t, values)) > 0
		if may := (!set || name == "CONCURRENCY") && !development; may == refused { // everything asks for CONCURRENCY
			t.Errorf("%s as a setting: refused is %t", name, refused)
		}
	}
}

// built is where program builds; TestMain removes it.
var built string

// program builds worklist-relay once, and returns the path of the binary.
var program = sync.OnceValues(func() (path string, err error) {
	if built, err = os.MkdirTemp("", "deploy"); err != nil {
		return "", err
	}
	path = filepath.Join(built, "worklist-relay")
	if out, err := exec.Command("go", "build", "-o", path, "../cmd/worklist-relay").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := suite.Tests(m).Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
}

// argumentFaults runs the program with the arguments and the environment of each
// container, and a LOG_LEVEL that is refused: so nothing is dialled, and of
// anything else that is wrong the program complains too.
func argumentFaults(t *testing.T, m *module) (faults []string) {
	for where, c := range m.containers() {
		var arguments []string
		for _, a := range elements(at(c, "args")) {
			arguments = append(arguments, asString(a))
		}
		if fault := ran(t, arguments, environmentOf(c)); fault != "" {
			faults = append(faults, where+": "+fault)
		}
	}
	return faults
}

// onlyLogLevel is what it says where nothing else is wrong.
const onlyLogLevel = "configuration: LOG_LEVEL is not a log level"

func ran(t *testing.T, arguments []string, environment map[string]string) (fault string) {
	t.Helper()
	binary, err := program()
	if err != nil {
		t.Fatal(err)
	}
	if len(arguments) > 0 && arguments[0] == "doctor" {
		// It would look for the network all the same; the others have its environment.
		if out, err := exec.Command(binary, append(arguments, "--help")...).CombinedOutput(); err != nil {
			return fmt.Sprintf("worklist-relay %s: %v: %s", strings.Join(arguments, " "), err, out)
		}
		return ""
	}
	cmd := exec.Command(binary, arguments...)
	for _, name := range slices.Sorted(maps.Keys(environment)) {
		cmd.Env = append(cmd.Env, name+"="+environment[name])
	}
	cmd.Env = append(cmd.Env, "LOG_LEVEL=planted") // the last one counts
	var said bytes.Buffer
	cmd.Stderr = &said
	var exit *exec.ExitError
	err = cmd.Run()
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.Contains(said.String(), onlyLogLevel) {
		return fmt.Sprintf("worklist-relay %s: %v: %s", strings.Join(arguments, " "), err, said.String())
	}
	return ""
}
