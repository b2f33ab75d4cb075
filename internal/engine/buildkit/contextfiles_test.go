package buildkit

import (
	"context"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tonistiigi/fsutil"
)

// What is remembered is what the engine is told: not what is ignored, not the
// walks that only look for something, and each file with the sum of what
// travelled.
func TestWatchedContext(t *testing.T) {
	dir := project(t, map[string]string{
		".dockerignore": "target", "main.c": "main", "lib/a.c": "a", "lib/sub/b.c": "b", "target/big": "big",
	})
	for _, link := range []string{"link", "ignored"} {
		if err := os.Symlink("main.c", filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	local, err := fsutil.NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	w := watch(local)
	if got := w.files(); got == nil || len(got) != 0 {
		t.Errorf("before anyone asked: %v", got)
	}
	walk := func(opt fsutil.FilterOpt) fsutil.FS {
		t.Helper()
		filtered, err := fsutil.NewFilterFS(w, &opt)
		if err != nil {
			t.Fatal(err)
		}
		err = filtered.Walk(context.Background(), "/", func(_ string, _ fs.DirEntry, err error) error { return err })
		if err != nil {
			t.Fatal(err)
		}
		return filtered
	}
	walk(fsutil.FilterOpt{FollowPaths: []string{".dockerignore"}}) // as the frontend does
	if got := w.files(); len(got) != 0 {
		t.Errorf("the ignore file is no context: %v", got)
	}
	walk(fsutil.FilterOpt{FollowPaths: []string{"lib/sub", "link", "ignored"}, ExcludePatterns: []string{"target", "ignored"}})
	sent := walk(fsutil.FilterOpt{ExcludePatterns: []string{"target", "ignored"}})
	// A walk of a part is a look at a link or a pattern.
	err = w.Walk(context.Background(), "target", func(_ string, entry fs.DirEntry, _ error) error {
		_, err := entry.Info()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := sent.Open("main.c")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(f); err != nil {
		t.Fatal(err)
	}
	f.Close()
	half, err := sent.Open("lib/a.c")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := half.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	half.Close() // not read to its end

	var paths []string
	for _, f := range w.files() {
		paths = append(paths, f.Path)
		switch f.Path {
		case "main.c":
			if f.Size != 4 || f.Sum != crc32.Checksum([]byte("main"), castagnoli) || f.ModTime.IsZero() {
				t.Errorf("%+v", f)
			}
		case "link":
			if f.Sum != crc32.Checksum([]byte("main.c"), castagnoli) {
				t.Errorf("%+v", f)
			}
		case "lib/a.c":
			if f.Size != 1 || f.Sum != 0 {
				t.Errorf("%+v", f)
			}
		case "lib":
			if !fs.FileMode(f.Mode).IsDir() || f.Size != 0 || !f.ModTime.IsZero() {
				t.Errorf("%+v", f)
			}
		}
	}
	want := []string{".dockerignore", "lib", "lib/a.c", "lib/sub", "lib/sub/b.c", "link", "main.c"}
	if !slices.Equal(paths, want) {
		t.Errorf("%v, want %v", paths, want)
	}
}
