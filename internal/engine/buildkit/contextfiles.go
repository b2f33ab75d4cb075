package buildkit

import (
	"context"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/lighter-oci/lighter/internal/engine"
)

// watchedFS is a context that remembers what the engine was told of it. It
// costs no look at the disk: the session walks the context anyway, asks for
// the details of those files only that pass the ignore file and that an
// instruction reads, and opens those that the engine lacks. Their bytes are
// summed on their way.
type watchedFS struct {
	fsutil.FS
	mu    sync.Mutex
	walks [][]engine.ContextFile
	sums  map[string]uint32
}

// watchContext watches the context of a session; nil where it has none.
func watchContext(opt client.SolveOpt) *watchedFS {
	dir, ok := opt.LocalMounts[localContext]
	if !ok {
		return nil
	}
	w := watch(dir)
	opt.LocalMounts[localContext] = w
	return w
}

func watch(dir fsutil.FS) *watchedFS {
	return &watchedFS{FS: dir, sums: map[string]uint32{}}
}

// Walk remembers a walk of the whole; others only resolve links.
func (w *watchedFS) Walk(ctx context.Context, target string, fn fs.WalkDirFunc) error {
	if target != string(filepath.Separator) {
		return w.FS.Walk(ctx, target, fn)
	}
	var files []engine.ContextFile
	err := w.FS.Walk(ctx, target, func(path string, entry fs.DirEntry, err error) error {
		if entry != nil {
			entry = watchedEntry{entry, &files}
		}
		return fn(path, entry, err)
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.walks = append(w.walks, files)
	return err
}

// watchedEntry is a directory entry of which it is remembered that somebody
// asked for its details. The walk asks from one goroutine.
type watchedEntry struct {
	fs.DirEntry
	files *[]engine.ContextFile
}

func (e watchedEntry) Info() (fs.FileInfo, error) {
	info, err := e.DirEntry.Info()
	if err != nil {
		return nil, err
	}
	if st, ok := info.Sys().(*fstypes.Stat); ok {
		f := engine.ContextFile{Path: filepath.ToSlash(st.Path), Mode: st.Mode}
		switch mode := fs.FileMode(st.Mode); {
		case mode.IsRegular():
			f.Size, f.ModTime = st.Size, time.Unix(0, st.ModTime)
		case mode&fs.ModeSymlink != 0:
			f.Sum = crc32.Checksum([]byte(st.Linkname), castagnoli)
		}
		*e.files = append(*e.files, f)
	}
	return info, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Open sums what is read.
func (w *watchedFS) Open(path string) (io.ReadCloser, error) {
	f, err := w.FS.Open(path)
	if err != nil {
		return nil, err
	}
	return &summedFile{ReadCloser: f, sum: crc32.New(castagnoli), done: func(sum uint32) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.sums[filepath.ToSlash(path)] = sum
	}}, nil
}

// summedFile hands over its sum when it was read to its end.
type summedFile struct {
	io.ReadCloser
	sum  hash.Hash32
	done func(uint32)
}

func (f *summedFile) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	f.sum.Write(p[:n])
	if err == io.EOF {
		f.done(f.sum.Sum32())
	}
	return n, err
}

// files is the context, by path; nil where there is none here. The frontend's
// own look for an ignore file is no part of it.
func (w *watchedFS) files() []engine.ContextFile {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	all := []engine.ContextFile{}
	for _, walk := range w.walks {
		if slices.ContainsFunc(walk, func(f engine.ContextFile) bool { return !strings.HasSuffix(f.Path, ".dockerignore") }) {
			all = append(all, walk...)
		}
	}
	slices.SortStableFunc(all, func(a, b engine.ContextFile) int { return strings.Compare(a.Path, b.Path) })
	all = slices.CompactFunc(all, func(a, b engine.ContextFile) bool { return a.Path == b.Path })
	for i := range all {
		if sum, ok := w.sums[all[i].Path]; ok {
			all[i].Sum = sum
		}
	}
	return all
}
