package daemon

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/event"
)

// archive is an image as `docker load` and `podman load` read it: a tar. What
// the reader looks at first comes last in it, so that one which is cut short
// is no image.
type archive struct {
	files  []file
	src    content.Provider
	pool   *codec.Pool
	plain  bool // zstd layers are decoded on the way
	verify bool // what is written is held against its digest, where the reader does not
	where  string
	report func(event.Layer)

	decoded int // zstd layers that the last write decoded
}

// file is one entry: bytes at hand, or a blob to be read.
type file struct {
	name string
	raw  []byte
	blob *blob
}

func blobPath(d digest.Digest) string {
	return "blobs/" + d.Algorithm().String() + "/" + d.Encoded()
}

// blobFiles are the files of blobs, each once.
func blobFiles(blobs []blob) []file {
	var files []file
	seen := map[digest.Digest]bool{}
	for _, b := range blobs {
		if seen[b.desc.Digest] {
			continue
		}
		seen[b.desc.Digest] = true
		f := file{name: blobPath(b.desc.Digest), raw: b.raw}
		if b.raw == nil {
			f.blob = &b
		}
		files = append(files, f)
	}
	return files
}

// dockerArchive is the format of `docker save`, in which a layer may be
// compressed and may be missing where Docker has its chainID (moby,
// image/tarexport/load.go).
func dockerArchive(img *loadable, names []string) ([]file, error) {
	type manifest struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	m := manifest{Config: blobPath(img.config.desc.Digest), RepoTags: names}
	for _, l := range img.layers {
		m.Layers = append(m.Layers, blobPath(l.desc.Digest))
	}
	raw, err := json.Marshal([]manifest{m})
	if err != nil {
		return nil, err
	}
	files := blobFiles(append([]blob{img.config}, img.layers...))
	return append(files, file{name: "manifest.json", raw: raw}), nil
}

// ociArchive is an OCI layout in a tar, with one entry in its index for each
// name, or one without. podman reads the first annotation, Docker the second.
func ociArchive(blobs []blob, root ocispec.Descriptor, names []string) ([]file, error) {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	entry := root
	entry.Annotations = nil
	for _, name := range names {
		entry.Annotations = map[string]string{ocispec.AnnotationRefName: name, "io.containerd.image.name": name}
		index.Manifests = append(index.Manifests, entry)
	}
	if len(names) == 0 {
		index.Manifests = append(index.Manifests, entry)
	}
	raw, err := json.Marshal(index)
	if err != nil {
		return nil, err
	}
	return append(blobFiles(blobs),
		file{name: ocispec.ImageLayoutFile, raw: []byte(`{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`)},
		file{name: ocispec.ImageIndexFile, raw: raw}), nil
}

// sender hands what write writes to a daemon and returns when that has loaded
// it. An error of write is returned before one of the daemon's, unless it is
// errSink.
type sender func(ctx context.Context, write func(io.Writer) error) error

// errSink is what write returns when the daemon reads no more. Its own words
// say why, or that it needed no more.
var errSink = errors.New("the daemon stopped reading")

// load sends the archive without the layers in has. A daemon that misses one
// of these after all, because somebody removed it meanwhile or because we
// guessed, is sent everything once more. It returns the bytes sent.
func (a *archive) load(ctx context.Context, has map[digest.Digest]bool, send sender) (int64, error) {
	var sent int64
	for {
		err := send(ctx, func(w io.Writer) error {
			c := &counter{w: w}
			defer func() { sent += c.n }()
			err := a.write(ctx, c, has)
			if c.failed && ctx.Err() == nil {
				return errSink
			}
			return err
		})
		switch {
		case err == nil:
			a.reportExisting(has)
			return sent, nil
		case ctx.Err() != nil:
			return sent, ctx.Err()
		case !a.missed(err, has):
			return sent, err
		}
		has = nil
	}
}

// missed tells whether err is about a layer that was left out: the archive
// names its files by digest, and so does who looks for one in vain.
func (a *archive) missed(err error, has map[digest.Digest]bool) bool {
	var ours *sourceError
	if errors.As(err, &ours) {
		return false
	}
	for d := range has {
		if strings.Contains(err.Error(), d.Encoded()) {
			return true
		}
	}
	return false
}

