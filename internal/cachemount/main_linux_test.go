package cachemount

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
)

// tb is what *testing.T, *testing.B and *rapid.T have in common.
type tb interface {
	rapid.TB
	Cleanup(f func())
	Context() context.Context
}

// tempDir is a directory that goes with the test.
func tempDir(t tb) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lighter-cachemount-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

// testKey is the mount of tests that have one.
var testKey = Key{ID: "//root/.cache", Platform: "linux/amd64"}

// machine is a directory with an agent, as one machine has it.
type machine struct {
	Root
	pool *codec.Pool
}

func newMachine(t tb) *machine {
	t.Helper()
	dir := tempDir(t)
	m := &machine{Root{Dir: filepath.Join(dir, "mount"), Record: filepath.Join(dir, "state", "record")}, codec.NewPool(2)}
	if err := os.Mkdir(m.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.pool.Close() })
	return m
}

// session starts an agent and speaks to it.
func (m *machine) session(t tb) (s *Session, hangUp func()) {
	t.Helper()
	s, hangUp, err := m.dial(t, func(s io.ReadWriteCloser) io.ReadWriteCloser { return s })
	must(t, err)
	return s, hangUp
}

// dial is session over a stream that wrap puts something into. When hangUp
// returns, the agent has ended.
func (m *machine) dial(t tb, wrap func(io.ReadWriteCloser) io.ReadWriteCloser) (s *Session, hangUp func(), err error) {
	t.Helper()
	return dial(t, &Agent{Roots: map[string]Root{"m": m.Root}, Pool: m.pool}, wrap)
}

func dial(t tb, agent *Agent, wrap func(io.ReadWriteCloser) io.ReadWriteCloser) (s *Session, hangUp func(), err error) {
	t.Helper()
	here, there := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- agent.Serve(context.Background(), there) }()
	s, err = NewSession(t.Context(), wrap(here))
	return s, func() {
		_ = here.Close()
		if err := <-ended; err != nil && !errors.Is(err, ErrCut) {
			t.Errorf("agent: %v", err)
		}
	}, err
}

// push and pull are of the one mount.
func (m *machine) push(t tb, p Place, o PushOptions) (PushedMount, error) {
	t.Helper()
	s, hangUp := m.session(t)
	defer hangUp()
	out, err := Push(t.Context(), p, s, []PushMount{{Key: testKey, Root: "m"}}, o)
	if err != nil {
		return PushedMount{}, err
	}
	return out.Mounts[0], out.Mounts[0].Err
}

func (m *machine) pull(t tb, p Place, o ImportOptions) (ImportResult, error) {
	t.Helper()
	a, err := Open(t.Context(), p)
	if err != nil {
		return ImportResult{}, err
	}
	s, hangUp := m.session(t)
	defer hangUp()
	return Pull(t.Context(), p, a, testKey, s, "m", o)
}

func (m *machine) mustPush(t tb, p Place, o PushOptions) PushedMount {
	t.Helper()
	out, err := m.push(t, p, o)
	if err != nil {
		t.Fatalf("push: %v", err)
	}
	return out
}

func (m *machine) mustPull(t tb, p Place, o ImportOptions, want ImportAction) ImportResult {
	t.Helper()
	out, err := m.pull(t, p, o)
	if err != nil {
		t.Fatalf("pull: %v", err)
	}
	if out.Action != want {
		t.Fatalf("pull: %+v, want %s", out, want)
	}
	return out
}

// path is a name in the mount.
func (m *machine) path(elem ...string) string {
	return filepath.Join(append([]string{m.Dir}, elem...)...)
}

func (m *machine) write(t tb, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.path(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.path(name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// newPlace is an OCI layout.
func newPlace(t tb) Place {
	t.Helper()
	p, _ := newLayout(t)
	return p
}

// newLayout is one whose blobs lie in a directory, by their hex digests.
func newLayout(t tb) (p Place, blobs string) {
	t.Helper()
	dir := filepath.Join(tempDir(t), "layout")
	target, err := image.CreateLayout(dir)
	must(t, err)
	return Place{Source: func() (image.Source, error) { return image.OpenLayout(dir) }, Target: target, Name: "mounts"}, filepath.Join(dir, "blobs/sha256")
}

// untouched fails where a directory is not what it was, or has a stage.
func (m *machine) untouched(t tb, want []string) {
	t.Helper()
	same(t, want, describe(t, m.Dir))
}

func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "40"); err != nil { // a push to a layout waits for the disk many times
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// describe lists all there is to know of a directory, one line an entry: type
// and mode, owner, time, link, other names, attributes, content and holes.
func describe(t tb, dir string) []string {
	t.Helper()
	first := map[uint64]string{}
	var out []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%q %o %d:%d %d.%09d", name, st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
			if first[st.Ino] == "" {
				first[st.Ino] = name
			}
			line += fmt.Sprintf(" is %q", first[st.Ino])
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" -> %q", target)
		case unix.S_IFREG, unix.S_IFDIR:
			line += attributes(t, path)
			if st.Mode&unix.S_IFMT == unix.S_IFREG {
				line += content(t, path, st.Size)
			}
		}
		out = append(out, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func attributes(t tb, path string) string {
	b := make([]byte, 4096)
	n, err := unix.Listxattr(path, b)
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Split(strings.TrimSuffix(string(b[:n]), "\x00"), "\x00")
	slices.Sort(names)
	var line string
	for _, name := range names {
		if name == "" || name == "security.selinux" {
			continue
		}
		value := make([]byte, 70000)
		n, err := unix.Getxattr(path, name, value)
		if err != nil {
			t.Fatal(err)
		}
		line += fmt.Sprintf(" %s=%q", name, value[:n])
	}
	return line
}

func content(t tb, path string, size int64) string {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf(" %d %x", size, h.Sum(nil)[:8])
	for at := int64(0); at < size; {
		hole, err := unix.Seek(int(f.Fd()), at, unix.SEEK_HOLE)
		if err != nil || hole >= size {
			break
		}
		if at, err = unix.Seek(int(f.Fd()), hole, unix.SEEK_DATA); err != nil {
			at = size
		}
		line += fmt.Sprintf(" hole %d-%d", hole, at)
	}
	return line
}

func same(t tb, want, got []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the directories differ (-want +got):\n%s", diff)
	}
}
