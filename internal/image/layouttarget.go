package image

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// LayoutTarget is an OCI image layout in a directory, to write to. Files get
// their names when they are whole and on the disk, so that a layout is one at
// any time; what a killed writer leaves is one hidden file that nothing refers
// to.
type LayoutTarget struct {
	dir   string
	begin func() error // makes the directory a layout, before the first thing is written

	mu   sync.Mutex
	held *flock.Flock // a share of the lock of its content, nil before it is used
	was  []string     // digests that the index had when it was taken
}

// uploadPrefix begins the names of uploads that are not whole yet.
const uploadPrefix = ".upload-"

// CreateLayout uses a directory as a layout, and makes one where there is none.
// A directory that holds something else is refused.
func CreateLayout(dir string) (*LayoutTarget, error) {
	t, err := NewLayout(dir)
	if err == nil {
		err = t.begin()
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// NewLayout is CreateLayout that makes a layout only when something is written
// to it.
func NewLayout(dir string) (*LayoutTarget, error) {
	t := &LayoutTarget{dir: dir}
	t.begin = sync.OnceValue(t.create)
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("OCI layout %s: %w", dir, err)
	}
	return t, nil
}

// exists tells whether it is a layout already.
func (t *LayoutTarget) exists() bool {
	_, err := os.Stat(t.path(ocispec.ImageLayoutFile))
	return err == nil
}

// check refuses what is there and cannot become a layout.
func (t *LayoutTarget) check() error {
	if t.exists() {
		l, err := OpenLayout(t.dir)
		if err != nil {
			return err
		}
		return l.Close()
	}
	// What another creator has begun, or one that was killed, is no obstacle.
	entries, err := os.ReadDir(t.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); name != ocispec.ImageBlobsDir && name != ocispec.ImageIndexFile && !strings.HasPrefix(name, tempPrefix) {
			return errors.New("the directory holds something else: name a new one")
		}
	}
	return nil
}

// create makes what is missing; others may do so at the same time.
func (t *LayoutTarget) create() error {
	if t.exists() {
		return nil
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	err := os.MkdirAll(t.path(ocispec.ImageBlobsDir, "sha256"), 0o755)
	if err == nil {
		err = t.first(ocispec.ImageIndexFile, index)
	}
	if err == nil {
		err = t.first(ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	}
	if err != nil {
		return fmt.Errorf("OCI layout %s: %w", t.dir, err)
	}
	return nil
}

// first writes a file of a new layout, unless another creator was faster.
func (t *LayoutTarget) first(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	temp := t.path(tempPrefix + name + "-" + rand.Text())
	defer os.Remove(temp)
	if err := replaceFile(temp, b); err != nil {
		return err
	}
	if err := os.Link(temp, t.path(name)); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (t *LayoutTarget) path(elem ...string) string {
	return filepath.Join(append([]string{t.dir}, elem...)...)
}

func (t *LayoutTarget) blob(desc ocispec.Descriptor) (string, error) {
	name, err := blobPath(desc)
	return t.path(filepath.FromSlash(name)), err
}

// Has implements Target.
func (t *LayoutTarget) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	name, err := t.blob(desc)
	if err != nil {
		return false, err
	}
	t.Hold(ctx)
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, ctx.Err()
	case err != nil:
		return false, fmt.Errorf("OCI layout %s: %w", t.dir, err)
	}
	return info.Mode().IsRegular() && info.Size() == desc.Size, ctx.Err()
}

// Mount implements Target: a directory shares nothing.
func (t *LayoutTarget) Mount(ctx context.Context, _ ocispec.Descriptor, _ Reference) (bool, error) {
	return false, ctx.Err()
}

// Upload implements Target.
func (t *LayoutTarget) Upload(ctx context.Context) (Upload, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := t.begin(); err != nil {
		return nil, err
	}
	t.Hold(ctx)
	f, err := os.CreateTemp(t.path(ocispec.ImageBlobsDir), uploadPrefix+"*")
	if err != nil {
		return nil, fmt.Errorf("OCI layout %s: %w", t.dir, err)
	}
	return NewFileUpload(ctx, f, t.keep), nil
}

// keep makes a blob of a hidden file.
func (t *LayoutTarget) keep(_ context.Context, desc ocispec.Descriptor, f *os.File) error {
	name, err := t.blob(desc)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(name), 0o755)
	}
	if err != nil {
		err = errors.Join(err, f.Close(), os.Remove(f.Name()))
	} else {
		err = publishFile(f, name)
	}
	if err != nil {
		return fmt.Errorf("OCI layout %s: %w", t.dir, err)
	}
	return nil
}

