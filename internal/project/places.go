package project

import (
	"bytes"
	"fmt"
)

// Place is "FILE:LINE:COLUMN" of a key that the file has, for what only others find
// wrong with it.
func (p Project) Place(key string) string {
	file := Shown(p.Path)
	data, err := readFile(p.Path)
	if at := Places(bytes.TrimPrefix(data, []byte(bom)))[key]; err == nil && at != "" {
		return file + ":" + at
	}
	return file // which somebody has just changed
}

// Places tells where each key of a TOML file stands: "LINE:COLUMN" by its dotted name,
// as webhooks[0].url. It is for other files than lighter.toml, whose decoder says no
// place of a key that it understood.
func Places(data []byte) map[string]string {
	all := map[string]string{}
	for key, at := range offsets(data) {
		line, column := place(data, at)
		all[key] = fmt.Sprintf("%d:%d", line, column)
	}
	return all
}

// offsets are where keys stand, and the items of arrays.
func offsets(data []byte) map[string]int {
	at := map[string]int{}
	if root, err := tree(data); err == nil {
		root.offsets("", at)
	}
	return at
}

func (v *value) offsets(name string, at map[string]int) {
	for _, k := range v.keys {
		full := k.name
		if name != "" {
			full = name + "." + k.name
		}
		at[full] = k.at
		k.value.offsets(full, at)
	}
	for i, item := range v.items {
		full := fmt.Sprintf("%s[%d]", name, i)
		at[full] = item.at
		item.offsets(full, at)
	}
}