// write writes the tar without the layers in omit.
func (a *archive) write(ctx context.Context, w io.Writer, omit map[digest.Digest]bool) error {
	a.decoded = 0
	tw := tar.NewWriter(w)
	buf := make([]byte, 1<<20)
	for _, f := range a.files {
		if f.blob == nil {
			if err := tw.WriteHeader(header(f.name, int64(len(f.raw)))); err != nil {
				return err
			}
			if _, err := tw.Write(f.raw); err != nil {
				return err
			}
			continue
		}
		if omit[f.blob.desc.Digest] {
			continue
		}
		if err := a.writeBlob(ctx, tw, f, buf); err != nil {
			return err
		}
	}
	return tw.Close()
}

// writeBlob writes one blob, decoded where the daemon needs that. A tar wants
// the length first, so what is decoded is decoded twice: that costs a second
// for 700 MB of tar, and no disk.
func (a *archive) writeBlob(ctx context.Context, tw *tar.Writer, f file, buf []byte) error {
	started := time.Now()
	ra, err := a.src.ReaderAt(ctx, f.blob.desc)
	if err != nil {
		return &sourceError{f.blob.desc.Digest, err}
	}
	defer ra.Close()
	loaded := layerEvent(event.LayerLoaded, *f.blob, ra, a.where)
	open := func() (io.ReadCloser, error) { return io.NopCloser(content.NewReader(ra)), nil }
	size, want := ra.Size(), f.blob.desc.Digest
	if a.plain && sniff(ra) == codec.Zstd {
		open = func() (io.ReadCloser, error) { return a.pool.NewReader(content.NewReader(ra)) }
		if size, err = a.copy(ctx, io.Discard, open, f.blob, buf); err != nil {
			return err
		}
		loaded.In, want = size, f.blob.diffID
		a.decoded++
	}
	if err := tw.WriteHeader(header(f.name, size)); err != nil {
		return err
	}
	var to io.Writer = tw
	verifier := want.Verifier()
	if a.verify {
		to = io.MultiWriter(tw, verifier)
	}
	if _, err := a.copy(ctx, to, open, f.blob, buf); err != nil {
		return err
	}
	if a.verify && !verifier.Verified() {
		return &sourceError{f.blob.desc.Digest, errors.New("its bytes have another digest")}
	}
	loaded.Took = time.Since(started)
	if f.blob.layer && a.report != nil {
		a.report(loaded)
	}
	return nil
}

// copy copies until EOF or until ctx ends.
func (a *archive) copy(ctx context.Context, w io.Writer, open func() (io.ReadCloser, error), b *blob, buf []byte) (int64, error) {
	r, err := open()
	if err != nil {
		return 0, &sourceError{b.desc.Digest, err}
	}
	defer r.Close()
	var n int64
	for {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		k, rerr := r.Read(buf)
		m, werr := w.Write(buf[:k])
		n += int64(m)
		switch {
		case werr != nil:
			return n, werr
		case rerr == io.EOF:
			return n, nil
		case rerr != nil:
			return n, &sourceError{b.desc.Digest, rerr}
		}
	}
}

func (a *archive) reportExisting(has map[digest.Digest]bool) {
	for _, f := range a.files {
		if f.blob != nil && f.blob.layer && has[f.blob.desc.Digest] && a.report != nil {
			a.report(layerEvent(event.LayerExists, *f.blob, nil, a.where))
		}
	}
}

// layerEvent describes a layer; its codec is what its bytes say, where r has them.
func layerEvent(action event.LayerAction, b blob, r content.ReaderAt, where string) event.Layer {
	e := event.Layer{Action: action, Digest: b.desc.Digest.String(), DiffID: b.diffID.String(), Out: b.desc.Size, Where: where}
	if r == nil {
		return e
	}
	e.Codec = string(sniff(r))
	if rec, err := codec.ReadRecord(r, r.Size()); err == nil && rec != nil {
		e.Codec = rec.Compression.String()
	}
	return e
}

func sniff(r content.ReaderAt) codec.Codec {
	var head [4]byte
	n, _ := r.ReadAt(head[:], 0) // an error comes again when the blob is read
	return codec.Sniff(head[:n])
}

func header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644}
}

// sourceError is a blob that could not be read on our side.
type sourceError struct {
	digest digest.Digest
	err    error
}

func (e *sourceError) Error() string { return fmt.Sprintf("read layer %s: %v", e.digest, e.err) }
func (e *sourceError) Unwrap() error { return e.err }

// counter counts what is written to w.
type counter struct {
	w      io.Writer
	n      int64
	failed bool
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.failed = c.failed || err != nil
	return n, err
}
