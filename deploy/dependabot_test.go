package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Dependabot ignores a folder where it finds nothing to do in silence.
func TestDependabot(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../.github/dependabot.yml")
	if err != nil {
		t.Fatal(err)
	}
	manifests := map[string]string{
		"gomod": "go.mod", "github-actions": ".github/workflows/*.yml", "docker": "Dockerfile", "terraform": "*.tf", "npm": "package.json",
	}
	entry := regexp.MustCompile(`package-ecosystem: (\S+)\n    director(?:y|ies): \[?([^]\n]+)`)
	for _, found := range entry.FindAllStringSubmatch(string(text), -1) {
		manifest, known := manifests[found[1]]
		if !known {
			t.Errorf("%s is not known, or there twice", found[1])
		}
		delete(manifests, found[1])
		for folder := range strings.SplitSeq(found[2], ", ") {
			if files, err := filepath.Glob(filepath.Join("..", folder, manifest)); err != nil || len(files) == 0 {
				t.Errorf("%s: no %s in %s: %v", found[1], manifest, folder, err)
			}
		}
	}
	for ecosystem := range manifests {
		t.Errorf("%s is not kept up to date", ecosystem)
	}
}
