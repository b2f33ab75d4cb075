package cachemount

import (
	"crypto/sha256"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// Sizes in bytes.
const (
	// maxChunk bounds a chunk, and with it a frame.
	maxChunk = 4 << 20
	// wholeFile is the size up to which a file is one chunk; larger ones are cut
	// where their content says.
	wholeFile = 1 << 20
	// solidFrame is what a frame grows to with small chunks. Frames of 1 MiB cost
	// some percent of size against larger ones; but they are what has to be
	// fetched for a file of which nothing else is missing.
	solidFrame = 1 << 20
	// packContent is how much content a pack has before another is begun, so that
	// one can be given up without the others.
	packContent = 256 << 20
)

// sum is a chunk's SHA-256.
type sum = [sha256.Size]byte

// chunk is a stretch of content.
type chunk struct {
	sum  sum
	size uint32
}

// frame is one of a pack: what it takes there and how many chunks it holds.
type frame struct {
	packed uint32
	size   uint32
	chunks int32
}

// Pack is a blob with contents of a mount, as the artifact names it.
type Pack struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"` // bytes
	Index  Index         `json:"index"`
}

// Index is where a pack's index is, and what it must be.
type Index struct {
	Offset int64         `json:"offset"`
	Size   int64         `json:"size"`
	Digest digest.Digest `json:"digest"`
}

// check refuses what no pack can be.
func (p *Pack) check() error {
	if p.Digest.Validate() != nil || p.Index.Digest.Validate() != nil {
		return corrupt("pack %.80q: no digest", string(p.Digest))
	}
	if p.Index.Offset < 8 || p.Index.Size < int64(len(packMagic)) || p.Index.Size > maxIndex || p.Index.Offset > p.Size-p.Index.Size {
		return corrupt("pack %s: an index of %d bytes at %d of %d", p.Digest, p.Index.Size, p.Index.Offset, p.Size)
	}
	return nil
}

// packMagic begins an index, the content of a skippable frame:
//
//	magic, number of frames, of each: packed size, number of chunks, their sizes
//	then the chunks' digests
const packMagic = "lighter pack 1\n"

// maxIndex bounds an index in bytes: 34 for each chunk, of which a pack of small
// files may have a few million.
const maxIndex = 128 << 20

// maxIndexes bounds the indexes of all packs of a mount together, bytes: what is
// read of them is in memory at once.
const maxIndexes = 256 << 20

// checkPacks refuses what the packs of no mount can be.
func checkPacks(packs []Pack) error {
	sum := int64(0)
	for i := range packs {
		if err := packs[i].check(); err != nil {
			return err
		}
		sum += packs[i].Index.Size
	}
	if sum > maxIndexes {
		return corrupt("the indexes of %d packs have %d bytes, more than %d", len(packs), sum, maxIndexes)
	}
	return nil
}

// packIndex is what a pack says about itself.
type packIndex struct {
	frames []frame
	chunks []chunk
}

func (x *packIndex) encode() []byte {
	w := &writer{}
	w.raw([]byte(packMagic))
	w.uint(uint64(len(x.frames)))
	at := 0
	for _, f := range x.frames {
		w.uint(uint64(f.packed))
		w.uint(uint64(f.chunks))
		for _, c := range x.chunks[at : at+int(f.chunks)] {
			w.uint(uint64(c.size))
		}
		at += int(f.chunks)
	}
	for i := range x.chunks {
		w.raw(x.chunks[i].sum[:])
	}
	return w.b
}

// decodeIndex reads the index of p, whose digest it verifies first. Errors wrap
// ErrCorrupt or ErrForeign.
func decodeIndex(p *Pack, b []byte) (*packIndex, error) {
	if got := p.Index.Digest.Algorithm().FromBytes(b); got != p.Index.Digest {
		return nil, corrupt("pack %s: its index is %s, not %s", p.Digest, got, p.Index.Digest)
	}
	r := &reader{b: b}
	if string(r.raw(uint64(len(packMagic)))) != packMagic {
		return nil, fmt.Errorf("pack %s: %w: its index is none of this version", p.Digest, ErrForeign)
	}
	x := &packIndex{chunks: make([]chunk, 0, len(b)/(sha256.Size+1))}
	end := int64(0)
	for range r.count() {
		f := frame{packed: uint32(min(r.uint(), maxChunk*2)), chunks: int32(r.count())}
		if f.chunks == 0 {
			return nil, corrupt("pack %s: a frame of nothing", p.Digest)
		}
		for range f.chunks {
			size := r.uint()
			if size == 0 || size > maxChunk || uint64(f.size)+size > maxChunk {
				return nil, corrupt("pack %s: a frame of more than %d bytes", p.Digest, maxChunk)
			}
			f.size += uint32(size)
			x.chunks = append(x.chunks, chunk{size: uint32(size)})
		}
		end += int64(f.packed)
		x.frames = append(x.frames, f)
	}
	for i := range x.chunks {
		copy(x.chunks[i].sum[:], r.raw(sha256.Size))
	}
	if r.err != nil || len(r.b) > 0 || end+8 != p.Index.Offset {
		return nil, corrupt("pack %s: its index does not account for it", p.Digest)
	}
	return x, nil
}