// tagWait is between two looks at the lock of a layout, which is held for
// milliseconds.
const tagWait = 10 * time.Millisecond

// PutManifest implements Target.
func (t *LayoutTarget) PutManifest(ctx context.Context, desc ocispec.Descriptor, b []byte) error {
	if err := CheckContent(desc, b); err != nil {
		return fmt.Errorf("OCI layout %s: %w", t.dir, err)
	}
	if has, err := t.Has(ctx, desc); err != nil || has {
		return err
	}
	up, err := t.Upload(ctx)
	if err != nil {
		return err
	}
	defer up.Abort()
	if _, err := up.Write(b); err != nil {
		return err
	}
	return up.Commit(ctx, desc)
}

// Tag implements Target: the entry of that name in the layout's index becomes
// desc. The name "" is that of the one entry without any.
func (t *LayoutTarget) Tag(ctx context.Context, desc ocispec.Descriptor, b []byte, name string) error {
	return t.tag(ctx, desc, b, name, func([]ocispec.Descriptor) error { return nil })
}

// ErrMoved is a name that stands for something else than it was expected to.
var ErrMoved = errors.New("the name stands for something else by now")

// Swap is Tag where the name stands for was, "" being nothing, and ErrMoved else.
func (t *LayoutTarget) Swap(ctx context.Context, desc ocispec.Descriptor, b []byte, name string, was digest.Digest) error {
	return t.tag(ctx, desc, b, name, func(now []ocispec.Descriptor) error {
		if len(now) == 0 && was == "" || len(now) == 1 && now[0].Digest == was {
			return nil
		}
		return fmt.Errorf("OCI layout %s: %w", t.dir, ErrMoved)
	})
}

// tag sets a name, unless check minds the entries that it stands for.
func (t *LayoutTarget) tag(ctx context.Context, desc ocispec.Descriptor, b []byte, name string, check func(now []ocispec.Descriptor) error) error {
	if err := CheckContent(desc, b); err != nil {
		return fmt.Errorf("OCI layout %s: %w", t.dir, err)
	}
	if err := t.begin(); err != nil {
		return err
	}
	// The file that every layout has and nobody writes again holds the lock.
	lock := flock.New(t.path(ocispec.ImageLayoutFile), flock.SetFlag(os.O_RDONLY))
	if _, err := lock.TryLockContext(ctx, tagWait); err != nil {
		return fmt.Errorf("OCI layout %s: lock: %w", t.dir, err)
	}
	defer lock.Close()
	l, err := OpenLayout(t.dir)
	if err != nil {
		return err
	}
	defer l.Close()
	index := l.index
	entry := ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, Platform: desc.Platform}
	if name != "" {
		entry.Annotations = map[string]string{ocispec.AnnotationRefName: name}
	}
	var kept, replaced []ocispec.Descriptor
	for _, d := range index.Manifests {
		if d.Annotations[ocispec.AnnotationRefName] == name && (name != "" || d.Annotations[containerdName] == "") {
			replaced = append(replaced, d)
		} else {
			kept = append(kept, d)
		}
	}
	if name == "" && len(replaced) > 1 {
		return fmt.Errorf("OCI layout %s: it holds %d images without a name: give this one a name, oci:%s:NAME", t.dir, len(replaced), t.dir)
	}
	if err := check(replaced); err != nil {
		return err
	}
	index.Manifests = slices.Concat(kept, []ocispec.Descriptor{entry})
	raw, err := json.Marshal(index)
	if err == nil {
		err = replaceFile(t.path(ocispec.ImageIndexFile), raw)
	}
	if err != nil {
		return fmt.Errorf("OCI layout %s: %w", t.dir, err)
	}
	return nil
}

var _ Target = (*LayoutTarget)(nil)
