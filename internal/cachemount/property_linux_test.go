package cachemount

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// garden is a directory that a property test changes at random.
type garden struct {
	m   *machine
	dir []string // directories, "" first
	all []string // everything else
}

var names = rapid.Custom(func(t *rapid.T) string {
	b := rapid.SliceOfN(rapid.ByteRange(1, 255), 1, 6).Draw(t, "name")
	for i := range b {
		if b[i] == '/' {
			b[i] = '.'
		}
	}
	if s := string(b); s != "." && s != ".." {
		return s
	}
	return "dots"
})

// grow makes, changes or removes one thing.
func (g *garden) grow(t *rapid.T) {
	check := func(err error) { must(t, err) }
	fresh := func() string {
		name := filepath.Join(rapid.SampledFrom(g.dir).Draw(t, "in"), names.Draw(t, "name"))
		if slices.Contains(g.all, name) || slices.Contains(g.dir, name) {
			return ""
		}
		return name
	}
	old := func() string {
		if len(g.all) == 0 {
			return ""
		}
		return rapid.SampledFrom(g.all).Draw(t, "old")
	}
	what := rapid.SampledFrom([]string{"file", "file", "file", "change", "change", "large", "sparse", "dir", "link", "hard", "fifo", "mode", "owner", "time", "xattr", "remove", "rename"}).Draw(t, "what")
	switch name := fresh(); what {
	case "file", "large", "sparse", "dir", "link", "fifo":
		if name == "" {
			return
		}
		switch path := g.m.path(name); what {
		case "file":
			check(os.WriteFile(path, rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "content"), 0o644))
		case "large":
			check(os.WriteFile(path, []byte(noise(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(1<<20, 3<<20).Draw(t, "size"))), 0o600))
		case "sparse":
			f, err := os.Create(path)
			check(err)
			for range rapid.IntRange(0, 3).Draw(t, "islands") {
				_, err := f.WriteAt([]byte("island"), rapid.Int64Range(0, 4<<20).Draw(t, "at"))
				check(err)
			}
			check(f.Truncate(rapid.Int64Range(0, 5<<20).Draw(t, "size")))
			check(f.Close())
		case "dir":
			check(os.Mkdir(path, 0o755))
			g.dir = append(g.dir, name)
			return
		case "link":
			check(os.Symlink(names.Draw(t, "target"), path))
		case "fifo":
			check(unix.Mkfifo(path, 0o600))
		}
		g.all = append(g.all, name)
	case "hard":
		if from := old(); from != "" && name != "" {
			check(os.Link(g.m.path(from), g.m.path(name)))
			g.all = append(g.all, name)
		}
	case "rename":
		if from := old(); from != "" && name != "" {
			check(os.Rename(g.m.path(from), g.m.path(name)))
			g.all[slices.Index(g.all, from)] = name
		}
	case "remove":
		if from := old(); from != "" {
			check(os.Remove(g.m.path(from)))
			g.all = slices.DeleteFunc(g.all, func(s string) bool { return s == from })
		}
	default:
		g.change(t, what, old(), check)
	}
}

// change changes what is there: a directory where old is "".
func (g *garden) change(t *rapid.T, what, old string, check func(error)) {
	if old == "" || rapid.IntRange(0, 3).Draw(t, "dir") == 0 {
		old = rapid.SampledFrom(g.dir).Draw(t, "dir")
	}
	path := g.m.path(old)
	st, err := os.Lstat(path)
	check(err)
	link, file := st.Mode()&os.ModeSymlink != 0, st.Mode().IsRegular()
	switch {
	case what == "change" && file:
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		check(err)
		_, err = f.WriteAt([]byte(noise(rapid.Uint64().Draw(t, "seed"), 10)), rapid.Int64Range(0, max(st.Size(), 1)).Draw(t, "at"))
		check(err)
		check(f.Close())
	case what == "owner":
		check(os.Lchown(path, rapid.IntRange(0, 70000).Draw(t, "uid"), rapid.IntRange(0, 70000).Draw(t, "gid")))
	case what == "mode" && !link:
		check(unix.Chmod(path, rapid.Uint32Range(0, 0o7777).Draw(t, "mode")))
	case what == "time":
		ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: rapid.Int64Range(-1<<31, 1<<33).Draw(t, "sec"), Nsec: rapid.Int64Range(0, 999_999_999).Draw(t, "nsec")}}
		check(unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW))
	case what == "xattr" && (file || st.IsDir()):
		name := "user." + strconv.Itoa(rapid.IntRange(0, 3).Draw(t, "xattr"))
		if rapid.Bool().Draw(t, "set") {
			check(unix.Setxattr(path, name, rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "value"), 0))
		} else if err := unix.Removexattr(path, name); err != unix.ENODATA {
			check(err)
		}
	}
}

