package project

import (
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Find looks for a file in dir and above, and answers its path, or "" where
// there is none.
func Find(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err != nil {
		return "", err
	}
	for at := range above(dir) {
		path := filepath.Join(at, Name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path, nil
		}
	}
	return "", nil
}

// above is a directory and those above. It goes no further than the root of a git
// work tree, and neither into the home directory nor into one that everybody may write
// to, nor onto another file system: what lies there was not meant for what is in dir.
func above(dir string) iter.Seq[string] {
	return func(yield func(string) bool) {
		home, _ := os.UserHomeDir() // "" is no directory above
		start, err := os.Stat(dir)
		if err != nil {
			return
		}
		for at := dir; yield(at); {
			next := filepath.Dir(at)
			if isTop(at) || next == at || next == home {
				return
			}
			info, err := os.Stat(next)
			if err != nil || !sameFileSystem(start, info) || info.Mode()&fs.ModeSticky != 0 && info.Mode().Perm()&0o002 != 0 {
				return // a directory that cannot be looked at is a border
			}
			at = next
		}
	}
}

// isTop tells the root of a git work tree.
func isTop(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, ".git"))
	return err == nil
}

// outside notes files that lie neither in the project nor in the git work tree that it
// is in: on another machine others lie there, or none. Who writes a path from the root
// means this machine's, as a library; what a link leads to is for whoever made the link.
func (p Project) outside(data []byte) error {
	if len(p.Files) == 0 {
		return nil
	}
	top, what := p.Dir(), "the project's directory, which is in no git work tree"
	for at := range above(p.Dir()) {
		if isTop(at) {
			top, what = at, "the project's git work tree"
		}
	}
	d, at := document{file: Shown(p.Path), data: data}, offsets(data)
	for i, f := range p.Files {
		if filepath.IsAbs(f.From) {
			continue
		}
		path := p.Abs(f.From)
		if rel, err := filepath.Rel(top, path); err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
			key := "files[" + strconv.Itoa(i) + "].from"
			d.problem(at[key], key, "%q is outside of %s: copy it into that, make a link to it there, or write its path from the root", f.From, what)
		}
	}
	return d.err()
}

// Abs is a path of the project's file from the root: of one that is relative from its
// directory, of one that begins with ~/ from the user's.
func (p Project) Abs(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(p.Dir(), path)
	}
	return path
}
