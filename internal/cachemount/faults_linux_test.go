package cachemount

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// fraying ends a stream after so many bytes, both directions together.
type fraying struct {
	io.ReadWriteCloser
	left atomic.Int64
}

func (f *fraying) Read(p []byte) (int, error)  { return f.count(f.ReadWriteCloser.Read(p)) }
func (f *fraying) Write(p []byte) (int, error) { return f.count(f.ReadWriteCloser.Write(p)) }

func (f *fraying) count(n int, err error) (int, error) {
	if f.left.Add(-int64(n)) < 0 {
		_ = f.Close()
		return n, io.ErrClosedPipe
	}
	return n, err
}

func (f *fraying) wrap(inner io.ReadWriteCloser) io.ReadWriteCloser {
	f.ReadWriteCloser = inner
	return f
}

// mixed is a mount of small files and a large one.
func mixed(t tb, m *machine, seed uint64) {
	t.Helper()
	for i := range 60 {
		m.write(t, "d"+string(rune('a'+i%5))+"/"+string(rune('a'+i)), noise(seed+uint64(i), 20<<10))
	}
	m.write(t, "large", noise(seed, 5<<20))
	must(t, os.Symlink("large", m.path("link")))
}

// Wherever the stream breaks: a pull leaves the directory as it was, a push the
// artifact, and the next attempt works.
func TestStreamBreaksAnywhere(t *testing.T) {
	p := newPlace(t)
	a, b := newMachine(t), newMachine(t)
	mixed(t, a, 1)
	first := a.mustPush(t, p, PushOptions{})
	b.mustPull(t, p, ImportOptions{}, Imported)
	old := describe(t, a.Dir)
	must(t, os.RemoveAll(a.path("da")))
	must(t, os.Remove(a.path("link")))
	mixed(t, a, 1000)
	for range 15 {
		at := rand.Int64N(first.Sent)
		f := &fraying{}
		f.left.Store(at)
		out, err := brokenPush(t, a, p, f)
		if err == nil {
			t.Logf("%d bytes were enough: %+v", at, out.Exported)
			break
		}
		if strings.Contains(err.Error(), "remembered") { // all else was done
			break
		}
		if !errors.Is(err, ErrCut) {
			t.Errorf("push cut at byte %d: %v", at, err)
		}
		fresh := newMachine(t)
		fresh.mustPull(t, p, ImportOptions{}, Imported)
		same(t, old, describe(t, fresh.Dir))
	}
	a.mustPush(t, p, PushOptions{})
	now := describe(t, a.Dir)
	for range 15 {
		at := rand.Int64N(first.Sent)
		f := &fraying{}
		f.left.Store(at)
		if err := brokenPull(t, b, p, f); err == nil {
			t.Fatalf("%d bytes were enough for %d", at, first.Sent)
		} else if !errors.Is(err, ErrCut) {
			t.Errorf("pull cut at byte %d: %v", at, err)
		}
		b.untouched(t, old)
	}
	b.mustPull(t, p, ImportOptions{}, Imported)
	same(t, now, describe(t, b.Dir))
}

func brokenPush(t tb, m *machine, p Place, f *fraying) (PushedMount, error) {
	t.Helper()
	s, hangUp, err := m.dial(t, f.wrap)
	defer hangUp()
	if err != nil {
		return PushedMount{}, err
	}
	out, err := Push(t.Context(), p, s, []PushMount{{Key: testKey, Root: "m"}}, PushOptions{})
	if err != nil {
		return PushedMount{}, err
	}
	return out.Mounts[0], out.Mounts[0].Err
}

func brokenPull(t tb, m *machine, p Place, f *fraying) error {
	t.Helper()
	a, err := Open(t.Context(), p)
	must(t, err)
	s, hangUp, err := m.dial(t, f.wrap)
	defer hangUp()
	if err != nil {
		return err
	}
	_, err = Pull(t.Context(), p, a, testKey, s, "m", ImportOptions{})
	return err
}

