package cachemount

import (
	"bytes"
	"fmt"
	"io"
	"math"

	"github.com/lighter-oci/lighter/internal/codec"
)

// A tree is written in columns, one section each, because what is alike
// compresses well when it stands together, and nanoseconds do not compress at
// all:
//
//	magic, number of entries
//	shapes   depth, kind and what follows, mode, owner, size
//	names    names, targets of links, attributes
//	times    seconds as a difference, nanoseconds, hours of last use as a difference
//	content  runs: chunks as a difference, holes
//
// All of it is one zstd stream.
const treeMagic = "lighter tree 1\n"

// What bounds a tree. Names are short and repeat, so that without the others a few
// kilobytes from outside could make anybody ask for gigabytes.
const (
	maxTree  = 256 << 20 // bytes, decoded: some five million entries
	maxParts = 8 << 20   // entries, runs and attributes together, of up to 150 bytes each in memory
	maxDepth = 2048      // directories in one another: more have no path (PATH_MAX)
)

// The kinds of entries, and what else a shape says.
var kinds = [4]uint32{typeFile, typeDir, typeSymlink, typeFIFO}

const (
	shapeKind   = 3      // index into kinds
	shapeAlias  = 1 << 2 // another name of an earlier entry
	shapeXattrs = 1 << 3 // has extended attributes
	shapeOwner  = 1 << 4 // owner or group are not those of the entry before
	shapeMode   = 1 << 5 // the mode is not that of the last entry of the kind
)

// before is what an entry is written as a difference to.
type before struct {
	modes    [4]uint32
	uid, gid uint32
	sec      int64
	used     int64
	chunk    int32 // the one that comes next in a pack
}

func (b *before) remember(e *entry, kind int) {
	b.modes[kind], b.uid, b.gid = e.mode, e.uid, e.gid
	b.sec, b.used = e.mtime.sec, e.used
}

type treeWriter struct {
	before
	shapes, names, times, content writer
}

// encode is the tree as bytes, not compressed.
func (t tree) encode() []byte {
	var w treeWriter
	depth := make([]int32, len(t))
	for i := range t {
		if t[i].parent >= 0 {
			depth[i] = depth[t[i].parent] + 1
		}
		w.put(&t[i], depth[i])
	}
	out := &writer{}
	out.raw([]byte(treeMagic))
	out.uint(uint64(len(t)))
	for _, s := range []*writer{&w.shapes, &w.names, &w.times, &w.content} {
		out.section(s)
	}
	return out.b
}

func (w *treeWriter) put(e *entry, depth int32) {
	kind := 0
	for kinds[kind] != e.kind() {
		kind++
	}
	shape := uint64(kind)
	if e.isAlias() {
		shape |= shapeAlias
	}
	if len(e.xattrs) > 0 {
		shape |= shapeXattrs
	}
	if e.uid != w.uid || e.gid != w.gid {
		shape |= shapeOwner
	}
	if e.mode != w.modes[kind] {
		shape |= shapeMode
	}
	w.shapes.uint(shape)
	w.shapes.uint(uint64(depth))
	w.names.string(e.name)
	if e.isAlias() {
		w.shapes.uint(uint64(e.same))
		return
	}
	if shape&shapeOwner != 0 {
		w.shapes.uint(uint64(e.uid))
		w.shapes.uint(uint64(e.gid))
	}
	if shape&shapeMode != 0 {
		w.shapes.uint(uint64(e.mode &^ typeMask))
	}
	if shape&shapeXattrs != 0 {
		w.names.uint(uint64(len(e.xattrs)))
		for _, x := range e.xattrs {
			w.names.string(x.name)
			w.names.string(string(x.value))
		}
	}
	w.times.int(e.mtime.sec - w.sec)
	w.times.fixed32(e.mtime.nsec)
	w.times.int(e.used - w.used)
	w.remember(e, kind)
	switch e.kind() {
	case typeSymlink:
		w.names.string(e.link)
	case typeFile:
		w.shapes.uint(uint64(e.size))
		w.content.uint(uint64(len(e.runs)))
		for _, r := range e.runs {
			w.run(r)
		}
	}
}

// run is a hole as 0 and its length, or a chunk as the distance to the one that
// would come next, with its sign in the lowest bit, and 1 more.
func (w *treeWriter) run(r run) {
	if r.chunk == noChunk {
		w.content.uint(0)
		w.content.uint(uint64(r.hole))
		return
	}
	away := int64(r.chunk) - int64(w.chunk)
	w.content.uint(uint64(away<<1^away>>63) + 1)
	w.chunk = r.chunk + 1
}

type treeReader struct {
	before
	shapes, names, times, content *reader
	tree                          tree
	chunks                        []chunk
	left                          int      // parts that may still come
	dirs                          []int32  // the one at each depth that entries are in now
	last                          []string // the last name in each of them
}

