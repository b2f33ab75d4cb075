package cachemount

import (
	"errors"
	"fmt"
	"strings"
)

// entry is one name in a directory that a mount has.
type entry struct {
	parent int32 // index of its directory in the tree; -1 for the root
	name   string
	mode   uint32 // type and permissions, as in st_mode
	uid    uint32
	gid    uint32
	mtime  timespec
	used   int64  // hours since 1970 when it was known to be of use
	size   int64  // of a file, holes included
	link   string // target of a symbolic link
	same   int32  // the earlier entry that this is another name of; 0 for none
	runs   []run  // content of a file, from its start
	xattrs []xattr
}

// timespec is a time as files have it: seconds since 1970 and nanoseconds.
type timespec struct {
	sec  int64
	nsec uint32
}

// run is a stretch of a file: a chunk, or a hole of so many bytes.
type run struct {
	chunk int32 // its number; noChunk for a hole
	hole  int64
}

const noChunk = -1

type xattr struct {
	name  string
	value []byte
}

// tree is a directory with all that is in it: the root first, every directory
// before what is in it, names in the order of their bytes.
type tree []entry

// The types of st_mode, which is the same on every Linux.
const (
	typeMask    = 0o170000
	typeFile    = 0o100000
	typeDir     = 0o040000
	typeSymlink = 0o120000
	typeFIFO    = 0o010000
)

func (e *entry) kind() uint32  { return e.mode & typeMask }
func (e *entry) isDir() bool   { return e.kind() == typeDir }
func (e *entry) isFile() bool  { return e.kind() == typeFile && e.same == 0 }
func (e *entry) isAlias() bool { return e.same != 0 }

// path is the name of entry i from the root, for messages.
func (t tree) path(i int32) string {
	if i == 0 {
		return "."
	}
	var names []string
	for ; i > 0; i = t[i].parent {
		names = append([]string{t[i].name}, names...)
	}
	return strings.Join(names, "/")
}

// files and size are what a mount holds: files by their names, bytes of content
// without holes.
func (t tree) files() (n int) {
	for i := range t {
		if !t[i].isDir() {
			n++
		}
	}
	return n
}

func (t tree) size(chunks []chunk) (sum int64) {
	for i := range t {
		for _, r := range t[i].runs {
			if r.chunk != noChunk {
				sum += int64(chunks[r.chunk].size)
			}
		}
	}
	return sum
}

// parts counts what maxParts bounds.
func (t tree) parts() int {
	n := len(t)
	for i := range t {
		n += len(t[i].runs) + len(t[i].xattrs)
	}
	return n
}

// ends is, for every entry, the index behind the last one that is in it.
func (t tree) ends() []int32 {
	end := make([]int32, len(t))
	for i := len(t) - 1; i >= 0; i-- {
		end[i] = max(end[i], int32(i)+1)
		if in := t[i].parent; in >= 0 {
			end[in] = max(end[in], end[i])
		}
	}
	return end
}

// match finds for every entry of t the one in other that has the same path; -1
// where there is none. Both are in order, so that it is one walk along both.
func (t tree) match(other tree) []int32 {
	out := make([]int32, len(t))
	for i := range out {
		out[i] = -1
	}
	if len(t) == 0 || len(other) == 0 {
		return out
	}
	end, otherEnd := t.ends(), other.ends()
	var pair func(i, j int32)
	pair = func(i, j int32) {
		out[i] = j
		a, b := i+1, j+1
		for a < end[i] && b < otherEnd[j] {
			order := strings.Compare(t[a].name, other[b].name)
			if order == 0 {
				pair(a, b)
			}
			if order <= 0 {
				a = end[a]
			}
			if order >= 0 {
				b = otherEnd[b]
			}
		}
	}
	pair(0, 0)
	return out
}

// without leaves the marked entries out, with all that is in them or another
// name of them. The tree that it is of is used up.
func (t tree) without(gone []bool) (out tree, from []int32) {
	to := make([]int32, len(t))
	out, from = t[:0], make([]int32, 0, len(t))
	for i := range t {
		e := t[i]
		if gone[i] || e.parent >= 0 && to[e.parent] < 0 || e.same != 0 && to[e.same] < 0 {
			to[i] = -1
			continue
		}
		if e.parent >= 0 {
			e.parent = to[e.parent]
		}
		if e.same != 0 {
			e.same = to[e.same]
		}
		to[i] = int32(len(out))
		out, from = append(out, e), append(from, int32(i))
	}
	return out, from
}

// Whatever a tree from outside says, these hold of it afterwards: names are
// names and unique, directories come first, and content adds up.
var (
	errName  = errors.New("an entry has a name that none can have")
	errOrder = errors.New("entries are not in order")
	errDepth = fmt.Errorf("directories more than %d deep", maxDepth)
	errParts = fmt.Errorf("more than %d entries and parts of them", maxParts)
)

// stageName is where an import makes what is new, in the root of a mount; nothing
// in a tree has it.
const stageName = ".lighter-cache-mount"

// checkName refuses what would lead out of a directory.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%w: %.40q", errName, name)
	}
	return nil
}

// check holds an entry's parts against each other and against the chunks there
// are.
func (t tree) check(e *entry, chunks []chunk) error {
	switch e.kind() {
	case typeFile, typeDir, typeSymlink, typeFIFO:
	default:
		return fmt.Errorf("entry %.40q is of type %o", e.name, e.kind())
	}
	if e.mode > typeMask|0o7777 || e.mtime.nsec >= 1e9 {
		return fmt.Errorf("entry %.40q has mode %o, %d nanoseconds", e.name, e.mode, e.mtime.nsec)
	}
	if e.same != 0 {
		if e.same < 0 || int(e.same) >= len(t) || t[e.same].isDir() || t[e.same].isAlias() || t[e.same].kind() != e.kind() {
			return fmt.Errorf("entry %.40q is another name of none", e.name)
		}
		return nil
	}
	if e.kind() == typeSymlink && (e.link == "" || len(e.link) > 4095 || strings.Contains(e.link, "\x00")) {
		return fmt.Errorf("link %.40q leads nowhere", e.name)
	}
	if e.kind() != typeFile {
		return nil
	}
	left := e.size
	for _, r := range e.runs {
		n := r.hole
		if r.chunk != noChunk {
			if r.chunk < 0 || int(r.chunk) >= len(chunks) {
				return fmt.Errorf("file %.40q has chunk %d of %d", e.name, r.chunk, len(chunks))
			}
			n = int64(chunks[r.chunk].size)
		}
		if n <= 0 || n > left {
			return fmt.Errorf("file %.40q of %d bytes has content of another length", e.name, e.size)
		}
		left -= n
	}
	if left != 0 {
		return fmt.Errorf("file %.40q of %d bytes has %d too few", e.name, e.size, left)
	}
	return nil
}
