package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	usesLine   = regexp.MustCompile(`(?m)^\s*(?:- )?uses:\s*(\S+)(.*)$`)
	pinned     = regexp.MustCompile(`^[\w./-]+@[0-9a-f]{40}$`)
	versionOf  = regexp.MustCompile(`^ # v\d+\.\d+\.\d+$`)
	permission = regexp.MustCompile(`(?m)^permissions:(?: \{\}|\n  contents: read)\n(?:\S|$)`)
)

// What a workflow runs cannot be changed under it by moving a tag, and a job has
// no rights that it does not name.
func TestWorkflows(t *testing.T) {
	t.Parallel()
	const folder = "../.github/workflows"
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no workflows in %s: %v", folder, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, uses := range usesLine.FindAllStringSubmatch(string(text), -1) {
			if ours := strings.HasPrefix(uses[1], "./"); !ours && (!pinned.MatchString(uses[1]) || !versionOf.MatchString(uses[2])) {
				t.Errorf("%s: %q is not pinned to a commit, with its version as a comment", file, strings.TrimSpace(uses[0]))
			}
		}
		if !permission.Match(text) {
			t.Errorf("%s: its own permissions are not {} or contents: read", file)
		}
	}
}
