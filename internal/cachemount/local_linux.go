package cachemount

import (
	"context"
	"crypto/sha256"

	"golang.org/x/sys/unix"
)

// local is where a chunk is in what the directory has.
type local struct {
	file   int32 // of the scan
	offset int64
}

// copyLocal writes the chunks that files of the directory have, which are known
// and have not changed; what they turn out not to have stays to be fetched.
func (u *unpacker) copyLocal(ctx context.Context) error {
	have := u.locals()
	if len(have) == 0 {
		return nil
	}
	rest, buf := u.places[:0], make([]byte, maxChunk)
	for _, p := range u.places {
		c := &u.contents.chunks[p.chunk]
		at, ok := have[c.sum]
		if !ok || !u.readLocal(at, c, buf) {
			rest = append(rest, p)
			continue
		}
		if err := u.write(p.file, p.offset, buf[:c.size]); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	u.places = rest
	return nil
}

func (u *unpacker) locals() map[sum]local {
	have := map[sum]local{}
	for i, j := range u.unchanged {
		if j < 0 || !u.at.tree[i].isFile() {
			continue
		}
		offset := int64(0)
		for _, r := range u.rec.tree[j].runs {
			if r.chunk == noChunk {
				offset += r.hole
				continue
			}
			c := &u.rec.contents.chunks[r.chunk]
			have[c.sum] = local{int32(i), offset}
			offset += int64(c.size)
		}
	}
	return have
}

// readLocal reads a chunk from where it should be.
func (u *unpacker) readLocal(at local, c *chunk, buf []byte) bool {
	e := &u.at.tree[at.file]
	d, err := u.at.dirs.get(e.parent)
	if err != nil {
		return false
	}
	defer u.at.dirs.put(d)
	fd, err := openAt(d.fd, e.name, unix.O_RDONLY)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	b := buf[:c.size]
	r := &extentReader{fd: fd, at: at.offset, end: at.offset + int64(len(b))}
	for n := 0; n < len(b); {
		k, err := r.Read(b[n:])
		if err != nil {
			return false
		}
		n += k
	}
	return sha256.Sum256(b) == c.sum
}
