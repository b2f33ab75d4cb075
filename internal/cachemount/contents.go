package cachemount

import "sort"

// contents are the packs of a mount with what their indexes say. Chunks are
// numbered through all packs, in order.
type contents struct {
	packs  []Pack
	frames [][]frame // of each pack
	first  []int32   // number of each pack's first chunk
	chunks []chunk
}

// add puts a pack behind the others.
func (c *contents) add(p Pack, x *packIndex) {
	c.packs = append(c.packs, p)
	c.frames = append(c.frames, x.frames)
	c.first = append(c.first, int32(len(c.chunks)))
	c.chunks = append(c.chunks, x.chunks...)
}

// of is the chunks of pack i.
func (c *contents) of(i int) []chunk {
	end := len(c.chunks)
	if i+1 < len(c.first) {
		end = int(c.first[i+1])
	}
	return c.chunks[c.first[i]:end]
}

// pack is the pack that has a chunk.
func (c *contents) pack(chunk int32) int {
	return sort.Search(len(c.first), func(i int) bool { return c.first[i] > chunk }) - 1
}

// same tells whether c are the contents of these packs.
func (c *contents) same(packs []Pack) bool {
	if len(c.packs) != len(packs) {
		return false
	}
	for i := range packs {
		if c.packs[i].Digest != packs[i].Digest || c.packs[i].Index.Digest != packs[i].Index.Digest {
			return false
		}
	}
	return true
}
