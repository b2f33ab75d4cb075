package project

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
)

// sizeLimit is what a file written by people stays under.
const sizeLimit = 1 << 20

const bom = "\xef\xbb\xbf" // of editors on Windows

// Load reads a file. Everything that is wrong in it is in the error, each on a
// line with file, line, column and key (*Problem, joined).
func Load(path string) (Project, error) {
	data, err := readFile(path)
	if err != nil {
		return Project{}, err
	}
	p, err := Parse(Shown(path), data)
	if err != nil {
		return p, err
	}
	if p.Path, err = filepath.Abs(path); err != nil {
		return p, err
	}
	return p, p.outside(bytes.TrimPrefix(data, []byte(bom)))
}

// readFile reads a file of bounded size.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, sizeLimit+1))
	if err == nil && len(data) > sizeLimit {
		err = errors.New("over 1 MiB: nobody has written that by hand")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Shown(path), err)
	}
	return data, nil
}

// Shown is a path as people write it: from the working directory.
func Shown(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(wd, abs); err == nil && len(rel) < len(path) {
		return rel
	}
	return path
}

// Parse reads the text of a file, which errors call name.
func Parse(name string, data []byte) (Project, error) {
	data = bytes.TrimPrefix(data, []byte(bom))
	p := Project{Path: name}
	r := reader{document: document{file: name, data: data}, places: map[string]int{}}
	top, err := tree(data)
	if err != nil {
		return p, r.syntax(err)
	}
	into := reflect.ValueOf(&p).Elem()
	r.root = names(fields(into.Type()))
	r.table(top, "", into)
	if len(r.problems) == 0 { // what is missing already is not asked twice
		r.check(&p)
	}
	return p, r.err()
}
