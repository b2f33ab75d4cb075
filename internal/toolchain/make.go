package toolchain

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// make builds in a copy of the project: a Makefile's objects lie beside its
// sources, and those of two platforms would be taken for each other.
func (p Project) make(t target, dir string, _ bool) (Build, error) {
	if _, err := exec.LookPath("make"); err != nil {
		return Build{}, &missingError{what: "make", platform: t.Platform, by: same("make")}
	}
	cc, cxx, err := t.compilers()
	if err != nil {
		return Build{}, err
	}
	flags := strings.Join(p.compileFlags(), " ")
	sources := map[string]bool{}
	return Build{
		Tool: "make",
		Argv: []string{"make", "-C", dir, "-j", "CC=" + strings.Join(cached(cc), " "), "CXX=" + strings.Join(cached(cxx), " "), "LDFLAGS=" + p.linkFlags()},
		Env:  []string{"CFLAGS=" + flags, "CXXFLAGS=" + flags},
		prep: func() error { return mirror(p.Dir, dir, sources) },
		made: func([]byte) ([]Binary, error) { return p.makeMade(dir, sources) },
	}, nil
}

// makeMade are the binaries that a Makefile left: those that are named, or the
// only executable file that no source is.
func (p Project) makeMade(dir string, sources map[string]bool) ([]Binary, error) {
	if len(p.Binaries) > 0 {
		var made []Binary
		for _, name := range p.Binaries {
			b := Binary{Name: filepath.Base(name), Path: filepath.Join(dir, name)}
			if _, err := os.Stat(b.Path); err != nil {
				return nil, fmt.Errorf("make made no binary %s", name)
			}
			made = append(made, b)
		}
		return made, nil
	}
	var have []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || sources[rel] || !compiled(path, "\x7fELF") {
			return err
		}
		if info, err := d.Info(); err == nil && info.Mode().Perm()&0o111 != 0 {
			have = append(have, rel)
		}
		return nil
	})
	if err == nil {
		have, err = p.choose(have, p.Dir)
	}
	if err != nil {
		return nil, err
	}
	return []Binary{{Name: filepath.Base(have[0]), Path: filepath.Join(dir, have[0])}}, nil
}

// mirror makes to a copy of the sources in from, and notes their names. Files
// that did not change are left alone, so that make finds what it made of them;
// what a compiler made is no source.
func mirror(from, to string, names map[string]bool) error {
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		switch {
		case d.IsDir() && d.Name() == ".git":
			return filepath.SkipDir
		case d.IsDir():
			return os.MkdirAll(dst, 0o777)
		case d.Type()&os.ModeSymlink != 0:
			names[rel] = true
			return relink(path, dst)
		case !d.Type().IsRegular() || compiled(path, "\x7fELF", "!<arch>\n", "\xcf\xfa\xed\xfe"):
			return nil
		}
		names[rel] = true
		return refresh(path, dst)
	})
	if err != nil {
		return err
	}
	return forget(to, names)
}

// forget takes away what was a source the last time and is none now, and
// remembers those of this time.
func forget(to string, names map[string]bool) error {
	list := to + ".sources"
	before, err := os.ReadFile(list)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for name := range strings.SplitSeq(string(before), "\x00") {
		if name == "" || names[name] {
			continue
		}
		if err := os.Remove(filepath.Join(to, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return os.WriteFile(list, []byte(strings.Join(slices.Sorted(maps.Keys(names)), "\x00")), 0o666)
}

func relink(from, to string) error {
	link, err := os.Readlink(from)
	if err != nil {
		return err
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Symlink(link, to)
}

// compiled tells whether a file begins like what compilers make.
func compiled(path string, magics ...string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 8)
	n, _ := f.Read(head)
	return slices.ContainsFunc(magics, func(m string) bool { return strings.HasPrefix(string(head[:n]), m) })
}

// refresh copies a file where it has another size or time.
func refresh(from, to string) error {
	src, err := os.Stat(from)
	if err != nil {
		return err
	}
	if dst, err := os.Stat(to); err == nil && dst.Size() == src.Size() && dst.ModTime().Equal(src.ModTime()) {
		return nil
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, b, src.Mode().Perm()|0o200); err != nil {
		return err
	}
	return os.Chtimes(to, src.ModTime(), src.ModTime())
}
