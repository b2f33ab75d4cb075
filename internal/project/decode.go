package project

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// reader fills Go values from a tree, by their tags, and remembers where what
// it read stands.
type reader struct {
	document
	places map[string]int // offset of a key's value, by its path
	root   []string       // keys of the whole file
}

// short is a type that may be written as one string in the file.
type short interface{ short(s string) }

// field is one key of a table.
type field struct {
	index    int
	name, is string
	help     string
	required bool
}

// fields are the keys that a struct stands for.
func fields(t reflect.Type) []field {
	var all []field
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		name, flag, _ := strings.Cut(tag.Get("toml"), ",")
		if name != "-" {
			all = append(all, field{i, name, tag.Get("is"), tag.Get("help"), flag == "required"})
		}
	}
	return all
}

func names(of []field) []string {
	var all []string
	for _, f := range of {
		all = append(all, f.name)
	}
	return all
}

// table fills a struct. path is what the keys are said to be in: "" or
// "variants.slim".
func (r *reader) table(v *value, path string, into reflect.Value) {
	known := fields(into.Type())
	for _, k := range v.keys {
		i := slices.IndexFunc(known, func(f field) bool { return f.name == k.name })
		if i < 0 {
			r.unknown(k, path, names(known))
			continue
		}
		r.value(k.value, join(path, k.name), known[i].is, into.Field(known[i].index))
	}
	for _, f := range known {
		if f.required && v.get(f.name) == nil {
			r.problem(v.at, join(path, f.name), "missing; want %s", shapes[f.is].want)
		}
	}
}

// unknown names the key that may have been meant, or the mistake that TOML
// makes easy: a key of the file below the header of a table.
func (r *reader) unknown(k *key, path string, known []string) {
	if path != "" && slices.Contains(r.root, k.name) && !slices.Contains(known, k.name) {
		r.problem(k.at, join(path, k.name), "%s", misplaced(k.name, path))
		return
	}
	r.problem(k.at, join(path, k.name), "unknown key; %s", didYouMean(k.name, known))
}

func misplaced(name, path string) string {
	return fmt.Sprintf("%s is a key of the file, not of %s: write it above the first [table]", name, path)
}

// value fills whatever a field is.
func (r *reader) value(v *value, path, is string, into reflect.Value) {
	r.places[path] = v.at
	if s, ok := into.Addr().Interface().(short); ok && v.kind == isString {
		if r.fits(v, path, is) {
			s.short(v.text)
		}
		return
	}
	switch into.Kind() {
	case reflect.String:
		if r.fits(v, path, is) {
			into.SetString(v.text)
		}
	case reflect.Bool:
		if r.want(v, path, isBool, string(isBool)) {
			into.SetBool(v.text == "true")
		}
	case reflect.Slice:
		r.list(v, path, is, into)
	case reflect.Map:
		r.named(v, path, is, into)
	case reflect.Struct:
		wanted := "a table"
		if _, ok := into.Addr().Interface().(short); ok {
			wanted = shapes[is].want + ", or a table"
		}
		if r.want(v, path, isTable, wanted) {
			r.table(v, path, into)
		}
	}
}

// list fills a slice, of strings or of tables.
func (r *reader) list(v *value, path, is string, into reflect.Value) {
	item := into.Type().Elem()
	wanted := "an array of tables, each below [[" + path + "]]"
	switch {
	case into.Addr().Type().Implements(reflect.TypeFor[short]()):
		wanted = shapes[is].want
	case item.Kind() == reflect.String && is != "":
		wanted = "an array, each of it " + shapes[is].want
	case item.Kind() == reflect.String:
		wanted = "an array of strings"
	}
	if !r.want(v, path, isArray, wanted) {
		return
	}
	if into.Addr().Type().Implements(reflect.TypeFor[short]()) {
		is = "" // which is about all of it as one string
		if len(v.items) == 0 || v.items[0].kind == isString && v.items[0].text == "" {
			r.problem(v.at, path, "empty; want %s", wanted)
		}
	}
	into.Set(reflect.MakeSlice(into.Type(), 0, len(v.items))) // an empty list is said, too
	seen := map[string]bool{}
	for i, item := range v.items {
		at, one := fmt.Sprintf("%s[%d]", path, i), reflect.New(into.Type().Elem()).Elem()
		r.value(item, at, is, one)
		into.Set(reflect.Append(into, one))
		if shapes[is].once && seen[item.text] {
			r.problem(item.at, at, "%q is there twice", item.text)
		}
		seen[item.text] = true
	}
}

// named fills a map: a table whose keys the user names.
func (r *reader) named(v *value, path, is string, into reflect.Value) {
	if !r.want(v, path, isTable, "a table") {
		return
	}
	into.Set(reflect.MakeMap(into.Type()))
	element := into.Type().Elem()
	for _, k := range v.keys {
		switch {
		case k.name == "" || strings.ContainsFunc(k.name, func(c rune) bool { return c < ' ' || c == '=' }):
			r.problem(k.at, join(path, k.name), "want a name for the key")
			continue
		case element.Kind() == reflect.String && k.kind != isString && slices.Contains(r.root, k.name):
			r.problem(k.at, join(path, k.name), "want a string, not %s; %s", k.kind, misplaced(k.name, path))
			continue
		}
		one := reflect.New(element).Elem()
		r.value(k.value, join(path, k.name), is, one)
		r.places[join(path, k.name)] = k.at // where the name is
		into.SetMapIndex(reflect.ValueOf(k.name), one)
	}
}

// want notes a value of a wrong kind.
func (r *reader) want(v *value, path string, kind kind, wanted string) bool {
	if v.kind != kind {
		r.problem(v.at, path, "want %s, not %s", wanted, v.kind)
		return false
	}
	return true
}

// fits notes a string that is not of its shape.
func (r *reader) fits(v *value, path, is string) bool {
	s := shapes[is]
	if v.kind == isInteger && s.number {
		v.text = strings.ReplaceAll(v.text, "_", "")
	} else if v.kind != isString {
		wanted := "a string"
		if s.want != "" {
			wanted = s.want
		}
		r.problem(v.at, path, "want %s, not %s", wanted, v.kind)
		return false
	}
	if why := s.wrong(v.text); why != "" {
		r.problem(v.at, path, "%s", why)
		return false
	}
	return true
}

// join is the path of a key in a table.
func join(path, name string) string {
	if strings.ContainsFunc(name, func(c rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", c)
	}) || name == "" {
		name = fmt.Sprintf("%q", name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}
