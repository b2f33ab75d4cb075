package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/moby/buildkit/util/converter/tarconverter"
	"github.com/moby/buildkit/util/overlay"
	"golang.org/x/sys/unix"

	"github.com/lighter-oci/lighter/internal/layer"
)

// stack is a pile of overlayfs layers, the bottommost first, as a snapshotter
// keeps them: a directory for each.
type stack struct {
	root   string
	layers []string
	option string // of the overlay mounts, with a comma behind
}

// tb is what testing.T and rapid.T have in common.
type tb interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

func newStack(t *testing.T) *stack {
	return &stack{root: t.TempDir()}
}

func must(t tb, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// push adds a layer and lets fill change the file system with it on top: the
// bottommost directly, others through a real overlay mount.
func (s *stack) push(t tb, fill func(root string)) {
	t.Helper()
	dir := filepath.Join(s.root, fmt.Sprintf("l%d", len(s.layers)))
	must(t, os.Mkdir(dir, 0o755))
	if len(s.layers) == 0 {
		s.layers = append(s.layers, dir)
		fill(dir)
		return
	}
	work, root := dir+".work", dir+".mnt"
	must(t, os.Mkdir(work, 0o755))
	must(t, os.Mkdir(root, 0o755))
	// volatile: no fsync at each copy-up
	must(t, unix.Mount("overlay", root, "overlay", 0, s.option+"volatile,lowerdir="+strings.Join(reversed(s.layers), ":")+
		",upperdir="+dir+",workdir="+work))
	defer func() { must(t, unix.Unmount(root, 0)) }()
	fill(root)
	s.layers = append(s.layers, dir)
}

// raw adds a layer that fill writes without overlayfs.
func (s *stack) raw(t tb, fill func(dir string)) {
	t.Helper()
	dir := filepath.Join(s.root, fmt.Sprintf("l%d", len(s.layers)))
	must(t, os.Mkdir(dir, 0o755))
	s.layers = append(s.layers, dir)
	fill(dir)
}

func reversed(in []string) []string {
	out := make([]string, len(in))
	for i, v := range in {
		out[len(in)-1-i] = v
	}
	return out
}

// mounts are those that BuildKit's overlay snapshotter gives for the lowest n
// layers.
func (s *stack) mounts(n int) []mount.Mount {
	switch n {
	case 0:
		return nil
	case 1:
		return []mount.Mount{{Type: "bind", Source: s.layers[0], Options: []string{"rbind", "ro"}}}
	}
	return []mount.Mount{{Type: "overlay", Source: "overlay",
		Options: []string{"lowerdir=" + strings.Join(reversed(s.layers[:n]), ":")}}}
}

// stockUpperdir is BuildKit's tar of layer i.
func (s *stack) stockUpperdir(i int) ([]byte, error) {
	var out bytes.Buffer
	err := overlay.WriteUpperdir(context.Background(), &out, s.layers[i], s.mounts(i))
	return out.Bytes(), err
}

// oursUpperdir is lighter's tar of layer i.
func (s *stack) oursUpperdir(i int, epoch *time.Time) (out []byte, err error) {
	err = s.below(i, func(lower string) error {
		out, err = write(layer.ChangeSet{Upper: s.layers[i], Lower: lower, Epoch: epoch})
		return err
	})
	return out, err
}

// walked are both tars of what changed between the lowest a and the lowest b
// layers, found by comparing the mounted trees.
func (s *stack) walked(t tb, a, b int) (stock, ours []byte) {
	t.Helper()
	must(t, mount.WithTempMount(context.Background(), s.mounts(a), func(lower string) error {
		return mount.WithTempMount(context.Background(), s.mounts(b), func(upper string) error {
			var out bytes.Buffer
			must(t, archive.WriteDiff(context.Background(), &out, lower, upper))
			stock = out.Bytes()
			var err error
			ours, err = write(layer.ChangeSet{Upper: upper, Lower: lower, Merged: true})
			return err
		})
	}))
	return stock, ours
}

func (s *stack) below(i int, f func(lower string) error) error {
	switch i {
	case 0:
		return f("")
	case 1:
		return f(s.layers[0])
	}
	return mount.WithTempMount(context.Background(), s.mounts(i), f)
}

func write(cs layer.ChangeSet) ([]byte, error) {
	var out bytes.Buffer
	stats, err := layer.WriteChanges(context.Background(), &out, cs)
	if err == nil && stats.Bytes != int64(out.Len()) {
		err = fmt.Errorf("stats say %d bytes of %d", stats.Bytes, out.Len())
	}
	return out.Bytes(), err
}

// convert is BuildKit's rewrite-timestamp over a tar (util/converter, whose
// header function is not exported).
func convert(t tb, in []byte, epoch time.Time) []byte {
	t.Helper()
	r := tarconverter.NewReader(bytes.NewReader(in), func(h *tar.Header) {
		for _, at := range []*time.Time{&h.ModTime, &h.AccessTime, &h.ChangeTime} {
			if at.After(epoch) {
				*at = epoch
			}
		}
	})
	defer r.Close()
	out, err := io.ReadAll(r)
	must(t, err)
	return out
}

// check compares lighter's tar of every layer with BuildKit's, and the walked
// one of every pair, and the clamped ones.
func (s *stack) check(t tb) {
	t.Helper()
	epoch := time.Unix(1_500_000_000, 0)
	for i := range s.layers {
		stock, err := s.stockUpperdir(i)
		must(t, err)
		ours, err := s.oursUpperdir(i, nil)
		must(t, err)
		equal(t, fmt.Sprintf("layer %d", i), stock, ours)
		ours, err = s.oursUpperdir(i, &epoch)
		must(t, err)
		equal(t, fmt.Sprintf("layer %d with epoch", i), convert(t, stock, epoch), ours)
		for a := 0; a <= i; a++ {
			stock, ours := s.walked(t, a, i+1)
			equal(t, fmt.Sprintf("walk from %d to %d", a, i+1), stock, ours)
		}
	}
}

func equal(t tb, what string, stock, ours []byte) {
	t.Helper()
	if bytes.Equal(stock, ours) {
		return
	}
	t.Errorf("%s: the tar is not BuildKit's\nstock:\n%s\nours:\n%s", what, listing(stock), listing(ours))
}

func listing(data []byte) string {
	var b strings.Builder
	tr := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := tr.Next()
		if err != nil {
			fmt.Fprintf(&b, "  (%d bytes, %v)\n", len(data), err)
			return b.String()
		}
		body, _ := io.ReadAll(tr)
		fmt.Fprintf(&b, "  %c %o %d:%d %q -> %q %d %v dev %d,%d %v %q\n", h.Typeflag, h.Mode, h.Uid, h.Gid,
			h.Name, h.Linkname, h.Size, h.ModTime.UTC().Format(time.RFC3339Nano), h.Devmajor, h.Devminor, h.PAXRecords, body[:min(len(body), 20)])
	}
}

// setTime gives a path, which may be a link, a time of its own.
func setTime(t tb, path string, at time.Time) {
	t.Helper()
	ts := unix.NsecToTimespec(at.UnixNano())
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
}
