package cachemount

import (
	"cmp"
	"slices"
	"time"
)

// evict marks files that are to be left out: those of no use for longer than
// age, and then, as long as the rest is larger than size, those of no use for
// longest. 0 is no bound. disk is what each file takes, bytes.
//
// Of use a file was when it was last written or read. A read shows in the access
// time, which the default of Linux (relatime) moves on the first read after a
// change, and an import sets it back to what the artifact knows; so after a
// build it tells which files that build used. Where a file system keeps no
// access times, it stays what it was, and use is the last change.
func (t tree) evict(disk []int64, gone []bool, age time.Duration, size int64) (expired, evicted int) {
	var files []int32
	sum := int64(0)
	oldest := time.Now().Add(-age).Unix() / 3600
	for i := range t {
		switch {
		case !t[i].isFile():
		case age > 0 && t[i].used < oldest:
			gone[i] = true
			expired++
		default:
			sum += disk[i]
			files = append(files, int32(i))
		}
	}
	if size <= 0 || sum <= size {
		return expired, 0
	}
	slices.SortStableFunc(files, func(a, b int32) int { return cmp.Compare(t[a].used, t[b].used) })
	for _, i := range files {
		if sum <= size {
			break
		}
		gone[i] = true
		sum -= disk[i]
		evicted++
	}
	return expired, evicted
}

// maxPacks is how many packs a mount has before small ones are made into one.
const maxPacks = 16

// repack chooses which earlier packs stay, in their order, and which files must
// be read again because the others had their content. A pack goes when less than
// half of it is still in use; and of too many the smaller half goes, so that each
// byte is sent again only about once in so many pushes as make a pack as large
// as all the others.
func (e *exporter) repack() (keep []int, again []int32) {
	live := e.live()
	var stay []int
	for i := range e.base.packs {
		total := int64(0)
		for _, c := range e.base.of(i) {
			total += int64(c.size)
		}
		if 2*live[i] >= total && live[i] > 0 {
			stay = append(stay, i)
		}
	}
	if len(stay)+len(e.pack.made) > maxPacks {
		slices.SortStableFunc(stay, func(a, b int) int { return cmp.Compare(e.base.packs[b].Size, e.base.packs[a].Size) })
		stay = stay[:len(stay)/2]
		slices.Sort(stay)
	}
	stays := make([]bool, len(e.base.packs))
	for _, i := range stay {
		stays[i] = true
	}
	for i := range e.base.packs {
		if !stays[i] {
			e.out.Repacked++
			e.pack.forget(e.base.of(i))
		}
	}
	for i := range e.at.tree {
		if e.gone[i] {
			continue
		}
		for _, r := range e.at.tree[i].runs {
			if r.chunk != noChunk && int(r.chunk) < len(e.base.chunks) && !stays[e.base.pack(r.chunk)] {
				again = append(again, int32(i))
				break
			}
		}
	}
	return stay, again
}

// live is how many bytes of content of each earlier pack are in use.
func (e *exporter) live() []int64 {
	live := make([]int64, len(e.base.packs))
	seen := make([]bool, len(e.base.chunks))
	for i := range e.at.tree {
		if e.gone[i] {
			continue
		}
		for _, r := range e.at.tree[i].runs {
			if r.chunk != noChunk && int(r.chunk) < len(seen) && !seen[r.chunk] {
				seen[r.chunk] = true
				live[e.base.pack(r.chunk)] += int64(e.base.chunks[r.chunk].size)
			}
		}
	}
	return live
}