// Whatever is done to a directory, after a push the machine that pulls has the
// same, whether it had nothing or the state before.
func TestBulkAnyDirectoryTravels(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPlace(t)
		g := &garden{m: newMachine(t), dir: []string{""}}
		follower := newMachine(t)
		for range rapid.IntRange(1, 3).Draw(t, "rounds") {
			for range rapid.IntRange(1, 20).Draw(t, "changes") {
				g.grow(t)
			}
			want := describe(t, g.m.Dir)
			g.m.mustPush(t, p, PushOptions{Settle: time.Nanosecond})
			same(t, want, describe(t, g.m.Dir))
			if _, err := follower.pull(t, p, ImportOptions{Replace: true}); err != nil {
				t.Fatal(err)
			}
			same(t, want, describe(t, follower.Dir))
		}
		want := describe(t, g.m.Dir)
		fresh := newMachine(t)
		fresh.mustPull(t, p, ImportOptions{}, Imported)
		same(t, want, describe(t, fresh.Dir))
	})
}

// drawTree draws a tree that passes check.
func drawTree(t *rapid.T, chunks []chunk) tree {
	out := tree{{parent: -1, mode: typeDir | 0o755}}
	var fill func(in int32, depth int)
	fill = func(in int32, depth int) {
		all := rapid.SliceOfNDistinct(names, 0, 4, rapid.ID).Draw(t, "names")
		slices.Sort(all)
		for _, name := range all {
			e := entry{parent: in, name: name, uid: rapid.Uint32().Draw(t, "uid"), gid: 7, used: rapid.Int64Range(0, 1<<20).Draw(t, "used"),
				mtime: timespec{rapid.Int64().Draw(t, "sec") >> 2, rapid.Uint32Range(0, 999_999_999).Draw(t, "nsec")}}
			e.mode = rapid.SampledFrom(kinds[:]).Draw(t, "kind") | rapid.Uint32Range(0, 0o7777).Draw(t, "mode")
			switch e.kind() {
			case typeSymlink:
				e.link = names.Draw(t, "link")
			case typeFile:
				e.runs = []run{}
				for range rapid.IntRange(0, 3).Draw(t, "runs") {
					r := run{noChunk, rapid.Int64Range(1, 1<<40).Draw(t, "hole")}
					n := r.hole
					if rapid.Bool().Draw(t, "chunk") {
						r = run{chunk: rapid.Int32Range(0, int32(len(chunks)-1)).Draw(t, "number")}
						n = int64(chunks[r.chunk].size)
					}
					e.runs, e.size = append(e.runs, r), e.size+n
				}
			}
			if rapid.IntRange(0, 4).Draw(t, "xattrs") == 0 {
				e.xattrs = []xattr{{"user.x", rapid.SliceOfN(rapid.Byte(), 1, 9).Draw(t, "value")}}
			}
			i := int32(len(out))
			if last := i - 1; !e.isDir() && out[last].kind() == e.kind() && !out[last].isAlias() && rapid.IntRange(0, 4).Draw(t, "alias") == 0 {
				e = entry{parent: in, name: name, mode: e.kind(), same: last}
			}
			out = append(out, e)
			if e.isDir() && depth < 3 {
				fill(i, depth+1)
			}
		}
	}
	fill(0, 0)
	return out
}

func TestTreeRoundTrip(t *testing.T) {
	chunks := make([]chunk, 50)
	for i := range chunks {
		chunks[i].size = uint32(i + 1)
	}
	rapid.Check(t, func(t *rapid.T) {
		want := drawTree(t, chunks)
		got, err := decodeTree(want.encode(), chunks)
		if err != nil {
			t.Fatal(err)
		}
		if a, b := fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", got); a != b {
			t.Fatalf("\n%s\nbecame\n%s", a, b)
		}
	})
}
