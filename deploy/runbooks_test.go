package deploy_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// runbooks are their names, without .md; README.md tells how to run what they say.
func runbooks(t *testing.T) (names []string) {
	t.Helper()
	files, err := filepath.Glob("runbooks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name := strings.TrimSuffix(filepath.Base(file), ".md"); name != "README" {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		t.Fatal("there are no runbooks")
	}
	return names
}

// runbookExists checks an address of whose runbook, and returns its name.
func runbookExists(t *testing.T, whose, url string) string {
	t.Helper()
	name := strings.TrimSuffix(path.Base(url), ".md")
	if url != runbooksURL+"/"+name+".md" || !slices.Contains(runbooks(t), name) {
		t.Errorf("%s: %q is no runbook of deploy/runbooks", whose, url)
	}
	return name
}

// Every alert leads to a runbook, and to every runbook leads an alert: a rule of
// Prometheus, or one that Terraform makes.
func TestRunbooksAreReached(t *testing.T) {
	t.Parallel()
	reached := map[string]bool{}
	for _, r := range rulesOf(t) {
		if r.Alert != "" {
			reached[runbookExists(t, r.Alert, r.Annotations["runbook_url"])] = true
		}
	}
	alerts := terraformAlerts(t)
	index, err := os.ReadFile("runbooks/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range runbooks(t) {
		if !reached[name] && !regexp.MustCompile(`\b`+name+`\b`).MatchString(alerts) {
			t.Errorf("no alert leads to runbooks/%s.md: neither monitoring/rules.yaml nor terraform/alerts*.tf names it", name)
		}
		if !strings.Contains(string(index), "]("+name+".md)") {
			t.Errorf("runbooks/README.md does not list %s.md", name)
		}
	}
}

func terraformAlerts(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("terraform/alerts*.tf")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

// The links of the runbooks lead somewhere.
func TestRunbookLinks(t *testing.T) {
	t.Parallel()
	for _, file := range append(runbooks(t), "README", "../monitoring/README") {
		file = filepath.Join("runbooks", file+".md")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range regexp.MustCompile(`\]\(([^)#]+)`).FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), link[1])); err != nil {
				t.Errorf("%s links to %s: %v", file, link[1], err)
			}
		}
	}
}

// For each reason that a dead letter may have there is something to do.
func TestRunbookOfDeadLettersHasAllReasons(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(readme), "\n| reason | what it means, and what helps |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	reasons := regexp.MustCompile("(?m)^\\| (`[A-Z][A-Za-z]+`) \\|").FindAllStringSubmatch(table, -1)
	runbook, err := os.ReadFile("runbooks/dead-letters.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range reasons {
		if !strings.Contains(string(runbook), reason[1]) {
			t.Errorf("runbooks/dead-letters.md does not say what to do about %s", reason[1])
		}
	}
	if len(reasons) == 0 {
		t.Error("the README has no table of reasons")
	}
}

// Whatever a runbook or an alert tells a person to run is a command of the
// program, with flags and arguments that it takes: its help shows them, and it
// does not call the line wrong (exit code 2). It is run without an environment,
// so that it comes no further than that.
func TestCommandsAreTheProgrammes(t *testing.T) {
	t.Parallel()
	program := program(t, worklistRelay)
	helps, tried := map[string]string{}, map[string]bool{} // many lines stand in more than one place
	for where, lines := range commands(t) {
		for _, line := range lines {
			args := words(line)[1:]
			if tried[strings.Join(args, "\n")] {
				continue
			}
			tried[strings.Join(args, "\n")] = true
			command := leading(args)
			if helps[command] == "" {
				helps[command] = helpOf(t, program, where, command)
			}
			testCommand(t, program, where, line, args, helps[command])
		}
	}
}

// leading are the words before the first flag, or the first thing that is no word.
func leading(args []string) string {
	n := slices.IndexFunc(args, func(arg string) bool { return !regexp.MustCompile(`^[a-z]+$`).MatchString(arg) })
	if n < 0 {
		n = len(args)
	}
	return strings.Join(args[:n], " ")
}

func helpOf(t *testing.T, program, where, command string) string {
	t.Helper()
	help := exec.CommandContext(t.Context(), program, append(strings.Fields(command), "--help")...)
	help.Env = []string{"HOME=" + t.TempDir()}
	text, err := help.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %s --help: %v\n%s", where, command, err, text)
	}
	return string(text)
}

