package deploy_test

import (
	"encoding/json"
	"os"
	"strings"
	"sync"

	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// schemas is testdata/azurerm.json: the part of the provider's schema that the
// Terraform here uses.
type schemas struct {
	Provider  string
	Version   string
	Resources map[string]block
	Data      map[string]block
}

// block is a resource, or a block in one.
type block struct {
	Min, Max  int               // how often; Max 0: no limit
	Arguments map[string]string // TYPE, `TYPE required`, or `TYPE computed`, which is read and never set
	Blocks    map[string]block

	spec hcldec.ObjectSpec // how a body of this block is read, and with that what it may hold
}

var readSchemas = sync.OnceValues(func() (s schemas, err error) {
	text, err := os.ReadFile("testdata/azurerm.json")
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	specify(s.Resources)
	specify(s.Data)
	return s, err
})

// specify gives blocks their spec.
func specify(blocks map[string]block) {
	for name, b := range blocks {
		specify(b.Blocks)
		b.spec = hcldec.ObjectSpec{}
		for name, text := range b.Arguments {
			typ, word, _ := strings.Cut(text, " ")
			if word != "computed" {
				b.spec[name] = &hcldec.AttrSpec{Name: name, Type: typeNamed(typ), Required: word == "required"}
			}
		}
		for name, nested := range b.Blocks {
			b.spec[name] = &hcldec.BlockListSpec{TypeName: name, Nested: nested.spec, MinItems: nested.Min, MaxItems: nested.Max}
		}
		blocks[name] = b
	}
}

func typeNamed(name string) cty.Type {
	if of, ok := strings.CutPrefix(name, "list("); ok {
		return cty.List(typeNamed(strings.TrimSuffix(of, ")")))
	}
	if of, ok := strings.CutPrefix(name, "set("); ok {
		return cty.Set(typeNamed(strings.TrimSuffix(of, ")")))
	}
	if of, ok := strings.CutPrefix(name, "map("); ok {
		return cty.Map(typeNamed(strings.TrimSuffix(of, ")")))
	}
	typ, ok := map[string]cty.Type{"string": cty.String, "number": cty.Number, "bool": cty.Bool}[name]
	if !ok {
		panic("testdata/azurerm.json: no type " + name)
	}
	return typ
}

// functions are those of Terraform that are used here.
var functions = map[string]function.Function{
	"alltrue": ofList(func(all []cty.Value) cty.Value {
		for _, one := range all {
			if one.IsKnown() && one.False() {
				return cty.False
			}
		}
		return cty.True
	}, cty.Bool),
	"basename": ofText(cty.String, func(s ...string) cty.Value { return cty.StringVal(s[0][strings.LastIndexByte(s[0], '/')+1:]) }, 1),
	"can":      tryfunc.CanFunc,
	"concat":   stdlib.ConcatFunc,
	"contains": stdlib.ContainsFunc,
	"endswith": ofText(cty.Bool, func(s ...string) cty.Value { return cty.BoolVal(strings.HasSuffix(s[0], s[1])) }, 2),
	"floor":    stdlib.FloorFunc,
	"join":     stdlib.JoinFunc,
	"keys":     stdlib.KeysFunc,
	"length":   stdlib.LengthFunc,
	"lower":    stdlib.LowerFunc,
	"merge":    stdlib.MergeFunc,
	"one": ofList(func(all []cty.Value) cty.Value {
		if len(all) == 1 {
			return all[0]
		}
		return cty.NullVal(cty.DynamicPseudoType)
	}, cty.DynamicPseudoType),
	"regex":       stdlib.RegexFunc,
	"replace":     stdlib.ReplaceFunc,
	"setsubtract": stdlib.SetSubtractFunc,
	"split":       stdlib.SplitFunc,
	"startswith":  ofText(cty.Bool, func(s ...string) cty.Value { return cty.BoolVal(strings.HasPrefix(s[0], s[1])) }, 2),
	"strcontains": ofText(cty.Bool, func(s ...string) cty.Value { return cty.BoolVal(strings.Contains(s[0], s[1])) }, 2),
	"tonumber":    stdlib.MakeToFunc(cty.Number),
	"tostring":    stdlib.MakeToFunc(cty.String),
	"try":         tryfunc.TryFunc,
	"values":      stdlib.ValuesFunc,
}

func ofText(result cty.Type, f func(...string) cty.Value, count int) function.Function {
	parameters := make([]function.Parameter, count)
	for i := range parameters {
		parameters[i] = function.Parameter{Name: "text", Type: cty.String}
	}
	return function.New(&function.Spec{Params: parameters, Type: function.StaticReturnType(result), Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		texts := make([]string, len(args))
		for i, arg := range args {
			texts[i] = arg.AsString()
		}
		return f(texts...), nil
	}})
}

func ofList(f func([]cty.Value) cty.Value, result cty.Type) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "list", Type: cty.DynamicPseudoType}},
		Type:   function.StaticReturnType(result),
		Impl:   func(args []cty.Value, _ cty.Type) (cty.Value, error) { return f(args[0].AsValueSlice()), nil },
	})
}

// asString, asInt and asBool read what was decoded; what is not known or not given is zero.
func asString(v cty.Value) string {
	if !v.IsKnown() || v.IsNull() || v.Type() != cty.String {
		return ""
	}
	return v.AsString()
}

func asInt(v cty.Value) int {
	if !v.IsKnown() || v.IsNull() || v.Type() != cty.Number {
		return 0
	}
	i, _ := v.AsBigFloat().Int64()
	return int(i)
}

func asBool(v cty.Value) bool {
	return v.IsKnown() && !v.IsNull() && v.Type() == cty.Bool && v.True()
}

// at goes down into an instance: names of arguments and blocks, and numbers of blocks. DynamicVal: it is not there.
func at(v cty.Value, path ...any) cty.Value {
	for _, step := range path {
		if !v.IsKnown() || v.IsNull() {
			return cty.DynamicVal
		}
		switch step := step.(type) {
		case string:
			if !v.Type().IsObjectType() || !v.Type().HasAttribute(step) {
				return cty.DynamicVal
			}
			v = v.GetAttr(step)
		case int:
			if all := elements(v); step < len(all) {
				v = all[step]
			} else {
				return cty.DynamicVal
			}
		}
	}
	return v
}

func elements(v cty.Value) []cty.Value {
	if !v.IsKnown() || v.IsNull() || !v.CanIterateElements() {
		return nil
	}
	return v.AsValueSlice()
}
