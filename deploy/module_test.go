package deploy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// module is a folder of Terraform, read and evaluated as `terraform plan` would
// for an empty subscription, but without Terraform or a provider. What only
// Azure knows, such as a resource's id, has its own address as its value.
type module struct {
	dir       string
	sources   map[string][]byte // by file name
	variables []variable
	locals    map[string]hcl.Expression
	outputs   []*hclsyntax.Block
	calls     []*hclsyntax.Block // of other modules
	resources []*resource
	values    *hcl.EvalContext
	faults    []string // what Terraform would refuse, or would not understand
}

// variable is a variable's declaration.
type variable struct {
	name     string
	block    *hclsyntax.Block
	typ      cty.Type
	defaults *typeexpr.Defaults // of optional attributes
	value    cty.Value          // DynamicVal where neither a default nor a value was given
}

// resource is a resource or data block, with a value for each of its instances.
type resource struct {
	address   string // azurerm_servicebus_queue.actions, or data.azurerm_client_config.current
	block     *hclsyntax.Block
	schema    block
	instances []cty.Value
	all       cty.Value // what its address stands for: an instance, or a tuple or object of them
}

// loadModule reads the folder and evaluates it with values for some variables.
// The test fails where it cannot be read at all; what is wrong in it is in faults.
func loadModule(t *testing.T, dir string, values map[string]cty.Value) *module {
	t.Helper()
	m := readModule(t, dir, nil)
	m.evaluate(m.give(values))
	return m
}

// readModule reads the folder, with other content for some of its files.
func readModule(t *testing.T, dir string, changed map[string][]byte) *module {
	t.Helper()
	m := &module{dir: dir, sources: map[string][]byte{}, locals: map[string]hcl.Expression{}}
	files, err := filepath.Glob(filepath.Join(dir, "*.tf"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s holds no Terraform: %v", dir, err)
	}
	schemas, err := readSchemas()
	if err != nil {
		t.Fatalf("testdata/azurerm.json: %v", err)
	}
	for _, path := range files {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(path)
		if other, ok := changed[name]; ok {
			source = other
		}
		m.sources[name] = source
		file, diags := parseOnce(source, name)
		m.refuse(diags)
		if body, ok := file.Body.(*hclsyntax.Body); ok {
			for _, b := range body.Blocks {
				m.declare(b, schemas)
			}
		}
	}
	return m
}

// parsed are the files that were read, func() (*hcl.File, hcl.Diagnostics) each, by
// name and content. Nothing that evaluates them changes them.
var parsed sync.Map

func parseOnce(source []byte, name string) (*hcl.File, hcl.Diagnostics) {
	once, _ := parsed.LoadOrStore(name+"\n"+string(source), sync.OnceValues(func() (*hcl.File, hcl.Diagnostics) {
		return hclsyntax.ParseConfig(source, name, hcl.InitialPos)
	}))
	return once.(func() (*hcl.File, hcl.Diagnostics))()
}

func (m *module) refuse(diags hcl.Diagnostics) {
	for _, d := range diags {
		at := ""
		if d.Subject != nil {
			at = fmt.Sprintf("%s:%d: ", d.Subject.Filename, d.Subject.Start.Line)
		}
		if fault := at + d.Summary + ": " + d.Detail; d.Severity == hcl.DiagError && !slices.Contains(m.faults, fault) {
			m.faults = append(m.faults, fault)
		}
	}
}

func (m *module) declare(b *hclsyntax.Block, schemas schemas) {
	switch b.Type {
	case "variable":
		m.variables = append(m.variables, m.variable(b))
	case "locals":
		for name, attribute := range b.Body.Attributes {
			m.locals[name] = attribute.Expr
		}
	case "output":
		m.outputs = append(m.outputs, b)
	case "module":
		m.calls = append(m.calls, b)
	case "resource", "data":
		address, known := b.Labels[0]+"."+b.Labels[1], schemas.Resources
		if b.Type == "data" {
			address, known = "data."+address, schemas.Data
		}
		schema, ok := known[b.Labels[0]]
		if !ok {
			m.faults = append(m.faults, fmt.Sprintf("%s: %s is not in testdata/azurerm.json", b.DefRange(), b.Labels[0]))
			return
		}
		m.resources = append(m.resources, &resource{address: address, block: b, schema: schema, all: cty.DynamicVal})
	case "terraform", "provider":
	default:
		m.faults = append(m.faults, fmt.Sprintf("%s: a block of type %s", b.DefRange(), b.Type))
	}
}

func (m *module) variable(b *hclsyntax.Block) variable {
	v := variable{name: b.Labels[0], block: b, typ: cty.DynamicPseudoType, value: cty.DynamicVal}
	if a := b.Body.Attributes["type"]; a != nil {
		var diags hcl.Diagnostics
		v.typ, v.defaults, diags = typeexpr.TypeConstraintWithDefaults(a.Expr)
		m.refuse(diags)
	}
	if a := b.Body.Attributes["default"]; a != nil {
		value, diags := a.Expr.Value(nil)
		m.refuse(diags)
		m.refuse(v.set(value))
	}
	return v
}

// set gives the variable a value of its type.
func (v *variable) set(value cty.Value) hcl.Diagnostics {
	if v.defaults != nil && !value.IsNull() {
		value = v.defaults.Apply(value)
	}
	value, err := convert.Convert(value, v.typ)
	if err != nil {
		return hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "variable " + v.name, Detail: err.Error()}}
	}
	v.value = value
	return nil
}
