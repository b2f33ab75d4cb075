package layer_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

var (
	whole   = time.Unix(1_400_000_000, 0)           // may have been cut by a tar
	precise = time.Unix(1_600_000_000, 123_456_789) // after the epoch of check
)

func writeFile(t tb, path, data string, at time.Time) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(data), 0o644))
	setTime(t, path, at)
}

// capNetRaw is cap_net_raw+ep as setcap writes it (VFS_CAP_REVISION_2).
var capNetRaw = []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")

func TestKindsOfFiles(t *testing.T) {
	s := newStack(t)
	s.push(t, func(root string) {
		p := func(name string) string { return filepath.Join(root, name) }
		must(t, os.MkdirAll(p("d/e/f"), 0o755))
		must(t, os.Mkdir(p("empty"), 0o700))
		writeFile(t, p("d/plain"), "hello", precise)
		writeFile(t, p("d/nothing"), "", whole)
		writeFile(t, p("d/old"), "before 1970", time.Unix(-5, 999))
		writeFile(t, p("d/future"), "beyond octal", time.Unix(1<<33+7, 1)) // 2242
		writeFile(t, p("d/block"), strings.Repeat("x", 512), whole)
		writeFile(t, p("d/big"), strings.Repeat("0123456789abcdef", 300_001), precise)
		f, err := os.Create(p("d/sparse"))
		must(t, err)
		must(t, f.Truncate(3<<20))
		_, err = f.WriteAt([]byte("island"), 1<<20)
		must(t, err)
		must(t, f.Close())
		must(t, os.Symlink("plain", p("d/link")))
		must(t, os.Symlink(strings.Repeat("../", 60)+"far", p("d/longlink")))
		must(t, os.Symlink("\xff\xfe", p("d/badlink")))
		must(t, os.Link(p("d/plain"), p("d/e/hard")))
		must(t, os.Link(p("d/plain"), p("another")))
		must(t, os.Link(p("d/link"), p("d/link2")))
		must(t, unix.Mkfifo(p("d/fifo"), 0o600))
		must(t, os.Link(p("d/fifo"), p("d/fifo2")))
		must(t, unix.Mknod(p("d/char"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		must(t, os.Link(p("d/char"), p("d/char2")))
		must(t, unix.Mknod(p("d/disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
		l, err := net.Listen("unix", p("d/socket"))
		must(t, err)
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		must(t, l.Close())
		writeFile(t, p("d/\xc3\x28 bad utf8"), "x", whole)
		writeFile(t, p("d/größe"), "x", whole)
		writeFile(t, p("d/"+strings.Repeat("n", 255)), "long", whole)
		deep := strings.Repeat(strings.Repeat("p", 60)+"/", 20)
		must(t, os.MkdirAll(p(deep), 0o755))
		writeFile(t, p(deep+"end"), "deep", whole)
		must(t, os.Link(p(deep+"end"), p("d/todeep")))
		writeFile(t, p("d/huge-owner"), "x", whole)
		must(t, os.Lchown(p("d/huge-owner"), 4_000_000_000, 3_000_000))
		writeFile(t, p("d/suid"), "x", whole)
		must(t, unix.Chmod(p("d/suid"), 0o6755))
		must(t, unix.Chmod(p("d/e"), 0o1777))
		writeFile(t, p("d/cap"), "x", whole)
		must(t, unix.Lsetxattr(p("d/cap"), "security.capability", capNetRaw, 0))
		must(t, unix.Lsetxattr(p("d/cap"), "user.other", []byte(strings.Repeat("v", 2000)), 0))
		writeFile(t, p("d/emptycap"), "", whole)
		must(t, unix.Lsetxattr(p("d/emptycap"), "security.capability", capNetRaw, 0))
		must(t, os.Link(p("d/cap"), p("d/cap2")))
		for i := range 40 { // more names than the first buffer holds
			must(t, unix.Lsetxattr(p("d/e"), fmt.Sprintf("user.attribute-with-a-long-name-%03d", i), nil, 0))
		}
	})
	s.push(t, func(root string) {})
	s.check(t)
}

func TestChangesAboveOthers(t *testing.T) {
	s := newStack(t)
	fill := func(dir string) {
		must(t, os.MkdirAll(dir+"/sub/deeper", 0o755))
		for _, f := range []string{"a", "b", "c", "sub/x", "sub/y", "sub/deeper/z"} {
			writeFile(t, dir+"/"+f, "contents of "+f, whole)
		}
		must(t, os.Link(dir+"/a", dir+"/sub/a2"))
		must(t, os.Symlink("a", dir+"/sl"))
		setTime(t, dir+"/sl", whole)
	}
	dirs := []string{"touched", "rewritten", "deleted", "replaced", "recreated", "emptied", "linked", "renamed", "swapped", "chmod"}
	s.push(t, func(root string) {
		for _, d := range dirs {
			fill(filepath.Join(root, d))
		}
		writeFile(t, root+"/file-to-dir", "x", whole)
		must(t, unix.Mknod(root+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	})
	s.push(t, func(root string) { // from the overlay of two on
		must(t, os.Mkdir(root+"/mid", 0o755))
		writeFile(t, root+"/mid/only", "mid", precise)
		must(t, os.Remove(root+"/deleted/b"))
	})
	s.push(t, func(root string) {
		p := func(name string) string { return filepath.Join(root, name) }
		setTime(t, p("touched/a"), whole) // copied up, and not changed
		setTime(t, p("touched/sub/x"), precise)
		setTime(t, p("touched/sl"), whole)
		must(t, unix.Lsetxattr(p("touched/b"), "security.capability", capNetRaw, 0)) // and nothing else
		setTime(t, p("null"), time.Unix(5, 0))
		writeFile(t, p("rewritten/a"), "CONTENTS of a", whole) // same size, same time
		writeFile(t, p("rewritten/sub/deeper/z"), "other", precise)
		must(t, os.RemoveAll(p("deleted")))
		must(t, os.RemoveAll(p("replaced")))
		writeFile(t, p("replaced"), "now a file", precise)
		must(t, os.Remove(p("file-to-dir")))
		must(t, os.Mkdir(p("file-to-dir"), 0o755))
		writeFile(t, p("file-to-dir/x"), "x", precise)
		must(t, os.RemoveAll(p("recreated")))
		must(t, os.Mkdir(p("recreated"), 0o755))
		fill(p("recreated")) // all like before but for a and its links
		writeFile(t, p("recreated/a"), "changed", precise)
		must(t, os.Remove(p("recreated/sub/y")))
		must(t, os.RemoveAll(p("emptied")))
		must(t, os.Mkdir(p("emptied"), 0o755))
		must(t, os.Link(p("linked/a"), p("linked/sub/new")))
		must(t, os.Link(p("linked/b"), p("linked/b2")))
		_ = os.Rename(p("renamed"), p("moved")) // EXDEV without redirect_dir
		must(t, os.Rename(p("swapped/a"), p("swapped/b")))
		must(t, os.Chmod(p("chmod/sub"), 0o700))
		must(t, os.Lchown(p("chmod/c"), 7, 7))
		writeFile(t, p("mid/only"), "mid", precise)
	})
	s.push(t, func(root string) {
		must(t, os.Remove(root+"/mid/only"))
		must(t, os.RemoveAll(root+"/recreated/sub"))
	})
	s.check(t)
}

// Opaque directories, written as an unpacking snapshotter does.
func TestOpaque(t *testing.T) {
	for _, key := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		t.Run(key, func(t *testing.T) {
			s := newStack(t)
			fill := func(dir string) {
				must(t, os.MkdirAll(dir+"/d/in/ner", 0o755))
				must(t, os.MkdirAll(dir+"/d/other", 0o755))
				must(t, os.MkdirAll(dir+"/d/z-links", 0o755))
				for _, f := range []string{"a", "in/b", "in-c", "in/ner/d", "z"} {
					writeFile(t, dir+"/d/"+f, f, precise)
				}
				must(t, os.Link(dir+"/d/a", dir+"/d/other/a2"))
				must(t, os.Link(dir+"/d/a", dir+"/d/z-links/a3"))
			}
			s.push(t, func(root string) {
				fill(root)
				writeFile(t, root+"/d/gone", "x", whole)
				must(t, os.MkdirAll(root+"/d/gone-dir/sub", 0o755))
				writeFile(t, root+"/d/gone-dir/sub/x", "x", whole)
				writeFile(t, root+"/f", "x", whole)
			})
			s.raw(t, func(dir string) {
				fill(dir)
				must(t, os.Remove(dir+"/d/in/b"))
				writeFile(t, dir+"/d/new", "new", precise)
				must(t, os.Link(dir+"/d/a", dir+"/d/q-new"))
				must(t, unix.Lsetxattr(dir+"/d", key, []byte("y"), 0))
				must(t, unix.Lsetxattr(dir+"/d/in", key, []byte("y"), 0))
				must(t, os.Mkdir(dir+"/f", 0o755)) // opaque over a file
				must(t, unix.Lsetxattr(dir+"/f", key, []byte("y"), 0))
				writeFile(t, dir+"/f/x", "x", whole)
				must(t, os.Mkdir(dir+"/n", 0o755)) // opaque over nothing
				must(t, unix.Lsetxattr(dir+"/n", key, []byte("y"), 0))
				writeFile(t, dir+"/n/x", "x", whole)
			})
			for i := range s.layers {
				stock, err := s.stockUpperdir(i)
				must(t, err)
				ours, err := s.oursUpperdir(i, nil)
				must(t, err)
				equal(t, fmt.Sprintf("layer %d", i), stock, ours)
			}
		})
	}
}

// Any sequence of changes, through real overlay mounts.
func TestLikeBuildKit(t *testing.T) {
	n := 0
	base := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		n++
		dir := filepath.Join(base, fmt.Sprint(n))
		must(rt, os.Mkdir(dir, 0o755))
		defer os.RemoveAll(dir)
		s := &stack{root: dir}
		for range rapid.IntRange(1, 4).Draw(rt, "layers") {
			ops := rapid.SliceOfN(rapid.Custom(drawOp), 0, 25).Draw(rt, "ops")
			s.push(rt, func(root string) {
				for _, o := range ops {
					o.apply(root)
				}
			})
		}
		s.check(rt)
	})
}

// op is one change. Those that the state does not allow do nothing.
type op struct {
	Kind       string
	Path, Peer string
	N          int
}

func drawOp(t *rapid.T) op {
	kinds := []string{"file", "file", "file", "dir", "dir", "symlink", "link", "link", "remove", "removeall", "recreate",
		"rename", "chmod", "chown", "cap", "time", "fifo", "char", "socket", "samefile"}
	return op{
		Kind: rapid.SampledFrom(kinds).Draw(t, "kind"),
		Path: drawPath(t), Peer: drawPath(t),
		N: rapid.IntRange(0, 5).Draw(t, "n"),
	}
}

func drawPath(t *rapid.T) string {
	names := []string{"a", "b", "a-", "a.b", "ü"}
	parts := make([]string, rapid.IntRange(1, 3).Draw(t, "depth"))
	for i := range parts {
		parts[i] = rapid.SampledFrom(names).Draw(t, "name")
	}
	return strings.Join(parts, "/")
}

func (o op) apply(root string) {
	// BuildKit follows links in the lower tree (see TestLowerLinks), so no name
	// is a link in one layer and a directory in another.
	if o.Kind == "symlink" {
		o.Path += ".ln"
	}
	path, peer := filepath.Join(root, o.Path), filepath.Join(root, o.Peer)
	if fi, err := os.Lstat(filepath.Dir(path)); err != nil || !fi.IsDir() {
		return // os.RemoveAll opens it, which would block on a fifo
	}
	times := []time.Time{whole, precise, time.Unix(1_450_000_000, 0), time.Unix(1_450_000_000, 1), time.Unix(0, 0), time.Unix(1<<34, 0)}
	at := unix.NsecToTimespec(times[o.N].UnixNano())
	switch o.Kind {
	case "file", "samefile":
		data := strings.Repeat(fmt.Sprint(o.N), o.N*300)
		if o.Kind == "samefile" {
			data = "same"
		}
		if fi, err := os.Lstat(path); err == nil && !fi.Mode().IsRegular() {
			return // opening a fifo would block
		}
		_ = os.WriteFile(path, []byte(data), 0o644)
	case "dir":
		_ = os.MkdirAll(path, 0o755)
	case "symlink":
		_ = os.Symlink(strings.Repeat("t", 1+o.N), path)
	case "link":
		_ = os.Link(peer, path)
	case "remove":
		_ = os.Remove(path)
	case "removeall":
		_ = os.RemoveAll(path)
	case "recreate":
		_ = os.RemoveAll(path)
		_ = os.MkdirAll(path, 0o755)
		_ = os.WriteFile(path+"/b", []byte("same"), 0o644)
		_ = unix.UtimesNanoAt(unix.AT_FDCWD, path+"/b", []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
	case "rename":
		_ = os.Rename(peer, path)
	case "chmod":
		_ = unix.Chmod(path, []uint32{0o644, 0o755, 0o4755, 0o1777, 0, 0o600}[o.N])
	case "chown":
		_ = os.Lchown(path, o.N, o.N*1_000_000)
	case "cap":
		_ = unix.Lsetxattr(path, "security.capability", capNetRaw, 0)
	case "fifo":
		_ = unix.Mkfifo(path, 0o644)
	case "char":
		_ = unix.Mknod(path, unix.S_IFCHR|0o644, int(unix.Mkdev(1, uint32(o.N))))
	case "socket":
		_ = unix.Mknod(path, unix.S_IFSOCK|0o644, 0)
	}
	_ = unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
}
