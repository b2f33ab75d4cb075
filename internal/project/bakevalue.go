package project

import (
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// scope is what expressions of bake files may name.
type scope struct {
	context   *hcl.EvalContext
	exprs     map[string]hcl.Expression // of variables and of the file's own attributes
	variables map[string]bool           // those that the environment may set
	lookup    func(string) (string, bool)
}

func newScope(lookup func(string) (string, bool)) *scope {
	return &scope{
		context: &hcl.EvalContext{Functions: bakeFunctions(), Variables: map[string]cty.Value{
			"BAKE_LOCAL_PLATFORM": cty.StringVal("linux/" + runtime.GOARCH),
			"BAKE_CMD_CONTEXT":    cty.StringVal("cwd://"),
		}},
		exprs: map[string]hcl.Expression{}, variables: map[string]bool{}, lookup: lookup,
	}
}

// resolveAll evaluates every variable, those first that others need.
func (s *scope) resolveAll() hcl.Diagnostics {
	for _, name := range slices.Sorted(maps.Keys(s.exprs)) {
		if diags := s.resolve(name, nil); diags.HasErrors() {
			return diags
		}
	}
	return nil
}

func (s *scope) resolve(name string, needing []string) hcl.Diagnostics {
	expr, ours := s.exprs[name]
	if _, done := s.context.Variables[name]; done || !ours {
		return nil // or HCL will say that it does not know it
	}
	if slices.Contains(needing, name) {
		return complaint(expr.Range(), name+" needs itself")
	}
	for _, v := range expr.Variables() {
		if diags := s.resolve(v.RootName(), append(needing, name)); diags.HasErrors() {
			return diags
		}
	}
	value, diags := expr.Value(s.context)
	if diags.HasErrors() {
		return diags
	}
	if text, set := s.lookup(name); set && s.variables[name] {
		given, err := convert.Convert(cty.StringVal(text), value.Type())
		if err != nil {
			return complaint(expr.Range(), fmt.Sprintf("the environment says %s=%.40q: want %s", name, text, value.Type().FriendlyName()))
		}
		value = given
	}
	s.context.Variables[name] = value
	return nil
}

// combine makes a context for each combination of a matrix; without one, there
// is the one around it.
func combine(ctx *hcl.EvalContext, matrix *hcl.Attribute) ([]*hcl.EvalContext, hcl.Diagnostics) {
	if matrix == nil {
		return []*hcl.EvalContext{ctx}, nil
	}
	axes, diags := matrix.Expr.Value(ctx)
	if diags.HasErrors() {
		return nil, diags
	}
	if !axes.IsWhollyKnown() || axes.IsNull() || !axes.CanIterateElements() || !(axes.Type().IsObjectType() || axes.Type().IsMapType()) {
		return nil, complaint(matrix.Range, "want matrix = { AXIS = [VALUE, …] }")
	}
	all := []map[string]cty.Value{{}}
	for it := axes.ElementIterator(); it.Next(); {
		axis, values := it.Element()
		if values.IsNull() || !values.CanIterateElements() || values.LengthInt() == 0 {
			return nil, complaint(matrix.Range, axis.AsString()+": want an array of values")
		}
		var next []map[string]cty.Value
		for _, before := range all {
			for in := values.ElementIterator(); in.Next(); {
				_, value := in.Element()
				with := maps.Clone(before)
				with[axis.AsString()] = value
				next = append(next, with)
			}
		}
		if all = next; len(all) > combinationsMost {
			return nil, complaint(matrix.Range, fmt.Sprintf("over %d combinations", combinationsMost))
		}
	}
	var contexts []*hcl.EvalContext
	for _, variables := range all {
		child := ctx.NewChild()
		child.Variables = variables
		contexts = append(contexts, child)
	}
	return contexts, nil
}

// evaluate reads an attribute.
func evaluate(ctx *hcl.EvalContext, a *hcl.Attribute, read func(cty.Value) ([]string, error)) ([]string, hcl.Diagnostics) {
	value, diags := a.Expr.Value(ctx)
	if diags.HasErrors() || value.IsNull() {
		return nil, diags
	}
	if !value.IsWhollyKnown() {
		return nil, complaint(a.Expr.Range(), a.Name+": nobody knows its value")
	}
	values, err := read(value)
	if err != nil {
		return nil, complaint(a.Expr.Range(), a.Name+": "+err.Error())
	}
	return values, nil
}

// bakeText reads a string, a number or a boolean.
func bakeText(v cty.Value) ([]string, error) {
	text, err := convert.Convert(v, cty.String)
	if err != nil || text.IsNull() {
		return nil, fmt.Errorf("want a string, not %s", v.Type().FriendlyName())
	}
	return []string{text.AsString()}, nil
}

// bakeList reads an array, of strings or of objects: {type = "registry", ref =
// "…"} is "type=registry,ref=…".
func bakeList(v cty.Value) ([]string, error) {
	if t := v.Type(); !t.IsTupleType() && !t.IsListType() && !t.IsSetType() {
		return nil, fmt.Errorf("want an array, not %s", t.FriendlyName())
	}
	var all []string
	for it := v.ElementIterator(); it.Next(); {
		_, item := it.Element()
		if item.IsNull() {
			continue
		}
		one, err := bakeText(item)
		if t := item.Type(); t.IsObjectType() || t.IsMapType() {
			if one, err = bakeTable(item); err == nil {
				one, err = record(one)
			}
		}
		if err != nil {
			return nil, err
		}
		all = append(all, one...)
	}
	return all, nil
}

// bakeTable reads an object as KEY=VALUE. What is null is not said.
func bakeTable(v cty.Value) ([]string, error) {
	if t := v.Type(); !t.IsObjectType() && !t.IsMapType() {
		return nil, fmt.Errorf("want a table, not %s", t.FriendlyName())
	}
	var all []string
	for it := v.ElementIterator(); it.Next(); {
		key, item := it.Element()
		if item.IsNull() {
			continue
		}
		text, err := bakeText(item)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key.AsString(), err)
		}
		all = append(all, key.AsString()+"="+text[0])
	}
	return all, nil
}

