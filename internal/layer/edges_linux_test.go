package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"

	"github.com/lighter-oci/lighter/internal/layer"
)

func names(t *testing.T, data []byte) []string {
	t.Helper()
	var out []string
	tr := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return out
		}
		must(t, err)
		out = append(out, h.Name)
	}
}

// An upperdir that refers to what is beneath it cannot be read by itself; the
// mounted view can.
func TestUpperdirThatRefersBelow(t *testing.T) {
	for option, change := range map[string]func(root string) error{
		"redirect_dir": func(root string) error { return os.Rename(root+"/d", root+"/e") },
		"metacopy":     func(root string) error { return os.Chmod(root+"/d/f", 0o600) },
	} {
		t.Run(option, func(t *testing.T) {
			s := newStack(t)
			s.option = option + "=on,"
			s.push(t, func(root string) {
				must(t, os.Mkdir(root+"/d", 0o755))
				writeFile(t, root+"/d/f", "contents", whole)
			})
			s.push(t, func(root string) { must(t, change(root)) })
			if _, err := s.oursUpperdir(1, nil); !errors.Is(err, layer.ErrUnsupported) {
				t.Errorf("error is %v", err)
			}
		})
	}
}

// In a whole tree a device 0/0 is a device; below a mount it may be a leftover
// that overlayfs lists but does not know.
func TestWhiteoutsOutOfPlace(t *testing.T) {
	s := newStack(t)
	s.raw(t, func(dir string) {
		must(t, os.Mkdir(dir+"/d", 0o755))
		must(t, unix.Mknod(dir+"/d/c", unix.S_IFCHR|0o666, 0))
		writeFile(t, dir+"/d/f", "x", whole)
	})
	s.raw(t, func(string) {})
	data, err := write(layer.ChangeSet{Upper: s.layers[0], Merged: true})
	must(t, err)
	if got, want := names(t, data), []string{"d/", "d/c", "d/f"}; !slices.Equal(got, want) {
		t.Errorf("the tree has %q, want %q", got, want)
	}
	must(t, mount.WithTempMount(context.Background(), s.mounts(2), func(root string) error {
		data, err = write(layer.ChangeSet{Upper: root, Merged: true})
		return err
	}))
	if got, want := names(t, data), []string{"d/", "d/f"}; !slices.Equal(got, want) {
		t.Errorf("the mounted tree has %q, want %q", got, want)
	}
}

// Names beneath are looked up without following links: what is reached through
// one is not what is at that path. BuildKit follows them, takes the new file
// for the old one, and leaves it out of the layer.
func TestLowerLinks(t *testing.T) {
	s := newStack(t)
	outside := t.TempDir()
	writeFile(t, outside+"/x", "same", precise)
	s.raw(t, func(dir string) {
		must(t, os.Mkdir(dir+"/real", 0o755))
		writeFile(t, dir+"/real/x", "same", precise)
		must(t, os.Symlink("real", dir+"/inside"))
		must(t, os.Symlink(outside, dir+"/outside"))
	})
	s.raw(t, func(dir string) {
		for _, d := range []string{"inside", "outside"} {
			must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
			writeFile(t, filepath.Join(dir, d, "x"), "same", precise)
		}
	})
	data, err := s.oursUpperdir(1, nil)
	must(t, err)
	want := []string{"inside/", "inside/x", "outside/", "outside/x"}
	if got := names(t, data); !slices.Equal(got, want) {
		t.Errorf("the tar has %q, want %q", got, want)
	}
}

// frames is a writer as the encoder is: it reads into buffers of its own, whose
// ends have nothing to do with those of files.
type frames struct {
	out  bytes.Buffer
	size int
}

func (f *frames) Write(p []byte) (int, error) { return f.out.Write(p) }

func (f *frames) ReadFrom(r io.Reader) (n int64, err error) {
	buf := make([]byte, f.size)
	for {
		k, err := r.Read(buf)
		f.out.Write(buf[:k])
		n += int64(k)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

func TestReaderFrom(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []int{0, 1, 511, 512, 513, 4 << 20} {
		writeFile(t, filepath.Join(dir, time.Duration(n).String()), strings.Repeat("y", n), whole)
	}
	want, err := write(layer.ChangeSet{Upper: dir})
	must(t, err)
	for _, size := range []int{7, 512, 8 << 20} {
		f := frames{size: size}
		stats, err := layer.WriteChanges(context.Background(), &f, layer.ChangeSet{Upper: dir})
		must(t, err)
		equal(t, "through ReadFrom", want, f.out.Bytes())
		if stats.Entries != 6 || stats.Bytes != int64(len(want)) {
			t.Errorf("stats are %+v", stats)
		}
	}
}

// cancelling is a writer that cancels when it has seen some bytes.
type cancelling struct {
	after, seen int
	cancel      func()
}

func (c *cancelling) Write(p []byte) (int, error) {
	if c.seen += len(p); c.seen >= c.after {
		c.cancel()
	}
	return len(p), nil
}

func TestCancel(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Truncate(create(t, dir+"/huge"), 1<<40)) // hours of work
	for i := range 1000 {
		create(t, filepath.Join(dir, time.Duration(i).String()))
	}
	open := openFiles(t)
	for _, after := range []int{1, 1 << 20, 32 << 20} {
		ctx, cancel := context.WithCancel(context.Background())
		_, err := layer.WriteChanges(ctx, &cancelling{after: after, cancel: cancel}, layer.ChangeSet{Upper: dir})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled after %d bytes: %v", after, err)
		}
	}
	if n := openFiles(t); n != open {
		t.Errorf("%d files are open, %d were before", n, open)
	}
}

func create(t *testing.T, path string) string {
	must(t, os.WriteFile(path, []byte("x"), 0o644))
	return path
}

func openFiles(t *testing.T) int {
	dir, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(dir)
}

// truncating is a writer that gives a file another size once its header has
// gone by.
type truncating struct {
	bytes.Buffer
	path string
	size int64
}

func (w *truncating) Write(p []byte) (int, error) {
	if w.Len() == 0 {
		if err := os.Truncate(w.path, w.size); err != nil {
			return 0, err
		}
	}
	return w.Buffer.Write(p)
}

func TestGrowingFile(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/f", make([]byte, 100), 0o644))
	want, err := write(layer.ChangeSet{Upper: dir})
	must(t, err)
	out := &truncating{path: dir + "/f", size: 1000}
	_, err = layer.WriteChanges(context.Background(), out, layer.ChangeSet{Upper: dir})
	must(t, err)
	equal(t, "a file that grew", want, out.Bytes())
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/f", make([]byte, 100), 0o644))
	for what, f := range map[string]func() error{
		"no upper": func() error { _, err := write(layer.ChangeSet{Upper: dir + "/none"}); return err },
		"no lower": func() error { _, err := write(layer.ChangeSet{Upper: dir, Lower: dir + "/none"}); return err },
		"short file": func() error {
			_, err := layer.WriteChanges(context.Background(), &truncating{path: dir + "/f", size: 3}, layer.ChangeSet{Upper: dir})
			return err
		},
	} {
		err := f()
		if err == nil || (what == "short file" && !strings.Contains(err.Error(), "write f: the file has 3 bytes now and had 100")) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
