package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/gofrs/flock"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Who uses a layout's content, to read what may be replaced or to write what no
// name stands for yet, has a share of a lock on its directory of blobs; who sweeps
// has all of it. Other programs know nothing of that. So what the sweeper's own work
// made superfluous goes at once, and other content only when it has lain there
// for a while: a writer that is not ours may be about to name it.

// sweepAge is how old content is that nobody is about to name.
const sweepAge = time.Hour

// Hold keeps Sweep from a layout's content, in this process and others, until this
// target's own. Writing does so by itself.
func (t *LayoutTarget) Hold(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held != nil || runtime.GOOS == "windows" { // directories cannot be locked there
		return
	}
	lock := t.contentLock()
	// Where it cannot be had no other can have it, and nothing is swept.
	if ok, err := lock.TryRLockContext(ctx, tagWait); err != nil || !ok {
		return
	}
	t.held = lock
	if _, roots, err := t.roots(); err == nil {
		t.was = roots
	}
}

// Release is the end of Hold.
func (t *LayoutTarget) Release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held != nil {
		_ = t.held.Close()
		t.held = nil
	}
}

func (t *LayoutTarget) contentLock() *flock.Flock {
	return flock.New(t.path(ocispec.ImageBlobsDir), flock.SetFlag(os.O_RDONLY))
}

// Sweep removes the content that nothing in the layout's index leads to, and ends
// Hold. Where others use the layout it does nothing: the last of them sweeps, or
// whoever comes next. It has no upload of its own open.
func (t *LayoutTarget) Sweep(ctx context.Context) error {
	t.Release()
	t.mu.Lock()
	defer t.mu.Unlock()
	if runtime.GOOS == "windows" || !t.exists() {
		return nil
	}
	lock := t.contentLock()
	ok, err := lock.TryLock()
	if err == nil && ok {
		err = t.sweep(ctx)
		_ = lock.Close()
	}
	if err != nil {
		return fmt.Errorf("OCI layout %s: old content stays: %w", t.dir, err)
	}
	return nil
}

func (t *LayoutTarget) sweep(ctx context.Context) error {
	index, roots, err := t.roots()
	if err != nil {
		return err
	}
	kept, gone := map[string]bool{}, map[string]bool{}
	if err := t.reach(ctx, append(roots, digestsIn(index)...), kept); err != nil {
		return err
	}
	if err := t.reach(ctx, t.was, gone); err != nil {
		return err
	}
	old := time.Now().Add(-sweepAge)
	root := t.path(ocispec.ImageBlobsDir)
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		name := strings.Replace(strings.TrimPrefix(path, root+string(filepath.Separator)), string(filepath.Separator), ":", 1)
		upload := strings.HasPrefix(name, uploadPrefix)
		if kept[name] || !upload && !digestText.MatchString(name) {
			return nil
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) || err == nil && !gone[name] && info.ModTime().After(old) {
			return nil
		}
		return errors.Join(err, os.Remove(path))
	})
}

// roots are the text of the layout's index, and what it names.
func (t *LayoutTarget) roots() (index []byte, roots []string, err error) {
	l, err := OpenLayout(t.dir)
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	for _, d := range l.index.Manifests {
		roots = append(roots, d.Digest.String())
	}
	index, err = l.readFile(ocispec.ImageIndexFile)
	return index, roots, err
}

// digestText is a digest (image specification, descriptor.md) in any text.
var digestText = regexp.MustCompile(`[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]{32,}`)

func digestsIn(b []byte) []string { return digestText.FindAllString(string(b), -1) }

// reach adds content, and what it leads to, to seen. Each digest that stands in a JSON document
// counts, whatever the document is and whatever the digest is there for.
func (t *LayoutTarget) reach(ctx context.Context, from []string, seen map[string]bool) error {
	for len(from) > 0 {
		name := from[len(from)-1]
		from = from[:len(from)-1]
		if seen[name] {
			continue
		}
		seen[name] = true
		b, err := t.document(name)
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		from = append(from, digestsIn(b)...)
	}
	return nil
}

// document reads content that is JSON; nil for other, and for what is not there.
func (t *LayoutTarget) document(name string) ([]byte, error) {
	algorithm, encoded, _ := strings.Cut(name, ":")
	f, size, err := openSized(t.path(ocispec.ImageBlobsDir, algorithm, encoded))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, 512)
	n, _ := io.ReadFull(f, head)
	if !bytes.HasPrefix(bytes.TrimSpace(head[:n]), []byte("{")) || size > 16*MaxJSON {
		return nil, nil // a layer
	}
	return io.ReadAll(io.NewSectionReader(f, 0, size))
}
