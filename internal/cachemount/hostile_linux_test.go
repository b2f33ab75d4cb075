package cachemount

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/lighter-oci/lighter/internal/codec"
)

// forge sets p's name to an artifact with one mount, whatever its tree says.
// Every digest on the way to it is right.
func forge(t tb, p Place, tree []byte, packs []Pack) {
	t.Helper()
	pool := codec.NewPool(1)
	defer pool.Close()
	var b bytes.Buffer
	w, err := pool.NewWriter(&b, codec.Options{Bare: true})
	must(t, err)
	defer w.Abort()
	_, err = w.Write(tree)
	must(t, err)
	must(t, w.Close())
	blob := document{ocispec.Descriptor{MediaType: mediaTypeTree, Digest: digest.FromBytes(b.Bytes()), Size: int64(b.Len())}, b.Bytes()}
	put(t, p, blob)
	conf, manifest, err := documents([]Mount{{Key: testKey, Tree: blob.desc, Packs: packs, Pushed: time.Now()}})
	must(t, err)
	put(t, p, conf)
	must(t, p.Target.PutManifest(t.Context(), manifest.desc, manifest.b))
	must(t, p.Target.Tag(t.Context(), manifest.desc, manifest.b, p.Name))
}

// deep is a tree of so many directories in one another.
func deep(n int) tree {
	out := tree{{parent: -1, mode: typeDir | 0o755}}
	for i := range n {
		out = append(out, entry{parent: int32(i), name: "d", mode: typeDir | 0o755})
	}
	return append(out, entry{parent: int32(n), name: "f", mode: typeFile | 0o644})
}

// A tree may be right in every digest and still do harm.
func TestHostileTree(t *testing.T) {
	root := entry{parent: -1, mode: typeDir | 0o755}
	dir := func(name string, in int32) entry { return entry{parent: in, name: name, mode: typeDir | 0o755} }
	file := func(name string, in int32) entry { return entry{parent: in, name: name, mode: typeFile | 0o644} }
	for name, bad := range map[string]tree{
		"the name of the stage":          {root, file(stageName, 0), file("a", 0), file("b", 0)},
		"a directory named as the stage": {root, dir(stageName, 0), dir("ready", 1), file("plan", 2), file("a", 0), file("b", 0)},
		"deeper than any path":           deep(maxDepth + 1),
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			forge(t, p, bad.encode(), nil)
			m := newMachine(t)
			m.write(t, "mine", "kept")
			before := describe(t, m.Dir)
			out, err := m.pull(t, p, ImportOptions{Replace: true})
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%+v, %v", out, err)
			}
			m.untouched(t, before)
		})
	}
}

// However little a tree takes where it is kept, what is read of it is bounded.
func TestBulkTreeIsBounded(t *testing.T) {
	runs := make([]run, maxParts)
	for i := range runs {
		runs[i] = run{noChunk, 1}
	}
	file := entry{parent: 0, name: "f", mode: typeFile | 0o644}
	sparse, labelled := file, file
	sparse.runs, sparse.size = runs, maxParts
	labelled.xattrs = make([]xattr, maxParts)
	for name, e := range map[string]entry{"runs": sparse, "attributes": labelled} {
		bad := tree{{parent: -1, mode: typeDir | 0o755}, e}
		if _, err := decodeTree(bad.encode(), nil); !errors.Is(err, ErrCorrupt) || !errors.Is(err, errParts) {
			t.Errorf("%s: %v", name, err)
		}
		pool := codec.NewPool(1)
		if _, err := bad.pack(pool); err == nil {
			t.Errorf("%s: packed, and nobody could read it", name)
		}
		pool.Close()
	}
	w := &writer{}
	w.raw([]byte(treeMagic))
	w.uint(maxParts + 1)
	w.raw(make([]byte, maxParts+1))
	if _, err := decodeTree(w.b, nil); !errors.Is(err, errParts) {
		t.Errorf("entries: %v", err)
	}
}

// Packs that say more than anybody has memory for are refused before they are
// fetched.
func TestIndexesAreBounded(t *testing.T) {
	p := newPlace(t)
	d := digest.FromString("pack")
	big := Pack{Digest: d, Size: 1 << 40, Index: Index{Offset: 8, Size: maxIndex, Digest: d}}
	forge(t, p, deep(1).encode(), []Pack{big, big, big})
	m := newMachine(t)
	if _, err := m.pull(t, p, ImportOptions{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("pull: %v", err)
	}
	m.write(t, "mine", "kept")
	m.mustPush(t, p, PushOptions{}) // it mends that
	empty := packIndex{[]frame{{packed: 10}, {packed: 10}}, nil}
	b := empty.encode()
	if _, err := decodeIndex(&Pack{Index: Index{Offset: 28, Size: int64(len(b)), Digest: digest.FromBytes(b)}}, b); !errors.Is(err, ErrCorrupt) {
		t.Errorf("frames of nothing: %v", err)
	}
}

// A directory deeper than any path is kept as far as paths lead.
func TestDeepDirectory(t *testing.T) {
	p := newPlace(t)
	a, b := newMachine(t), newMachine(t)
	at, err := openAt(unix.AT_FDCWD, a.Dir, unix.O_RDONLY|unix.O_DIRECTORY)
	must(t, err)
	for range maxDepth + 10 {
		must(t, unix.Mkdirat(at, "d", 0o755))
		in, err := openAt(at, "d", unix.O_RDONLY|unix.O_DIRECTORY)
		must(t, err)
		must(t, unix.Close(at))
		at = in
	}
	must(t, unix.Close(at))
	a.write(t, "f", "content")
	if out := a.mustPush(t, p, PushOptions{}); out.Unkept != 1 {
		t.Errorf("%+v", out.Exported)
	}
	b.mustPull(t, p, ImportOptions{}, Imported)
	if got, err := os.ReadFile(b.path("f")); err != nil || string(got) != "content" {
		t.Errorf("%q, %v", got, err)
	}
	a.write(t, "g", "more")
	a.mustPush(t, p, PushOptions{})
	b.mustPull(t, p, ImportOptions{}, Imported)
}