// record is one line of CSV.
func record(fields []string) ([]string, error) {
	var line strings.Builder
	w := csv.NewWriter(&line)
	if err := w.Write(fields); err != nil {
		return nil, err
	}
	w.Flush()
	return []string{strings.TrimSuffix(line.String(), "\n")}, w.Error()
}

// bakeFunctions are those of bake's standard library that say the same on every
// run: no time, no random numbers, no hashes of files.
func bakeFunctions() map[string]function.Function {
	return map[string]function.Function{
		"absolute": stdlib.AbsoluteFunc, "add": stdlib.AddFunc, "and": stdlib.AndFunc, "byteslen": stdlib.BytesLenFunc,
		"ceil": stdlib.CeilFunc, "chomp": stdlib.ChompFunc, "chunklist": stdlib.ChunklistFunc, "coalesce": stdlib.CoalesceFunc,
		"coalescelist": stdlib.CoalesceListFunc, "compact": stdlib.CompactFunc, "concat": stdlib.ConcatFunc, "contains": stdlib.ContainsFunc,
		"distinct": stdlib.DistinctFunc, "divide": stdlib.DivideFunc, "element": stdlib.ElementFunc, "equal": stdlib.EqualFunc,
		"flatten": stdlib.FlattenFunc, "floor": stdlib.FloorFunc, "format": stdlib.FormatFunc, "formatdate": stdlib.FormatDateFunc,
		"formatlist": stdlib.FormatListFunc, "greaterthan": stdlib.GreaterThanFunc, "greaterthanorequalto": stdlib.GreaterThanOrEqualToFunc,
		"hasindex": stdlib.HasIndexFunc, "indent": stdlib.IndentFunc, "index": stdlib.IndexFunc, "int": stdlib.IntFunc, "join": stdlib.JoinFunc,
		"jsondecode": stdlib.JSONDecodeFunc, "jsonencode": stdlib.JSONEncodeFunc, "keys": stdlib.KeysFunc, "length": stdlib.LengthFunc,
		"lessthan": stdlib.LessThanFunc, "lessthanorequalto": stdlib.LessThanOrEqualToFunc, "lookup": stdlib.LookupFunc, "lower": stdlib.LowerFunc,
		"max": stdlib.MaxFunc, "merge": stdlib.MergeFunc, "min": stdlib.MinFunc, "modulo": stdlib.ModuloFunc, "multiply": stdlib.MultiplyFunc,
		"negate": stdlib.NegateFunc, "not": stdlib.NotFunc, "notequal": stdlib.NotEqualFunc, "or": stdlib.OrFunc, "parseint": stdlib.ParseIntFunc,
		"range": stdlib.RangeFunc, "regex": stdlib.RegexFunc, "regex_replace": stdlib.RegexReplaceFunc, "regexall": stdlib.RegexAllFunc,
		"replace": stdlib.ReplaceFunc, "reverse": stdlib.ReverseFunc, "reverselist": stdlib.ReverseListFunc, "sanitize": sanitize(),
		"setproduct": stdlib.SetProductFunc, "slice": stdlib.SliceFunc, "sort": stdlib.SortFunc, "split": stdlib.SplitFunc, "strlen": stdlib.StrlenFunc,
		"substr": stdlib.SubstrFunc, "subtract": stdlib.SubtractFunc, "title": stdlib.TitleFunc, "trim": stdlib.TrimFunc,
		"trimprefix": stdlib.TrimPrefixFunc, "trimspace": stdlib.TrimSpaceFunc, "trimsuffix": stdlib.TrimSuffixFunc, "upper": stdlib.UpperFunc,
		"values": stdlib.ValuesFunc, "zipmap": stdlib.ZipmapFunc,
	}
}

// sanitize makes a name for a target out of any text, as bake's does.
func sanitize() function.Function {
	other := regexp.MustCompile(`[^a-zA-Z0-9_-]+`)
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "name", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if !args[0].IsKnown() {
				return cty.NilVal, errors.New("nobody knows the name")
			}
			return cty.StringVal(other.ReplaceAllString(args[0].AsString(), "_")), nil
		},
	})
}