// decodeTree reads a tree whose content is made of chunks. Errors wrap ErrCorrupt.
func decodeTree(b []byte, chunks []chunk) (tree, error) {
	in := &reader{b: b}
	if string(in.raw(uint64(len(treeMagic)))) != treeMagic {
		return nil, fmt.Errorf("tree: %w: it is none of this version", ErrForeign)
	}
	n := in.count()
	r := &treeReader{shapes: in.section(), names: in.section(), times: in.section(), content: in.section(), chunks: chunks, left: maxParts - n}
	if r.left < 0 {
		return nil, fmt.Errorf("tree: %w: %w", ErrCorrupt, errParts)
	}
	r.tree = make(tree, 0, min(n, len(r.shapes.b)/2)) // of which an entry takes two bytes at least
	for i := 0; i < n && in.err == nil; i++ {
		if err := r.get(); err != nil {
			return nil, fmt.Errorf("tree: %w: entry %d: %w", ErrCorrupt, i, err)
		}
	}
	if in.err != nil || n == 0 {
		return nil, fmt.Errorf("tree: %w: it ends too early", ErrCorrupt)
	}
	return r.tree, nil
}

func (r *treeReader) get() error {
	shape, depth := r.shapes.uint(), r.shapes.uint()
	e := entry{name: r.names.string(), parent: -1}
	if err := r.place(&e, depth); err != nil {
		return err
	}
	kind := int(shape & shapeKind)
	if shape&shapeAlias != 0 {
		e.same = int32(min(r.shapes.uint(), math.MaxInt32))
		e.mode = kinds[kind]
	} else {
		r.attributes(&e, shape, kind)
	}
	for _, in := range []*reader{r.shapes, r.names, r.times, r.content} {
		if in.err != nil {
			return in.err
		}
	}
	if err := r.tree.check(&e, r.chunks); err != nil {
		return err
	}
	if e.isDir() {
		r.dirs, r.last = append(r.dirs, int32(len(r.tree))), append(r.last, "")
	}
	r.tree = append(r.tree, e)
	return nil
}

// place finds the directory of an entry: the last one that was one level up.
func (r *treeReader) place(e *entry, depth uint64) error {
	if len(r.tree) == 0 {
		if depth != 0 || e.name != "" {
			return errOrder
		}
		return nil
	}
	if depth == 0 || depth > uint64(len(r.dirs)) {
		return errOrder
	}
	if depth > maxDepth {
		return errDepth
	}
	r.dirs, r.last = r.dirs[:depth], r.last[:depth]
	if err := checkName(e.name); err != nil {
		return err
	}
	if depth == 1 && e.name == stageName {
		return fmt.Errorf("%w: %q is the importer's own", errName, e.name)
	}
	if e.name <= r.last[depth-1] {
		return errOrder
	}
	r.last[depth-1] = e.name
	e.parent = r.dirs[depth-1]
	return nil
}

// parts is a count of what an entry consists of.
func (r *treeReader) parts(in *reader) int {
	n := in.count()
	if r.left -= n; r.left < 0 {
		in.fail()
		in.err = errParts
		return 0
	}
	return n
}

func (r *treeReader) attributes(e *entry, shape uint64, kind int) {
	e.uid, e.gid, e.mode = r.uid, r.gid, r.modes[kind]
	if shape&shapeOwner != 0 {
		e.uid, e.gid = uint32(r.shapes.uint()), uint32(r.shapes.uint())
	}
	if shape&shapeMode != 0 || e.mode == 0 {
		e.mode = kinds[kind]
	}
	if shape&shapeMode != 0 {
		e.mode |= uint32(r.shapes.uint()) &^ typeMask
	}
	if shape&shapeXattrs != 0 {
		for range r.parts(r.names) {
			e.xattrs = append(e.xattrs, xattr{r.names.string(), bytes.Clone(r.names.raw(r.names.uint()))})
		}
	}
	e.mtime = timespec{r.sec + r.times.int(), r.times.fixed32()}
	e.used = r.used + r.times.int()
	r.remember(e, kind)
	switch e.kind() {
	case typeSymlink:
		e.link = r.names.string()
	case typeFile:
		e.size = int64(r.shapes.uint())
		n := r.parts(r.content)
		e.runs = make([]run, 0, n)
		for range n {
			e.runs = append(e.runs, r.run())
		}
	}
}

func (r *treeReader) run() run {
	v := r.content.uint()
	if v == 0 {
		return run{noChunk, int64(r.content.uint())}
	}
	v--
	at := int64(r.chunk) + (int64(v>>1) ^ -int64(v&1))
	if at < 0 || at >= math.MaxInt32 {
		return run{math.MaxInt32, 0} // that no index has
	}
	r.chunk = int32(at) + 1
	return run{int32(at), 0}
}

// pack makes the tree a blob.
func (t tree) pack(pool *codec.Pool) ([]byte, error) {
	encoded := t.encode()
	if parts := t.parts(); len(encoded) > maxTree || parts > maxParts {
		return nil, fmt.Errorf("%d names and pieces of files, more than are kept; empty it, or leave it out", parts)
	}
	var b bytes.Buffer
	w, err := pool.NewWriter(&b, codec.Options{Bare: true})
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	if _, err := w.Write(encoded); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// unpackTree reads a tree's blob, which came as its digest says.
func unpackTree(pool *codec.Pool, blob []byte, chunks []chunk) (tree, error) {
	r, err := pool.NewReader(bytes.NewReader(blob))
	if err != nil {
		return nil, fmt.Errorf("tree: %w: %w", ErrCorrupt, err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxTree+1))
	if err != nil {
		return nil, fmt.Errorf("tree: %w: %w", ErrCorrupt, err)
	}
	if len(b) > maxTree {
		return nil, fmt.Errorf("tree: %w: more than %d bytes", ErrCorrupt, maxTree)
	}
	return decodeTree(b, chunks)
}
