package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/worklist-relay/worklist-relay/relay"
)

// Every phase that package relay has is explained, and no other.
func TestPhasesAreExplained(t *testing.T) {
	t.Parallel()
	known := phasesOfRelay(t)
	if len(known) < 15 {
		t.Fatalf("only found %v", known)
	}
	for _, phase := range known {
		if a := phases[phase]; !isSentence(a.Meaning) || !isSentence(a.Todo) {
			t.Errorf("phase %s is explained as %q", phase, a)
		}
	}
	if len(phases) != len(known) {
		t.Errorf("%d phases are explained, and there are %d", len(phases), len(known))
	}
}

func isSentence(s string) bool {
	return len(s) > 10 && strings.ToUpper(s[:1]) == s[:1] && strings.ContainsAny(s[len(s)-1:], ".?")
}

// phasesOfRelay reads the constants of type Phase out of the package's source.
func phasesOfRelay(t *testing.T) (known []relay.Phase) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../relay/errors.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if named, ok := spec.Type.(*ast.Ident); ok && named.Name == "Phase" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			known = append(known, relay.Phase(text))
		}
		return true
	})
	return known
}