// A mount whose directory cannot be had fails alone: the stream is good for the
// others, and the artifact keeps what it has of it.
func TestOthersGoOn(t *testing.T) {
	p := newPlace(t)
	a := newMachine(t)
	mixed(t, a, 1)
	unknown, named, missing, fine := PushMount{Key{ID: "unknown"}, "u"}, PushMount{Key{ID: "named"}, "n"}, PushMount{Key{ID: "missing"}, "m"}, PushMount{Key{ID: "fine"}, "f"}
	all := []PushMount{unknown, named, missing, fine}
	agent := &Agent{Roots: map[string]Root{"u": {Dir: a.Dir}, "n": {Dir: a.Dir}, "m": {Dir: a.Dir}, "f": {Dir: a.Dir}}, Pool: a.pool}
	s, hangUp := serve(t, agent)
	if out, err := Push(t.Context(), p, s, all, PushOptions{}); err != nil || len(out.Mounts) != len(all) {
		t.Fatalf("%+v, %v", out, err)
	}
	hangUp()
	first, err := Open(t.Context(), p)
	must(t, err)

	a.write(t, "more", "content")
	agent.Roots = map[string]Root{"n": {Err: "is on holiday"}, "m": {Dir: a.path("none")}, "f": {Dir: a.Dir}}
	s, hangUp = serve(t, agent)
	out, err := Push(t.Context(), p, s, all, PushOptions{})
	must(t, err)
	for i, want := range []string{"no cache mount", "is on holiday", "no such file", ""} {
		if err := out.Mounts[i].Err; want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("push of %s: %v", out.Mounts[i].ID, err)
		}
	}
	now, err := Open(t.Context(), p)
	must(t, err)
	for _, m := range all {
		if same := first.Find(m.Key).Tree.Digest == now.Find(m.Key).Tree.Digest; same == (m == fine) {
			t.Errorf("%s in the artifact: as it was is %v", m.ID, same)
		}
	}
	b := newMachine(t)
	agent.Roots["f"] = b.Root
	for _, m := range all {
		if _, err := Pull(t.Context(), p, now, m.Key, s, m.Root, ImportOptions{}); (err == nil) != (m == fine) {
			t.Errorf("pull of %s: %v", m.ID, err)
		}
	}
	hangUp()
	same(t, describe(t, a.Dir), describe(t, b.Dir))
}

// serve is a session with an agent.
func serve(t tb, agent *Agent) (*Session, func()) {
	t.Helper()
	s, hangUp, err := dial(t, agent, func(s io.ReadWriteCloser) io.ReadWriteCloser { return s })
	must(t, err)
	return s, hangUp
}

// What a new directory begins with gives way; what somebody put into one that is
// not new stays.
func TestNewDirectory(t *testing.T) {
	p := newPlace(t)
	a, b := newMachine(t), newMachine(t)
	mixed(t, a, 1)
	a.mustPush(t, p, PushOptions{})
	b.write(t, "seed", "it begins with this")
	b.mustPull(t, p, ImportOptions{}, Kept)
	b.New = true
	b.mustPull(t, p, ImportOptions{}, Imported)
	same(t, describe(t, a.Dir), describe(t, b.Dir))
}

// Whatever byte of an artifact is another one, a pull says so and leaves the
// directory alone, and a push mends it.
func TestDamagedArtifact(t *testing.T) {
	p, blobs := newLayout(t)
	a := newMachine(t)
	mixed(t, a, 5)
	a.mustPush(t, p, PushOptions{})
	art, err := Open(t.Context(), p)
	must(t, err)
	m := art.Find(testKey)
	pack := m.Packs[0]
	damaged := map[string]struct {
		blob digest.Digest
		at   int64
	}{
		"manifest":         {art.Descriptor.Digest, 100},
		"tree":             {m.Tree.Digest, m.Tree.Size / 2},
		"frame":            {pack.Digest, pack.Index.Offset / 2},
		"index":            {pack.Digest, pack.Index.Offset + 20},
		"digest in index":  {pack.Digest, pack.Index.Offset + pack.Index.Size - 5},
		"header of frames": {pack.Digest, 2},
	}
	for name, d := range damaged {
		t.Run(name, func(t *testing.T) {
			b := newMachine(t)
			b.write(t, "mine", "kept")
			before := describe(t, b.Dir)
			file := filepath.Join(blobs, d.blob.Encoded())
			good, err := os.ReadFile(file)
			must(t, err)
			bad := append([]byte(nil), good...)
			bad[d.at] ^= 0x10
			must(t, os.WriteFile(file, bad, 0o644))
			if _, err := b.pull(t, p, ImportOptions{Replace: true}); !errors.Is(err, ErrCorrupt) {
				t.Errorf("pull: %v", err)
			}
			b.untouched(t, before)
			must(t, os.Remove(file))
			if _, err := b.pull(t, p, ImportOptions{Replace: true}); !errors.Is(err, ErrMissing) && !errors.Is(err, ErrNone) {
				t.Errorf("pull of what is not there: %v", err)
			}
			b.untouched(t, before)
			must(t, os.WriteFile(file, good, 0o644))
			b.mustPull(t, p, ImportOptions{Replace: true}, Imported)
		})
	}
	t.Run("mended manifest", func(t *testing.T) {
		for _, damage := range []func(file string) error{os.Remove, func(file string) error { return os.Truncate(file, 20) }} {
			art, err := Open(t.Context(), p)
			must(t, err)
			must(t, damage(filepath.Join(blobs, art.Descriptor.Digest.Encoded())))
			c, b := newMachine(t), newMachine(t)
			mixed(t, c, 6)
			c.mustPush(t, p, PushOptions{})
			b.mustPull(t, p, ImportOptions{}, Imported)
			same(t, describe(t, c.Dir), describe(t, b.Dir))
		}
	})
	t.Run("mended", func(t *testing.T) {
		must(t, os.Remove(filepath.Join(blobs, pack.Digest.Encoded())))
		must(t, os.Remove(filepath.Join(blobs, m.Tree.Digest.Encoded())))
		c := newMachine(t) // with no record of what it was
		mixed(t, c, 5)
		c.mustPush(t, p, PushOptions{})
		b := newMachine(t)
		b.mustPull(t, p, ImportOptions{}, Imported)
		same(t, describe(t, c.Dir), describe(t, b.Dir))
	})
}

