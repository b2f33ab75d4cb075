package project

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Write puts another number where the version stands, and into the lock file
// beside it, which would not fit any more. Nothing else in the files changes.
// It answers which files it wrote, from the project's directory: none where git
// has the version, as a tag to be made.
//
// All contents are made before the first file is touched; each is replaced whole.
// Files that have the next number already are left alone, so that a Write that
// was killed between two is completed by the same again.
func (v Version) Write(next string) ([]string, error) {
	if _, err := checkVersion(next, next); err != nil {
		return nil, err
	}
	if v.File == "" {
		return nil, nil
	}
	var edits []edit
	path := filepath.Join(v.p.Dir(), v.File)
	add := func(path string, change func([]byte) ([]byte, error)) error {
		old, err := readFile(path)
		if err != nil {
			return fmt.Errorf("version: %w", err)
		}
		data, err := change(old)
		if err != nil {
			return fmt.Errorf("version: %s: %w", Shown(path), err)
		}
		if !bytes.Equal(old, data) {
			edits = append(edits, edit{path, data})
		}
		return nil
	}
	if lock, change := v.lock(next); lock != "" { // first: the version is there when all is
		if err := add(lock, change); err != nil {
			return nil, err
		}
	}
	if err := add(path, func(b []byte) ([]byte, error) { return v.in(b, next) }); err != nil {
		return nil, err
	}
	var written []string
	for _, e := range edits {
		if err := e.write(); err != nil {
			return written, fmt.Errorf("version: %w", err)
		}
		rel, err := filepath.Rel(v.p.Dir(), e.path)
		if err != nil {
			rel = e.path
		}
		written = append(written, rel)
	}
	return written, nil
}

// in is the content of the version's file with the next number.
func (v Version) in(data []byte, next string) ([]byte, error) {
	paths, isManifest := manifests[filepath.Base(v.File)]
	switch {
	case v.p.Path != "" && filepath.Base(v.p.Path) == v.File:
		paths = [][]string{{"version"}}
	case !isManifest && strings.TrimPrefix(strings.TrimSpace(string(data)), "v") == next:
		return data, nil
	case !isManifest:
		return bytes.Replace(data, []byte(v.Number), []byte(next), 1), nil
	case strings.HasSuffix(v.File, ".json"):
		return inJSON(data, paths[0], v.Number, next)
	}
	root, err := tree(data)
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		at := root
		for _, name := range path {
			if at != nil {
				at = at.get(name)
			}
		}
		if at != nil && at.kind == isString {
			return inTOML(data, at, v.Number, next)
		}
	}
	return nil, errNoVersion
}

// inTOML replaces a number in the string at a value.
func inTOML(data []byte, at *value, number, next string) ([]byte, error) {
	if strings.TrimPrefix(at.text, "v") == next {
		return data, nil
	}
	line, _, _ := bytes.Cut(data[at.at:], []byte("\n"))
	i := bytes.Index(line, []byte(number))
	if i < 0 {
		return nil, fmt.Errorf("%q is not written out there: write it as one plain string", number)
	}
	i += at.at
	return slices.Concat(data[:i], []byte(next), data[i+len(number):]), nil
}

// inJSON replaces a number in the string that keys lead to.
func inJSON(data []byte, path []string, number, next string) ([]byte, error) {
	if !json.Valid(data) {
		return nil, errors.New("it is no JSON")
	}
	end, err := find(json.NewDecoder(bytes.NewReader(data)), path)
	if err != nil {
		return nil, err
	}
	if bytes.HasSuffix(data[:end], []byte(`"`+next+`"`)) || bytes.HasSuffix(data[:end], []byte(`"v`+next+`"`)) {
		return data, nil
	}
	start := bytes.LastIndex(data[:end], []byte(number))
	if start < 0 || end-start > len(number)+1 { // "…number"
		return nil, fmt.Errorf("%q is not written out there: write it as one plain string", number)
	}
	return slices.Concat(data[:start], []byte(next), data[start+len(number):]), nil
}

// find reads up to the value that keys lead to, and answers where it ends.
func find(d *json.Decoder, path []string) (end int, err error) {
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return 0, errors.Join(err, errNoVersion)
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return 0, err
		}
		if key != path[0] {
			var skipped json.RawMessage
			if err := d.Decode(&skipped); err != nil {
				return 0, err
			}
			continue
		}
		if len(path) > 1 {
			return find(d, path[1:])
		}
		if _, err := d.Token(); err != nil {
			return 0, err
		}
		return int(d.InputOffset()), nil
	}
	return 0, errNoVersion
}

// lock is the lock file that has the version, too, and how it changes; "" where
// there is none.
func (v Version) lock(next string) (path string, change func([]byte) ([]byte, error)) {
	switch filepath.Base(v.File) {
	case "Cargo.toml":
		path = upwards(filepath.Join(v.p.Dir(), filepath.Dir(v.File)), "Cargo.lock")
		return path, func(b []byte) ([]byte, error) { return v.inCargoLock(b, next) }
	case "package.json":
		path = filepath.Join(v.p.Dir(), filepath.Dir(v.File), "package-lock.json")
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return path, func(b []byte) ([]byte, error) {
			for _, keys := range [][]string{{"version"}, {"packages", "", "version"}} {
				changed, err := inJSON(b, keys, v.Number, next)
				if errors.Is(err, errNoVersion) {
					continue
				}
				if err != nil {
					return nil, err
				}
				b = changed
			}
			return b, nil
		}
	}
	return "", nil
}

// upwards finds a file in a directory or above, up to a git work tree's root.
func upwards(dir, name string) string {
	dir, err := filepath.Abs(dir)
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name)
		}
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil || filepath.Dir(dir) == dir {
			return ""
		}
		dir = filepath.Dir(dir)
	}
	return ""
}

// inCargoLock changes the packages of the workspace, which come from nowhere,
// that have the version: the one of a package's own manifest, or all of those
// that share the workspace's.
func (v Version) inCargoLock(data []byte, next string) ([]byte, error) {
	manifest, err := readFile(filepath.Join(v.p.Dir(), v.File))
	if err != nil {
		return nil, err
	}
	m, err := tree(manifest)
	if err != nil {
		return nil, err
	}
	own := ""
	if pkg := m.get("package"); pkg != nil {
		if number := pkg.get("version"); number != nil && number.kind == isString && pkg.get("name") != nil {
			own = pkg.get("name").text
		}
	}
	root, err := tree(data)
	if err != nil {
		return nil, err
	}
	list := root.get("package")
	if list == nil {
		return data, nil
	}
	for _, pkg := range slices.Backward(list.items) { // from the end, so that places stay
		name, number := pkg.get("name"), pkg.get("version")
		if name == nil || number == nil || pkg.get("source") != nil || number.text != v.Number || own != "" && name.text != own {
			continue
		}
		if data, err = inTOML(data, number, v.Number, next); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// edit is a file's next content.
type edit struct {
	path string
	data []byte
}

// write replaces the file, which keeps its permissions, and where it is a link,
// what that leads to.
func (e edit) write() error {
	path, err := filepath.EvalSymlinks(e.path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	_, err = io.Copy(f, bytes.NewReader(e.data))
	err = errors.Join(err, f.Chmod(info.Mode().Perm()), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
