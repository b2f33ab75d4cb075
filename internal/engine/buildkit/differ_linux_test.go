package buildkit

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	ctdmetadata "github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/containerd/containerd/v2/plugins/content/local"
	containerdsnapshot "github.com/moby/buildkit/snapshot/containerd"
	"github.com/moby/buildkit/util/compression"
	"github.com/moby/buildkit/util/converter/tarconverter"
	"github.com/moby/buildkit/util/overlay"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/lighter-oci/lighter/internal/codec"
)

// differRig is a differ on a content store, stacked as BuildKit's worker does.
type differRig struct {
	*Differ
	dir   string
	files content.Store // beneath the metadata
	typ   *blobType
	stats []LayerStats
}

func newDifferRig(t testing.TB) *differRig {
	t.Helper()
	r := &differRig{dir: t.TempDir()}
	var err error
	if r.files, err = local.NewStore(filepath.Join(r.dir, "content")); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(filepath.Join(r.dir, "meta.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	store := containerdsnapshot.NewContentStore(ctdmetadata.NewDB(db, r.files, nil).ContentStore(), "buildkit")
	pool := codec.NewPool(0)
	t.Cleanup(func() { pool.Close() })
	r.typ = &blobType{pool: pool, want: codec.Compression{Codec: codec.Zstd, Level: 3}, made: &ledger{}}
	r.Differ = newDiffer(store, nil)
	r.Ingest = filepath.Join(r.dir, "content", "ingest")
	r.OnLayer = func(_ context.Context, s LayerStats) { r.stats = append(r.stats, s) }
	return r
}

// compare makes a blob with lighter's encoder.
func (r *differRig) compare(ctx context.Context, lower, upper []mount.Mount) (ocispecs.Descriptor, error) {
	compress, _ := r.typ.Compress(ctx, compression.Config{})
	return r.compareWith(ctx, lower, upper, compress)
}

func (r *differRig) compareWith(ctx context.Context, lower, upper []mount.Mount, c compression.Compressor) (ocispecs.Descriptor, error) {
	return r.Compare(ctx, lower, upper, diff.WithMediaType(r.typ.MediaType()), diff.WithReference("ref"), diff.WithCompressor(c))
}

// tarOf decompresses a blob and holds its label against it.
func (r *differRig) tarOf(t *testing.T, desc ocispecs.Descriptor) []byte {
	t.Helper()
	ctx := context.Background()
	blob, err := content.ReadBlob(ctx, r.store, desc)
	noError(t, err)
	if got := digest.FromBytes(blob); got != desc.Digest || int64(len(blob)) != desc.Size {
		t.Errorf("blob of %d bytes is %s, descriptor is %+v", len(blob), got, desc)
	}
	rd, err := r.typ.pool.NewReader(bytes.NewReader(blob))
	noError(t, err)
	defer rd.Close()
	data, err := io.ReadAll(rd)
	noError(t, err)
	info, err := r.store.Info(ctx, desc.Digest)
	noError(t, err)
	if got, want := info.Labels[labels.LabelUncompressed], digest.FromBytes(data).String(); got != want {
		t.Errorf("label says diffID %s, it is %s", got, want)
	}
	return data
}

// clean tells whether nothing half-written is left.
func (r *differRig) clean(t *testing.T) {
	t.Helper()
	left, err := r.store.ListStatuses(context.Background())
	noError(t, err)
	onDisk, err := os.ReadDir(r.Ingest)
	noError(t, err)
	if len(left) > 0 || len(onDisk) > 0 {
		t.Errorf("half-written: %v in the store, %d on disk", left, len(onDisk))
	}
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// snapshots are three layers on each other, written as overlayfs does.
type snapshots struct{ dirs []string }

func newSnapshots(t *testing.T, options string) *snapshots {
	t.Helper()
	base := t.TempDir()
	s := &snapshots{}
	noise := make([]byte, 10<<20) // two frames
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	for i, fill := range []func(root string){
		func(root string) {
			noError(t, os.MkdirAll(root+"/d/sub", 0o755))
			noError(t, os.WriteFile(root+"/d/a", []byte("a"), 0o644))
			noError(t, os.WriteFile(root+"/d/sub/b", noise, 0o600))
			noError(t, os.WriteFile(root+"/gone", []byte("x"), 0o644))
		},
		func(root string) {
			noError(t, os.Remove(root+"/gone"))
			noError(t, os.WriteFile(root+"/new", []byte("new"), 0o644))
		},
		func(root string) {
			if err := os.Rename(root+"/d/sub", root+"/d/moved"); err != nil { // EXDEV without redirect_dir
				noError(t, os.RemoveAll(root+"/d/sub"))
			}
			noError(t, os.Chmod(root+"/new", 0o755))
		},
	} {
		dir := filepath.Join(base, string(rune('1'+i)))
		noError(t, os.Mkdir(dir, 0o755))
		if i == 0 {
			fill(dir)
		} else {
			work, root := dir+".work", dir+".mnt"
			noError(t, os.Mkdir(work, 0o755))
			noError(t, os.Mkdir(root, 0o755))
			noError(t, unix.Mount("overlay", root, "overlay", 0, options+"volatile,lowerdir="+s.lowerdir(i)+",upperdir="+dir+",workdir="+work))
			fill(root)
			noError(t, unix.Unmount(root, 0))
		}
		s.dirs = append(s.dirs, dir)
	}
	return s
}

func (s *snapshots) lowerdir(n int) string {
	dirs := slices.Clone(s.dirs[:n])
	slices.Reverse(dirs)
	return strings.Join(dirs, ":")
}

// view are the mounts of the lowest n layers.
func (s *snapshots) view(n int) []mount.Mount {
	switch n {
	case 0:
		return nil
	case 1:
		return bind(s.dirs[0])
	}
	return []mount.Mount{{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=" + s.lowerdir(n)}}}
}

func bind(dir string) []mount.Mount {
	return []mount.Mount{{Type: "bind", Source: dir, Options: []string{"rbind", "ro"}}}
}

// stockTar is what stock BuildKit archives.
func stockTar(t *testing.T, lower, upper []mount.Mount) []byte {
	t.Helper()
	var out bytes.Buffer
	ctx := context.Background()
	if dir, err := overlay.GetUpperdir(lower, upper); err == nil {
		if overlay.WriteUpperdir(ctx, &out, dir, lower) == nil {
			return out.Bytes()
		}
		out.Reset()
	}
	noError(t, mount.WithTempMount(ctx, lower, func(a string) error {
		return mount.WithTempMount(ctx, upper, func(b string) error { return archive.WriteDiff(ctx, &out, a, b) })
	}))
	return out.Bytes()
}

func TestDifferLikeStock(t *testing.T) {
	plain, redirected := newSnapshots(t, ""), newSnapshots(t, "redirect_dir=on,")
	for _, c := range []struct {
		name         string
		lower, upper []mount.Mount
		walked       bool
	}{
		{"bottommost", nil, plain.view(1), false},
		{"on one", plain.view(1), plain.view(2), false},
		{"on two", plain.view(2), plain.view(3), false},
		{"two apart", plain.view(1), plain.view(3), true},
		{"nothing and an overlay", nil, plain.view(3), true},
		{"native snapshotter", bind(plain.dirs[0]), bind(plain.dirs[1]), true},
		{"redirect_dir", redirected.view(2), redirected.view(3), true},
		{"no difference", plain.view(2), plain.view(2), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newDifferRig(t)
			desc, err := r.compare(context.Background(), c.lower, c.upper)
			noError(t, err)
			r.clean(t)
			want := stockTar(t, c.lower, c.upper)
			if !bytes.Equal(r.tarOf(t, desc), want) {
				t.Error("the tar is not stock BuildKit's")
			}
			s := r.stats[0]
			if len(r.stats) != 1 || s.Walked != c.walked || s.In != int64(len(want)) || s.Out != desc.Size ||
				s.DiffID != digest.FromBytes(want) || s.Entries != entries(t, want) || s.Took <= 0 || s.Descriptor.Digest != desc.Digest {
				t.Errorf("stats are %+v", r.stats)
			}
			if desc.MediaType != ocispecs.MediaTypeImageLayerZstd {
				t.Errorf("media type is %s", desc.MediaType)
			}
		})
	}
}

func entries(t *testing.T, data []byte) (n int) {
	for tr := tar.NewReader(bytes.NewReader(data)); ; n++ {
		if _, err := tr.Next(); err == io.EOF {
			return n
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// BuildKit's own compressors get the same tar.
func TestDifferWithStockCompressor(t *testing.T) {
	r, s := newDifferRig(t), newSnapshots(t, "")
	gzip, _ := compression.Gzip.Compress(context.Background(), compression.New(compression.Gzip))
	desc, err := r.compareWith(context.Background(), s.view(2), s.view(3), gzip)
	noError(t, err)
	if !bytes.Equal(r.tarOf(t, desc), stockTar(t, s.view(2), s.view(3))) {
		t.Error("the tar is not stock BuildKit's")
	}
}

// The epoch gives what rewrite-timestamp would make of the layer, and the blob
// says so.
func TestDifferEpoch(t *testing.T) {
	r, s := newDifferRig(t), newSnapshots(t, "")
	epoch := time.Unix(1_000_000_000, 0)
	r.typ.epoch = &epoch
	desc, err := r.compare(context.Background(), s.view(1), s.view(2))
	noError(t, err)
	clamp := tarconverter.NewReader(bytes.NewReader(stockTar(t, s.view(1), s.view(2))), func(h *tar.Header) {
		if h.ModTime.After(epoch) {
			h.ModTime = epoch
		}
	})
	defer clamp.Close()
	want, err := io.ReadAll(clamp)
	noError(t, err)
	if !bytes.Equal(r.tarOf(t, desc), want) {
		t.Error("the tar is not the rewritten one")
	}
	head, err := readBlobHead(context.Background(), r.store, desc)
	noError(t, err)
	if head.record == nil || head.record.Epoch == nil || *head.record.Epoch != epoch.Unix() {
		t.Errorf("the record is %+v", head.record)
	}
}

// A blob that exists, here without a label, is as good.
func TestDifferExistingBlob(t *testing.T) {
	r, s := newDifferRig(t), newSnapshots(t, "")
	first, err := r.compare(context.Background(), nil, s.view(1))
	noError(t, err)
	_, err = r.store.Update(context.Background(), content.Info{Digest: first.Digest})
	noError(t, err)
	second, err := r.compare(context.Background(), nil, s.view(1))
	noError(t, err)
	r.clean(t)
	if first.Digest != second.Digest {
		t.Errorf("%s, then %s", first.Digest, second.Digest)
	}
	r.tarOf(t, second)
}

// stopping is lighter's compressor, whose destination does something after
// some bytes.
func (r *differRig) stopping(after int, do func() error) compression.Compressor {
	compress, _ := r.typ.Compress(context.Background(), compression.Config{})
	return func(dst io.Writer, mediaType string) (io.WriteCloser, error) {
		return compress(writerFunc(func(p []byte) (int, error) {
			if after -= len(p); after < 0 {
				if err := do(); err != nil {
					return 0, err
				}
			}
			return dst.Write(p)
		}), mediaType)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestDifferLeavesNothingBehind(t *testing.T) {
	full := errors.New("no space left on device")
	for _, after := range []int{0, 100, 9 << 20} {
		r, s := newDifferRig(t), newSnapshots(t, "")
		_, err := r.compareWith(context.Background(), nil, s.view(1), r.stopping(after, func() error { return full }))
		if !errors.Is(err, full) {
			t.Errorf("full disk after %d bytes: %v", after, err)
		}
		r.clean(t)
		ctx, cancel := context.WithCancel(context.Background())
		_, err = r.compareWith(ctx, nil, s.view(1), r.stopping(after, func() error { cancel(); <-ctx.Done(); return nil }))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled after %d bytes: %v", after, err)
		}
		r.clean(t)
		noError(t, os.Rename(s.dirs[0], s.dirs[0]+".moved"))
		if _, err = r.compare(context.Background(), nil, s.view(1)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a layer that is not there: %v", err)
		}
		noError(t, os.Rename(s.dirs[0]+".moved", s.dirs[0]))
		r.clean(t)
		desc, err := r.compare(context.Background(), nil, s.view(1)) // the reference is free
		noError(t, err)
		r.tarOf(t, desc)
		if len(r.stats) != 1 || len(r.typ.made.made) != 1 {
			t.Errorf("failures were counted: %+v, %+v", r.stats, r.typ.made.made)
		}
	}
}

// The file whose writeback is started early is the one that the store writes.
func TestWritebackFindsTheFile(t *testing.T) {
	r := newDifferRig(t)
	ctx := context.Background()
	for _, ref := range []string{"other", "ref"} {
		cw, err := r.store.Writer(ctx, content.WithRef(ref))
		noError(t, err)
		defer cw.Close()
		_, err = cw.Write([]byte(ref))
		noError(t, err)
	}
	b := startWriteback(r.Ingest, "ref")
	defer b.close()
	if b.f == nil {
		t.Fatal("not found")
	}
	data, err := os.ReadFile(b.f.Name())
	noError(t, err)
	if string(data) != "ref" {
		t.Errorf("it is the file of %q", data)
	}
	if startWriteback(r.Ingest, "ef").f != nil || startWriteback("", "ref").f != nil {
		t.Error("found what is not there")
	}
}
