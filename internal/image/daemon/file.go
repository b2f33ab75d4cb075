package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/containerd/containerd/v2/core/content"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/image"
)

// File is a Target that is no daemon but the archive that one loads later: what
// `docker load` of every Docker since 20.10 and `podman load` read. It holds
// one platform, and zstd layers are decoded: nobody knows which Docker it will
// meet.
type File struct {
	Path string
	// Runs is the platform that is chosen from an index; the zero value is this
	// machine's architecture on Linux.
	Runs ocispec.Platform
	Pool *codec.Pool // decodes zstd; nil is one of its own
}

// Name implements Target.
func (f File) Name() string { return "docker archive " + f.Path }

// Platform implements Target.
func (f File) Platform() (ocispec.Platform, bool) {
	if f.Runs.Architecture == "" {
		return ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}, true
	}
	return f.Runs, true
}

// Load implements Target. The file gets its name when it is whole and on the
// disk; whatever had the name before is replaced.
func (f File) Load(ctx context.Context, src content.Provider, root ocispec.Descriptor, names []string, report func(event.Layer)) (*Loaded, error) {
	full, err := fullNames(names)
	if err != nil {
		return nil, err
	}
	runs, _ := f.Platform()
	c, err := choose(ctx, src, root, runs)
	if err != nil {
		return nil, err
	}
	img, err := readImage(ctx, src, c.desc)
	if err != nil {
		return nil, err
	}
	written := func(l event.Layer) {
		if l.Action = event.LayerWritten; report != nil {
			report(l)
		}
	}
	a := &archive{src: src, where: f.Name(), report: written, pool: f.Pool, plain: true, verify: true}
	if a.pool == nil {
		a.pool = codec.NewPool(0)
		defer a.pool.Close()
	}
	if a.files, err = dockerArchive(img, full); err != nil {
		return nil, err
	}
	loaded := &Loaded{Digest: c.desc.Digest, Platform: c.platform, Left: c.left, Names: full}
	loaded.Sent, err = a.load(ctx, nil, f.send)
	loaded.Decoded = a.decoded
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return loaded, nil
}

// send is the sender of a file.
func (f File) send(_ context.Context, write func(io.Writer) error) error {
	dir, discard, err := image.TempDir(filepath.Dir(f.Path))
	if err != nil {
		return err
	}
	defer discard()
	tmp, err := os.Create(filepath.Join(dir, "archive"))
	if err != nil {
		return err
	}
	kept := &keepsError{w: tmp}
	err = write(kept)
	if errors.Is(err, errSink) {
		err = kept.err
	}
	if err == nil {
		err = errors.Join(tmp.Chmod(0o644), tmp.Sync())
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), f.Path)
}

// keepsError remembers why the disk took no more.
type keepsError struct {
	w   io.Writer
	err error
}

func (k *keepsError) Write(p []byte) (int, error) {
	n, err := k.w.Write(p)
	if err != nil {
		k.err = err
	}
	return n, err
}

var _ Target = File{}
