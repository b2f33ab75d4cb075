package cachemount

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
)

// record is what a directory was like when it was last the same as an artifact:
// a file of the agent's own, which counts only where it is whole.
type record struct {
	digest   digest.Digest // of the tree's blob
	tree     tree
	stats    []stat
	contents *contents
}

const recordMagic = "lighter mount record 1\n"

func (r *record) encode() ([]byte, error) {
	w := &writer{}
	w.raw([]byte(recordMagic))
	w.string(string(r.digest))
	packs, err := json.Marshal(r.contents.packs)
	if err != nil {
		return nil, err
	}
	w.string(string(packs))
	for i := range r.contents.packs {
		w.section(&writer{(&packIndex{r.contents.frames[i], r.contents.of(i)}).encode()})
	}
	w.section(&writer{r.tree.encode()})
	for _, s := range r.stats {
		w.uint(s.ino)
		w.int(s.ctime.sec)
		w.fixed32(s.ctime.nsec)
	}
	sum := sha256.Sum256(w.b)
	return append(w.b, sum[:]...), nil
}

var errRecord = errors.New("damaged")

func decodeRecord(b []byte) (*record, error) {
	if len(b) < sha256.Size || sha256.Sum256(b[:len(b)-sha256.Size]) != sum(b[len(b)-sha256.Size:]) {
		return nil, errRecord
	}
	r := &reader{b: b[:len(b)-sha256.Size]}
	if string(r.raw(uint64(len(recordMagic)))) != recordMagic {
		return nil, errRecord
	}
	out := &record{digest: digest.Digest(r.string()), contents: &contents{}}
	var packs []Pack
	if err := json.Unmarshal(r.raw(r.uint()), &packs); err != nil {
		return nil, err
	}
	for i := range packs {
		x, err := decodeIndex(&packs[i], r.raw(r.uint()))
		if err != nil {
			return nil, err
		}
		out.contents.add(packs[i], x)
	}
	var err error
	if out.tree, err = decodeTree(r.raw(r.uint()), out.contents.chunks); err != nil {
		return nil, err
	}
	out.stats = make([]stat, 0, len(out.tree))
	for range out.tree {
		out.stats = append(out.stats, stat{r.uint(), timespec{r.int(), r.fixed32()}})
	}
	return out, r.err
}

// load reads a root's record; nil where there is none that counts.
func (r Root) load() *record {
	if r.Record == "" {
		return nil
	}
	b, err := os.ReadFile(r.Record)
	if err != nil {
		return nil
	}
	out, err := decodeRecord(b)
	if err != nil {
		return nil
	}
	return out
}

// room is about how many entries a root had when it was recorded, of which each took
// 65 bytes where it was measured.
func (r Root) room() int {
	const few, each = 1024, 60
	info, err := os.Stat(r.Record)
	if err != nil {
		return few
	}
	return max(few, int(info.Size()/each))
}

// save replaces a root's record.
func (r Root) save(rec *record) error {
	if r.Record == "" {
		return nil
	}
	b, err := rec.encode()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(r.Record), 0o700); err != nil {
		return err
	}
	// One name for all: what a killed agent leaves is replaced by the next, and
	// should two write at once, what comes of it fails its checksum.
	temp := r.Record + ".new"
	if err := os.WriteFile(temp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, r.Record)
}

// unchanged finds for every entry of a directory the one in the record that it
// still is; -1 where it is new or may have changed.
func (r *record) unchanged(now *scanned) []int32 {
	if r == nil {
		out := make([]int32, len(now.tree))
		for i := range out {
			out[i] = -1
		}
		return out
	}
	out := now.tree.match(r.tree)
	for i, j := range out {
		if j < 0 {
			continue
		}
		a, b := &now.tree[i], &r.tree[j]
		same := a.kind() == b.kind() && a.isAlias() == b.isAlias()
		switch {
		case !same:
		case a.isDir(): // its times change with every name in it
			same = a.mode == b.mode && a.uid == b.uid && a.gid == b.gid
		default:
			same = now.stats[i] == r.stats[j] && (a.isAlias() || a.size == b.size && a.mtime == b.mtime)
		}
		if !same {
			out[i] = -1
		}
	}
	return out
}

// whole tells whether a directory is, entry by entry, what the record says,
// given what unchanged found.
func (r *record) whole(now *scanned, unchanged []int32) bool {
	return r != nil && now.unkept == 0 && len(now.tree) == len(r.tree) && !slices.Contains(unchanged, -1)
}