func TestForeignArtifact(t *testing.T) {
	p := newPlace(t)
	a := newMachine(t)
	a.write(t, "f", "x")
	if _, err := a.pull(t, p, ImportOptions{}); !errors.Is(err, ErrNone) {
		t.Errorf("pull of nothing: %v", err)
	}
	conf, err := newDocument("application/vnd.oci.image.config.v1+json", struct{}{})
	must(t, err)
	put(t, p, conf)
	_, manifest, err := documents(nil)
	must(t, err)
	for name, b := range map[string]string{
		"an image":        strings.ReplaceAll(string(manifest.b), mediaTypeConfig, conf.desc.MediaType),
		"a later version": strings.Replace(string(manifest.b), "sha256:"+configDigest(t, 1), "sha256:"+configDigest(t, 2), 1),
	} {
		for _, version := range []int{1, 2} {
			c, err := newDocument(mediaTypeConfig, config{version, nil})
			must(t, err)
			put(t, p, c)
		}
		doc := document{manifest.desc, []byte(b)}
		doc.desc.Digest, doc.desc.Size = digest.FromBytes(doc.b), int64(len(b))
		must(t, p.Target.PutManifest(t.Context(), doc.desc, doc.b))
		must(t, p.Target.Tag(t.Context(), doc.desc, doc.b, p.Name))
		if _, err := a.pull(t, p, ImportOptions{}); !errors.Is(err, ErrForeign) {
			t.Errorf("pull of %s: %v", name, err)
		}
		if _, err := a.push(t, p, PushOptions{}); !errors.Is(err, ErrForeign) {
			t.Errorf("push over %s: %v", name, err)
		}
	}
}

func configDigest(t tb, version int) string {
	c, err := newDocument(mediaTypeConfig, config{version, nil})
	must(t, err)
	return c.desc.Digest.Encoded()
}

func put(t tb, p Place, d document) {
	t.Helper()
	up, err := p.Target.Upload(t.Context())
	must(t, err)
	defer up.Abort()
	_, err = up.Write(d.b)
	must(t, err)
	must(t, up.Commit(t.Context(), d.desc))
}

// What an import finds in the way is no path out of the directory.
func TestLinksLeadNowhere(t *testing.T) {
	p := newPlace(t)
	a, b := newMachine(t), newMachine(t)
	a.write(t, "dir/sub/file", "from the artifact")
	a.write(t, "file", "from the artifact")
	must(t, os.Symlink("/etc", a.path("absolute")))
	a.mustPush(t, p, PushOptions{})
	outside := tempDir(t)
	must(t, os.WriteFile(filepath.Join(outside, "file"), []byte("mine"), 0o644))
	must(t, os.Symlink(outside, b.path("dir")))
	must(t, os.Symlink(filepath.Join(outside, "file"), b.path("file")))
	must(t, os.Symlink(outside, b.path(stageName)))
	before := describe(t, outside)
	b.mustPull(t, p, ImportOptions{Replace: true}, Imported)
	same(t, before, describe(t, outside))
	same(t, describe(t, a.Dir), describe(t, b.Dir))
}

func TestFullDisk(t *testing.T) {
	p := newPlace(t)
	a, b := newMachine(t), newMachine(t)
	mixed(t, a, 7)
	a.mustPush(t, p, PushOptions{})
	if err := unix.Mount("lighter-test", b.Dir, "tmpfs", 0, "size=3m,mode=755"); err != nil {
		t.Fatalf("mount a small file system, which needs root: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(b.Dir, unix.MNT_DETACH)) })
	b.write(t, "mine", "kept")
	before := describe(t, b.Dir)
	_, err := b.pull(t, p, ImportOptions{Replace: true})
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "cache mount /root/.cache") {
		t.Errorf("pull into 3 MB: %v", err)
	}
	b.untouched(t, before)
}
