package cachemount

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"
)

// seeds are a tree with everything in it, and its chunks.
func seeds() (tree, []chunk) {
	chunks := []chunk{{size: 5}, {size: 7}}
	return tree{
		{parent: -1, mode: typeDir | 0o755},
		{parent: 0, name: "a", mode: typeDir | 0o700, xattrs: []xattr{{"user.x", []byte("y")}}},
		{parent: 1, name: "f", mode: typeFile | 0o4755, size: 22, runs: []run{{chunk: 0}, {noChunk, 10}, {chunk: 1}}, mtime: timespec{-5, 7}},
		{parent: 0, name: "b", mode: typeFile, same: 2},
		{parent: 0, name: "l", mode: typeSymlink | 0o777, link: "../x"},
		{parent: 0, name: "p", mode: typeFIFO | 0o600, uid: 1000},
	}, chunks
}

// Whatever a tree from outside says, what is read of it is a tree, and says the
// same when it is written again.
func FuzzTree(f *testing.F) {
	t, chunks := seeds()
	good := t.encode()
	f.Add(good)
	for _, name := range []string{"..", "/", ".", "a\x00b"} {
		bad, _ := seeds()
		bad[2].name = name
		f.Add(bad.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeTree(b, chunks)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrForeign) {
				t.Errorf("%v is of no kind", err)
			}
			return
		}
		type child struct {
			parent int32
			name   string
		}
		seen := map[child]bool{}
		for i := range got {
			e := &got[i]
			if i > 0 && (e.parent < 0 || int(e.parent) >= i || !got[e.parent].isDir() || checkName(e.name) != nil || seen[child{e.parent, e.name}]) {
				t.Fatalf("entry %d: %+v", i, e)
			}
			seen[child{e.parent, e.name}] = true
			if e.isAlias() && (int(e.same) >= i || got[e.same].isDir()) {
				t.Fatalf("entry %d: %+v", i, e)
			}
		}
		again, err := decodeTree(got.encode(), chunks)
		if err != nil || !bytes.Equal(again.encode(), got.encode()) {
			t.Errorf("written again it is another one, %v", err)
		}
	})
}

func FuzzPackIndex(f *testing.F) {
	good := packIndex{[]frame{{packed: 10, size: 12, chunks: 2}}, []chunk{{sum{1}, 5}, {sum{2}, 7}}}
	f.Add(good.encode(), int64(18))
	f.Fuzz(func(t *testing.T, b []byte, offset int64) {
		p := &Pack{Index: Index{Offset: offset, Size: int64(len(b)), Digest: digest.FromBytes(b)}}
		x, err := decodeIndex(p, b)
		if err != nil {
			return
		}
		chunks, at := 0, int64(8)
		for _, fr := range x.frames {
			if fr.size > maxChunk {
				t.Errorf("a frame of %d bytes", fr.size)
			}
			chunks, at = chunks+int(fr.chunks), at+int64(fr.packed)
		}
		if chunks != len(x.chunks) || at != offset {
			t.Errorf("%d chunks of %d, %d bytes of %d", chunks, len(x.chunks), at, offset)
		}
	})
}

// A record that is damaged is none, whatever byte it is.
func FuzzRecord(f *testing.F) {
	t, chunks := seeds()
	index := packIndex{[]frame{{packed: 10, size: 12, chunks: 2}}, chunks}
	b := index.encode()
	pack := Pack{Digest: digest.FromString("pack"), Size: 1000, Index: Index{18, int64(len(b)), digest.FromBytes(b)}}
	rec := &record{digest: digest.FromString("tree"), tree: t, stats: make([]stat, len(t)), contents: &contents{}}
	rec.contents.add(pack, &index)
	good, err := rec.encode()
	if err != nil {
		f.Fatal(err)
	}
	if got, err := decodeRecord(good); err != nil || !bytes.Equal(got.tree.encode(), t.encode()) || got.digest != rec.digest {
		f.Fatalf("%+v, %v", got, err)
	}
	f.Add(good)
	f.Add(good[:len(good)-sha256.Size])
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := decodeRecord(append(bytes.Clone(b), good...)); err == nil && len(b) > 0 {
			t.Errorf("something in front of a record is read as one: %+v", got)
		}
		summed := sha256.Sum256(b)
		if got, err := decodeRecord(append(b, summed[:]...)); err == nil && len(got.stats) != len(got.tree) {
			t.Errorf("%d stats of %d entries", len(got.stats), len(got.tree))
		}
	})
}

// What a killed import wrote down is read back as it was, and nothing else is.
func FuzzPlan(f *testing.F) {
	t, _ := seeds()
	p := &plan{away: []string{"x/y"}, moves: []move{{4, "l"}}, dirs: []dressing{{"a", entry{parent: -1, mode: typeDir | 0o700}}, {".", t[0]}}}
	f.Add(p.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodePlan(b)
		if err != nil {
			return
		}
		again, err := decodePlan(got.encode())
		if err != nil || !bytes.Equal(again.encode(), got.encode()) {
			t.Errorf("written again it is another one, %v", err)
		}
	})
}

// The wire takes any bytes without harm.
func FuzzConn(f *testing.F) {
	f.Add([]byte("H\x00\x00\x00\x0d{\"version\":1}I\x00\x00\x00\x0c{\"root\":\"m\"}E\x00\x00\x00\x00"))
	f.Add([]byte("H\x00\x00\x00\x0d{\"version\":1}D\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		agent := &Agent{}
		_ = agent.Serve(t.Context(), &script{in: bytes.NewReader(b)})
	})
}

// script is a session that says what it says, whatever it hears.
type script struct{ in *bytes.Reader }

func (s *script) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *script) Write(p []byte) (int, error) { return len(p), nil }
func (s *script) Close() error                { return nil }
