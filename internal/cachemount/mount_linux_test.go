package cachemount

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/lighter-oci/lighter/internal/image"
)

// noise is content that does not compress.
func noise(seed uint64, n int) string {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = r.Read(b)
	return string(b)
}

func must(t tb, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// odd makes a directory with one of everything that must survive.
func (m *machine) odd(t tb) {
	m.write(t, "a/plain", "content")
	m.write(t, "a/empty", "")
	m.write(t, "a/new\nline \xff\xfe", "odd name")
	m.write(t, "large", noise(1, 9<<20))
	m.write(t, "zeros", strings.Repeat("\x00", 3<<20))
	m.write(t, "z/setuid", "#!")
	must(t, os.Chmod(m.path("z/setuid"), 0o755|os.ModeSetuid))
	must(t, os.Mkdir(m.path("z/closed"), 0o555))
	must(t, os.Mkdir(m.path("z/sticky"), 0o777|os.ModeSticky|os.ModeSetgid))
	must(t, os.Chmod(m.path("z/sticky"), 0o777|os.ModeSticky|os.ModeSetgid))
	must(t, os.Link(m.path("a/plain"), m.path("z/other")))
	must(t, os.Symlink("../../etc/passwd", m.path("z/link")))
	must(t, os.Link(m.path("z/link"), m.path("z/link2")))
	must(t, unix.Mkfifo(m.path("z/fifo"), 0o640))
	must(t, unix.Setxattr(m.path("a/plain"), "user.lighter", []byte("x\x00y"), 0))
	must(t, unix.Setxattr(m.path("a"), "user.dir", nil, 0))
	must(t, unix.Setxattr(m.path("z/setuid"), "security.capability", []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
	f, err := os.Create(m.path("sparse"))
	must(t, err)
	_, err = f.WriteAt([]byte(noise(2, 100<<10)), 5<<20)
	must(t, err)
	_, err = f.WriteAt([]byte("tail"), 40<<20)
	must(t, err)
	must(t, f.Truncate(64<<20))
	must(t, f.Close())
	must(t, os.Truncate(m.path("a/empty"), 12345)) // a hole and nothing else
	must(t, os.Lchown(m.path("z/link"), 12, 34))
	must(t, os.Chown(m.path("a/plain"), 1000, 100000))
	must(t, os.Chtimes(m.path("a/plain"), time.Time{}, time.Unix(-5, 7)))
	must(t, os.Chtimes(m.path("z"), time.Time{}, time.Unix(4_000_000_000, 999_999_999)))
	must(t, os.Chmod(m.Dir, 0o1777))
}

func TestRoundTrip(t *testing.T) {
	p := newPlace(t)
	a, b := newMachine(t), newMachine(t)
	a.odd(t)
	want := describe(t, a.Dir)
	pushed := a.mustPush(t, p, PushOptions{})
	if pushed.Unkept > 0 || pushed.Files != 11 {
		t.Errorf("pushed %+v", pushed.Exported)
	}
	same(t, want, describe(t, a.Dir))
	got := b.mustPull(t, p, ImportOptions{}, Imported)
	if got.Files != pushed.Files || got.Size != pushed.Size || got.Unset > 0 {
		t.Errorf("pulled %+v of %+v", got, pushed.Exported)
	}
	same(t, want, describe(t, b.Dir))
	b.mustPull(t, p, ImportOptions{}, Unchanged)
	a.mustPull(t, p, ImportOptions{}, Unchanged)
}

// Who remembers what the artifact is like does not fetch its tree to push; who does
// not, does.
func TestRememberedTreeStays(t *testing.T) {
	p := newPlace(t)
	var fetched []string
	open := p.Source
	p.Source = func() (image.Source, error) {
		s, err := open()
		return &watched{s, func(d ocispec.Descriptor) { fetched = append(fetched, d.MediaType) }}, err
	}
	a := newMachine(t)
	a.write(t, "f", "one")
	a.mustPush(t, p, PushOptions{})
	for _, remembers := range []bool{true, false} {
		fetched = nil
		a.write(t, "f", fmt.Sprint(remembers))
		if !remembers {
			must(t, os.Remove(a.Record))
		}
		a.mustPush(t, p, PushOptions{})
		if got := slices.Contains(fetched, mediaTypeTree); got == remembers {
			t.Errorf("remembers: %v, fetched the tree: %v, of %v", remembers, got, fetched)
		}
	}
}

// watched tells what is fetched.
type watched struct {
	image.Source
	fetches func(ocispec.Descriptor)
}

func (w *watched) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	w.fetches(desc)
	return w.Source.Fetch(ctx, desc)
}

func (w *watched) Close() error {
	release(w.Source)
	return nil
}

func TestOnlyChangesTravel(t *testing.T) {
	p := newPlace(t)
	a, b := newMachine(t), newMachine(t)
	for i := range 40 {
		a.write(t, "dir/"+string(rune('a'+i)), noise(uint64(i), 50<<10))
	}
	a.write(t, "large", noise(99, 20<<20))
	first := a.mustPush(t, p, PushOptions{})
	b.mustPull(t, p, ImportOptions{}, Imported)

	again := b.mustPush(t, p, PushOptions{})
	if again.Read != 0 || again.New != 0 {
		t.Errorf("nothing changed, and the push read %d bytes and packed %d", again.Read, again.New)
	}
	b.write(t, "dir/a", "changed")
	must(t, os.Remove(b.path("dir/b")))
	large := []byte(noise(99, 20<<20))
	must(t, os.WriteFile(b.path("large"), bytes.Join([][]byte{large[:7<<20], []byte("inserted"), large[7<<20:]}, nil), 0o644))
	second := b.mustPush(t, p, PushOptions{})
	if second.New > 9<<20 || second.Sent > first.Sent/2 {
		t.Errorf("one insertion into %d bytes: %d packed, %d sent", first.Size, second.New, second.Sent)
	}
	got := a.mustPull(t, p, ImportOptions{}, Imported)
	if got.Fetched > second.Sent+1<<20 || got.Reused != 38 {
		t.Errorf("an import beside what was there: %+v", got)
	}
	same(t, describe(t, b.Dir), describe(t, a.Dir))
}
