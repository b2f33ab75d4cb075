package project

import (
	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// kind is what a value is, as far as it matters here.
type kind string

const (
	isString  kind = "a string"
	isInteger kind = "an integer"
	isBool    kind = "true or false"
	isArray   kind = "an array"
	isTable   kind = "a table"
	isOther   kind = "a date or a fraction"
)

// value is one value of a file and where it stands.
type value struct {
	kind  kind
	at    int    // offset in the file
	text  string // of a string; integers and booleans as they are written
	items []*value
	keys  []*key // in the order of the file
}

type key struct {
	name string
	at   int
	*value
}

// get finds a key's value.
func (v *value) get(name string) *value {
	for _, k := range v.keys {
		if k.name == name {
			return k.value
		}
	}
	return nil
}

// child is the table that a name leads to from here, made where it is missing:
// the last one, where the name is an array of tables.
func (v *value) child(name string, at int) *value {
	next := v.get(name)
	if next == nil {
		next = &value{kind: isTable, at: at}
		v.keys = append(v.keys, &key{name, at, next})
	}
	if next.kind == isArray && len(next.items) > 0 {
		return next.items[len(next.items)-1]
	}
	return next
}

// tree reads a whole file. Its error is the parser's.
func tree(data []byte) (*value, error) {
	// Says what is no TOML, and what is there twice.
	if err := toml.Unmarshal(data, &map[string]any{}); err != nil {
		return nil, err
	}
	root := &value{kind: isTable}
	table := root
	var p unstable.Parser
	p.Reset(data)
	for p.NextExpression() {
		e := p.Expression()
		parents, last, at := dotted(e)
		switch e.Kind {
		case unstable.KeyValue:
			table.descend(parents).set(last, at, read(e.Value(), at))
		case unstable.Table:
			table = root.descend(parents).child(last, at)
		case unstable.ArrayTable:
			in := root.descend(parents)
			list := in.get(last)
			if list == nil {
				list = &value{kind: isArray, at: at}
				in.set(last, at, list)
			}
			table = &value{kind: isTable, at: at}
			list.items = append(list.items, table)
		}
	}
	return root, p.Error()
}

// step is one part of a dotted key.
type step struct {
	name string
	at   int
}

// dotted is the key of an expression: its parents, its name, and where
// that stands.
func dotted(e *unstable.Node) (parents []step, last string, at int) {
	for it := e.Key(); it.Next(); {
		parents = append(parents, step{string(it.Node().Data), int(it.Node().Raw.Offset)})
	}
	end := parents[len(parents)-1]
	return parents[:len(parents)-1], end.name, end.at
}

func (v *value) descend(parents []step) *value {
	for _, p := range parents {
		v = v.child(p.name, p.at)
	}
	return v
}

func (v *value) set(name string, at int, to *value) {
	v.keys = append(v.keys, &key{name, at, to})
}

// read is the value of a node. The parser knows no place of an array: that is
// where its key or the array around it stands.
func read(n *unstable.Node, around int) *value {
	v := &value{at: around, text: string(n.Data)}
	if n.Raw.Length > 0 {
		v.at = int(n.Raw.Offset)
	}
	switch n.Kind {
	case unstable.String:
		v.kind = isString
	case unstable.Integer:
		v.kind = isInteger
	case unstable.Bool:
		v.kind = isBool
	case unstable.Array:
		v.kind = isArray
		for it := n.Children(); it.Next(); {
			v.items = append(v.items, read(it.Node(), v.at))
		}
	case unstable.InlineTable:
		v.kind = isTable
		for it := n.Children(); it.Next(); {
			parents, last, at := dotted(it.Node())
			v.descend(parents).set(last, at, read(it.Node().Value(), at))
		}
	default:
		v.kind = isOther
	}
	return v
}
