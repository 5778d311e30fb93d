package deploy_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/dynblock"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/zclconf/go-cty/cty"
)

// give sets the variables that values has, and returns what each is then.
func (m *module) give(values map[string]cty.Value) map[string]cty.Value {
	inputs := map[string]cty.Value{}
	for i := range m.variables {
		v := &m.variables[i]
		if value, given := values[v.name]; given {
			m.refuse(v.set(value))
		}
		inputs[v.name] = v.value
	}
	return inputs
}

// evaluate goes round until what depends on what has its value.
func (m *module) evaluate(inputs map[string]cty.Value) {
	faults := m.faults
	locals := map[string]cty.Value{}
	for name := range m.locals {
		locals[name] = cty.DynamicVal
	}
	for range 5 { // the longest chain of locals and resources is shorter
		m.faults = slices.Clone(faults) // only what is still wrong with all values there
		m.values = &hcl.EvalContext{Functions: functions, Variables: m.scope(inputs, locals)}
		for name, expression := range m.locals {
			value, diags := expression.Value(m.values)
			m.refuse(diags)
			locals[name] = value
		}
		for _, r := range m.resources {
			m.instantiate(r)
		}
	}
	for _, b := range m.outputs {
		_, diags := b.Body.Attributes["value"].Expr.Value(m.values)
		m.refuse(diags)
	}
}

// scope is what expressions may name.
func (m *module) scope(inputs, locals map[string]cty.Value) map[string]cty.Value {
	scope := map[string]cty.Value{"var": cty.ObjectVal(inputs), "local": cty.ObjectVal(locals)}
	types := map[string]map[string]cty.Value{}
	data := map[string]map[string]cty.Value{}
	for _, r := range m.resources {
		into := types
		if r.block.Type == "data" {
			into = data
		}
		if into[r.block.Labels[0]] == nil {
			into[r.block.Labels[0]] = map[string]cty.Value{}
		}
		into[r.block.Labels[0]][r.block.Labels[1]] = r.all
	}
	for name, ones := range types {
		scope[name] = cty.ObjectVal(ones)
	}
	ones := map[string]cty.Value{}
	for name, one := range data {
		ones[name] = cty.ObjectVal(one)
	}
	scope["data"] = cty.ObjectVal(ones)
	calls := map[string]cty.Value{}
	for _, b := range m.calls {
		calls[b.Labels[0]] = cty.DynamicVal
	}
	scope["module"] = cty.ObjectVal(calls)
	return scope
}

// meta are the arguments and blocks that Terraform itself reads.
var meta = &hcl.BodySchema{
	Attributes: []hcl.AttributeSchema{{Name: "count"}, {Name: "for_each"}, {Name: "depends_on"}},
	Blocks:     []hcl.BlockHeaderSchema{{Type: "lifecycle"}},
}

func (m *module) instantiate(r *resource) {
	content, rest, diags := r.block.Body.PartialContent(meta)
	m.refuse(diags)
	r.instances = nil
	value := func(name string) cty.Value {
		v, diags := content.Attributes[name].Expr.Value(m.values)
		m.refuse(diags)
		return v
	}
	switch {
	case content.Attributes["count"] != nil:
		for i := range asInt(value("count")) {
			r.instances = append(r.instances, m.decode(r, rest, fmt.Sprintf("%s[%d]", r.address, i), nil))
		}
		r.all = cty.TupleVal(r.instances)
	case content.Attributes["for_each"] != nil:
		ones := map[string]cty.Value{}
		if each := value("for_each"); each.IsKnown() && each.CanIterateElements() {
			for it := each.ElementIterator(); it.Next(); {
				key, one := it.Element()
				decoded := m.decode(r, rest, fmt.Sprintf("%s[%q]", r.address, asString(key)), map[string]cty.Value{"key": key, "value": one})
				ones[asString(key)] = decoded
				r.instances = append(r.instances, decoded)
			}
		}
		r.all = cty.ObjectVal(ones)
	default:
		r.all = m.decode(r, rest, r.address, nil)
		r.instances = []cty.Value{r.all}
	}
	if d := content.Attributes["depends_on"]; d != nil {
		ones, diags := hcl.ExprList(d.Expr)
		m.refuse(diags)
		for _, one := range ones {
			traversal, diags := hcl.AbsTraversalForExpr(one)
			m.refuse(diags)
			m.refuse(second(traversal.TraverseAbs(m.values)))
		}
	}
}

// decode is one instance. Of its attributes, those that only Azure knows are their own addresses.
func (m *module) decode(r *resource, body hcl.Body, address string, each map[string]cty.Value) cty.Value {
	values := m.values
	if each != nil {
		values = m.values.NewChild()
		values.Variables = map[string]cty.Value{"each": cty.ObjectVal(each)}
	}
	value, diags := hcldec.Decode(dynblock.Expand(body, values), r.schema.spec, values)
	m.refuse(diags)
	if !value.IsKnown() || value.IsNull() {
		return cty.DynamicVal
	}
	attributes := map[string]cty.Value{}
	maps.Copy(attributes, value.AsValueMap())
	for name, text := range r.schema.Arguments {
		if strings.HasSuffix(text, " computed") {
			attributes[name] = cty.StringVal(address + "." + name)
		}
	}
	return cty.ObjectVal(attributes)
}

func second[A, B any](_ A, b B) B { return b }
