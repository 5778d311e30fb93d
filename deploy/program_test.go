package deploy_test

import (
	"bytes"
	"errors"
	"fmt"
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

// built is where programs are; TestMain removes it.
var built = sync.OnceValues(func() (folder string, err error) { return os.MkdirTemp("", "deploy") })

// worklistRelay and local are the paths of the two binaries, each made once.
var (
	worklistRelay = sync.OnceValues(func() (string, error) { return binary("worklist-relay") })
	local         = sync.OnceValues(func() (string, error) { return binary("local") })
)

// binary has go run copy the program instead of running it: what go run has linked
// stays in the build cache, and what go build has does not.
func binary(name string) (path string, err error) {
	folder, err := built()
	if err != nil {
		return "", err
	}
	path = filepath.Join(folder, name)
	if out, err := exec.Command("go", "run", "-exec", "cp", "../cmd/"+name, path).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go run: %w\n%s", err, out)
	}
	return path, nil
}

// program is the path of a binary, and ends the test where there is none.
func program(t *testing.T, made func() (string, error)) string {
	t.Helper()
	path, err := made()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMain(m *testing.M) {
	code := suite.Tests(m).Run()
	if folder, err := built(); err == nil {
		_ = os.RemoveAll(folder)
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

// runs are those of ran, func() string each: most mistakes leave most containers as
// they are.
var runs sync.Map

func ran(t *testing.T, arguments []string, environment map[string]string) (fault string) {
	t.Helper()
	binary := program(t, worklistRelay)
	key := fmt.Sprintf("%q %q", arguments, environment)
	once, _ := runs.LoadOrStore(key, sync.OnceValue(func() string { return run(binary, arguments, environment) }))
	return once.(func() string)()
}

func run(binary string, arguments []string, environment map[string]string) (fault string) {
	if len(arguments) > 0 && arguments[0] == "doctor" {
		// It would look for the network all the same; the others have its environment.
		if out, err := exec.Command(binary, append(arguments, "--help")...).CombinedOutput(); err != nil {
			return fmt.Sprintf("worklist-relay %s: %v: %s", strings.Join(arguments, " "), err, out)
		}
		return ""
	}
	cmd := exec.Command(binary, arguments...)
	for name, value := range environment {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Env = append(cmd.Env, "LOG_LEVEL=planted") // the last one counts
	var said bytes.Buffer
	cmd.Stderr = &said
	var exit *exec.ExitError
	err := cmd.Run()
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.Contains(said.String(), onlyLogLevel) {
		return fmt.Sprintf("worklist-relay %s: %v: %s", strings.Join(arguments, " "), err, said.String())
	}
	return ""
}
