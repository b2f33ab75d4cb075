package cachemount

import (
	"fmt"
	"slices"
)

// plan is how a directory becomes what was staged, written down before the first
// step, so that whoever comes after a kill does the rest. Names are paths from
// the root of the mount.
type plan struct {
	away  []string   // what goes, under its number here
	moves []move     // what takes its place
	dirs  []dressing // directories whose attributes are not right then, innermost first
}

// move takes an entry, staged under its number in the tree, to its place.
type move struct {
	n  int32
	to string
}

type dressing struct {
	path string
	entry
}

const planMagic = "lighter mount plan 1\n"

func (p *plan) encode() []byte {
	w := &writer{}
	w.raw([]byte(planMagic))
	w.uint(uint64(len(p.away)))
	for _, name := range p.away {
		w.string(name)
	}
	w.uint(uint64(len(p.moves)))
	for _, m := range p.moves {
		w.uint(uint64(m.n))
		w.string(m.to)
	}
	w.uint(uint64(len(p.dirs)))
	for i := range p.dirs {
		w.string(p.dirs[i].path)
		w.section(&writer{(tree{p.dirs[i].entry}).encode()})
	}
	return w.b
}

func decodePlan(b []byte) (*plan, error) {
	r := &reader{b: b}
	if string(r.raw(uint64(len(planMagic)))) != planMagic {
		return nil, fmt.Errorf("plan: %w: it is none of this version", ErrForeign)
	}
	p := &plan{}
	for range r.count() {
		p.away = append(p.away, r.string())
	}
	for range r.count() {
		p.moves = append(p.moves, move{int32(r.uint()), r.string()})
	}
	for range r.count() {
		d := dressing{path: r.string()}
		t, err := decodeTree(r.raw(r.uint()), nil)
		if err != nil {
			return nil, err
		}
		d.entry = t[0]
		p.dirs = append(p.dirs, d)
	}
	return p, r.err
}

// compare tells what of the directory may stay as it is and what must be staged.
// Directories that both have stay; what is in a new one is new.
func (u *unpacker) compare() {
	u.inPlace, u.stays = make([]bool, len(u.tree)), make([]bool, len(u.tree))
	u.earlier = u.tree.match(u.at.tree)
	for i := range u.tree {
		e, j := &u.tree[i], u.earlier[i]
		switch {
		case j < 0:
		case e.isDir():
			u.inPlace[i] = u.at.tree[j].isDir()
		case u.unchanged[j] >= 0:
			u.stays[i] = u.equal(e, &u.at.tree[j], &u.rec.tree[u.unchanged[j]])
		}
	}
}

// equal compares an entry with one of the directory, of which the record knows
// the content.
func (u *unpacker) equal(e, now, was *entry) bool {
	if e.isAlias() {
		return now.isAlias() && u.stays[e.same] && u.earlier[e.same] == now.same
	}
	return !now.isAlias() && e.mode == was.mode && e.uid == was.uid && e.gid == was.gid && e.mtime == was.mtime &&
		e.size == was.size && e.link == was.link && sameXattrs(e.xattrs, was.xattrs) &&
		slices.EqualFunc(e.runs, was.runs, func(a, b run) bool {
			if a.chunk == noChunk || b.chunk == noChunk {
				return a == b
			}
			return u.contents.chunks[a.chunk] == u.rec.contents.chunks[b.chunk]
		})
}

func sameXattrs(a, b []xattr) bool {
	return slices.EqualFunc(a, b, func(a, b xattr) bool { return a.name == b.name && string(a.value) == string(b.value) })
}

// plan is what remains to be done when all is staged.
func (u *unpacker) plan() *plan {
	p := &plan{}
	touched := make([]bool, len(u.tree))
	back := make([]int32, len(u.at.tree)) // entries of the tree that those of the directory become; -1
	for j := range back {
		back[j] = -1
	}
	for i := range u.tree {
		if j := u.earlier[i]; j >= 0 {
			back[j] = int32(i)
		}
		in := u.tree[i].parent
		if i == 0 || !u.inPlace[in] || u.inPlace[i] || u.stays[i] {
			continue
		}
		touched[in] = true
		p.moves = append(p.moves, move{int32(i), u.tree.path(int32(i))})
	}
	for j := range u.at.tree {
		in := u.at.tree[j].parent
		if in < 0 || back[in] < 0 || !u.inPlace[back[in]] {
			continue // it goes with its directory
		}
		i := back[j]
		if i >= 0 && (u.inPlace[i] || u.stays[i] || !u.at.tree[j].isDir() && !u.tree[i].isDir()) {
			continue // or it is replaced by a rename
		}
		touched[back[in]] = true
		p.away = append(p.away, u.at.tree.path(int32(j)))
	}
	for i := len(u.tree) - 1; i >= 0; i-- {
		if !u.inPlace[i] {
			continue
		}
		e, now := &u.tree[i], &u.at.tree[u.earlier[i]]
		if i == 0 || touched[i] || e.mode != now.mode || e.uid != now.uid || e.gid != now.gid || e.mtime != now.mtime || !sameXattrs(e.xattrs, now.xattrs) {
			d := dressing{u.tree.path(int32(i)), *e}
			d.entry.parent, d.entry.name = -1, ""
			p.dirs = append(p.dirs, d)
		}
	}
	return p
}