// usageLine has the words of a command that does something, beneath which there
// are no others.
var usageLine = regexp.MustCompile(`(?m)^Usage:\n  ([a-z -]*[a-z])(?: .*)?\n\nFlags:`)

func testCommand(t *testing.T, program, where, line string, args []string, text string) {
	t.Helper()
	// The help of a command that is not there is that of the one above it.
	usage := usageLine.FindStringSubmatch(text)
	if usage == nil || !strings.HasPrefix(line+" ", usage[1]+" ") {
		t.Errorf("%s: %s: there is no such command:\n%s", where, line, text)
	}
	for _, arg := range args {
		flag, _, _ := strings.Cut(arg, "=")
		if strings.HasPrefix(flag, "--") && !regexp.MustCompile(`(?m)`+regexp.QuoteMeta(flag)+`\b`).MatchString(text) {
			t.Errorf("%s: %s: the help does not know %s", where, line, flag)
		}
	}
	if args[0] == "doctor" {
		return // it would look for a network; its flags were looked at
	}
	run := exec.CommandContext(t.Context(), program, args...)
	run.Dir = t.TempDir()
	run.Env = []string{"HOME=" + run.Dir}
	out, err := run.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 2 || err != nil && exit == nil {
		t.Errorf("%s: %s: %v\n%s", where, line, err, out)
	}
}

var (
	codeBlock   = regexp.MustCompile(`(?m)^(?: {4,}.*\n)+`)
	commandLine = regexp.MustCompile(`^(worklist-relay .*)$|--command "/(worklist-relay [^"]*)"`)
	jobArgs     = regexp.MustCompile(`-var '\w+_arguments=(\[[^\]]*\])'`)
	advised     = regexp.MustCompile(`Run first[^:]*: (worklist-relay .*)$`)
)

// commands are all lines that a person is told to run, by where.
func commands(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, name := range append(runbooks(t), "README") {
		file := "runbooks/" + name + ".md"
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range codeBlock.FindAllString(string(text), -1) {
			for line := range strings.Lines(block) {
				if match := commandLine.FindStringSubmatch(strings.TrimSpace(line)); match != nil {
					found[file] = append(found[file], match[1]+match[2])
				}
			}
		}
		if name != "README" && len(found[file]) == 0 {
			t.Errorf("%s has no command to run", file)
		}
	}
	for _, file := range []string{"runbooks/README.md", "README.md"} {
		given := jobArgs.FindAllSubmatch(read(t, file), -1)
		for _, list := range given {
			var args []string
			if err := json.Unmarshal(list[1], &args); err != nil {
				t.Errorf("%s: %s: %v", file, list[1], err)
			}
			for i, arg := range args {
				if strings.Contains(arg, " ") {
					args[i] = "'" + arg + "'"
				}
			}
			found[file] = append(found[file], "worklist-relay "+strings.Join(args, " "))
		}
		if len(given) == 0 {
			t.Errorf("%s gives no job its arguments", file)
		}
	}
	for _, c := range alertCases(t) {
		for _, alert := range c.Expect {
			first := advised.FindStringSubmatch(alert.Annotations["description"])
			if first == nil {
				t.Errorf("%s does not end with what to run first", c.Alert)
				continue
			}
			found[c.Alert] = append(found[c.Alert], first[1])
		}
	}
	return found
}

var (
	word        = regexp.MustCompile(`'[^']*'|"[^"]*"|[^\s'"]+`)
	comment     = regexp.MustCompile(`\s+#.*$`)
	placeholder = strings.NewReplacer("ACTION", "0f0f0f0f-0000-4000-8000-000000000001", "GATEWAY", "hc-leeds", "PROVIDER", "leeds", "REASON", "RetriesExhausted")
)

// words are a command line as a shell takes it apart, without its comment. What
// a person is to fill in is filled in.
func words(line string) (list []string) {
	line = comment.ReplaceAllString(strings.TrimSpace(line), "")
	for _, w := range word.FindAllString(placeholder.Replace(line), -1) {
		list = append(list, strings.Trim(w, `'"`))
	}
	return list
}
