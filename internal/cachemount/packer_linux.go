package cachemount

import (
	"crypto/sha256"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/lighter-oci/lighter/internal/codec"
)

// packer puts chunks that no earlier pack has into new ones, which it sends as
// they are made.
type packer struct {
	pool *codec.Pool
	c    *conn

	known map[sum]int32 // numbers of chunks, of the earlier packs and of the new ones
	count int32         // chunks there are
	added int64         // bytes of content in new packs

	w     *codec.Writer // of the pack that is open; nil for none
	index packIndex     // of it
	size  int64         // bytes of content in it
	made  []packed
}

// packed is a pack that was sent. Its digest is the receiver's to tell.
type packed struct {
	Index
	packIndex
}

func newPacker(o *operation, base *contents) *packer {
	p := &packer{pool: o.agent.Pool, c: o.c, known: make(map[sum]int32, len(base.chunks)), count: int32(len(base.chunks))}
	for i, c := range base.chunks {
		p.known[c.sum] = int32(i)
	}
	return p
}

// forget makes a chunk new, should it come again.
func (p *packer) forget(chunks []chunk) {
	for _, c := range chunks {
		delete(p.known, c.sum)
	}
}

// add answers the number of a chunk, and packs it where it is new. b is not kept.
func (p *packer) add(s sum, b []byte) (int32, error) {
	if n, ok := p.known[s]; ok {
		return n, nil
	}
	if p.w != nil && p.size+int64(len(b)) > packContent {
		if err := p.finish(); err != nil {
			return 0, err
		}
	}
	if p.w == nil {
		if err := p.begin(); err != nil {
			return 0, err
		}
	}
	last := len(p.index.frames) - 1
	if last < 0 || int(p.index.frames[last].size)+len(b) > solidFrame {
		if err := p.w.BeginFrame(max(solidFrame, len(b)), false); err != nil {
			return 0, err
		}
		p.index.frames = append(p.index.frames, frame{})
		last++
	}
	if _, err := p.w.Write(b); err != nil {
		return 0, err
	}
	p.index.frames[last].size += uint32(len(b))
	p.index.frames[last].chunks++
	p.index.chunks = append(p.index.chunks, chunk{s, uint32(len(b))})
	p.size += int64(len(b))
	p.added += int64(len(b))
	n := p.count
	p.known[s] = n
	p.count++
	return n, nil
}

func (p *packer) begin() (err error) {
	if err := p.c.send(msgPack, nil); err != nil {
		return err
	}
	p.index, p.size = packIndex{}, 0
	p.made = append(p.made, packed{})
	p.w, err = p.pool.NewWriter(p.c, codec.Options{FrameSize: maxChunk, Bare: true, Trailer: p.trailer})
	return err
}

// trailer is the index, once the sizes of all frames are known.
func (p *packer) trailer(frames []codec.Frame) ([][]byte, error) {
	if len(frames) != len(p.index.frames) {
		return nil, fmt.Errorf("%d frames were made of %d", len(frames), len(p.index.frames))
	}
	end := int64(0)
	for i, f := range frames {
		if f.Size != p.index.frames[i].size {
			return nil, fmt.Errorf("frame %d has %d bytes, not %d", i, f.Size, p.index.frames[i].size)
		}
		p.index.frames[i].packed = f.Packed
		end += int64(f.Packed)
	}
	b := p.index.encode()
	if len(b) > maxIndex {
		return nil, fmt.Errorf("an index of %d bytes", len(b))
	}
	sum := sha256.Sum256(b)
	at := Index{Offset: end + 8, Size: int64(len(b)), Digest: digest.NewDigestFromBytes(digest.SHA256, sum[:])}
	p.made[len(p.made)-1] = packed{at, p.index}
	return [][]byte{b}, nil
}

// finish ends the pack that is open.
func (p *packer) finish() error {
	if p.w == nil {
		return nil
	}
	if err := p.w.Close(); err != nil {
		return err
	}
	p.w = nil
	return p.c.send(msgPacked, p.made[len(p.made)-1].Index)
}

// abort gives the pack that is open up.
func (p *packer) abort() {
	if p.w != nil {
		p.w.Abort()
	}
}
