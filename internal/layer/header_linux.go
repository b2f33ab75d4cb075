package layer

import (
	"archive/tar"
	"bytes"
	"time"

	"golang.org/x/sys/unix"
)

// headers encodes tar headers as containerd's archive.ChangeWriter sets them:
// PAX where USTAR does not suffice, whole seconds, no names of users, no
// access and change times, security.capability as the only attribute.
type headers struct {
	epoch *time.Time
	buf   bytes.Buffer // where tw writes
	fresh tar.Writer   // tw before it has seen a header
	tw    tar.Writer
	slab  []byte // what encode returns are pieces of this
}

// slabSize is how much memory for headers is asked for at a time.
const slabSize = 64 << 10

func newHeaders(epoch *time.Time) *headers {
	if epoch != nil {
		whole := epoch.Truncate(time.Second)
		epoch = &whole
	}
	e := &headers{epoch: epoch}
	e.fresh = *tar.NewWriter(&e.buf)
	return e
}

// encode returns the blocks that come before the body of h; they are the
// caller's to keep.
func (e *headers) encode(h *tar.Header) ([]byte, error) {
	if e.epoch != nil && h.ModTime.After(*e.epoch) {
		h.ModTime = *e.epoch
	}
	e.buf.Reset()
	e.tw = e.fresh // one that has seen a header would wait for the body
	if err := e.tw.WriteHeader(h); err != nil {
		return nil, err
	}
	if cap(e.slab)-len(e.slab) < e.buf.Len() {
		e.slab = make([]byte, 0, max(slabSize, e.buf.Len()))
	}
	n := len(e.slab)
	e.slab = append(e.slab, e.buf.Bytes()...)
	return e.slab[n:len(e.slab):len(e.slab)], nil
}

// whiteoutHeader is of a file that says "name in dir is gone". Its times are
// zero, as containerd's are since 2.0.
func whiteoutHeader(dir, name string) *tar.Header {
	return &tar.Header{
		Typeflag: tar.TypeReg,
		Name:     join(dir, ".wh."+name),
		ModTime:  time.Unix(0, 0),
	}
}

// entryHeader is of anything else. capability may be nil, target is that of a
// symbolic link. It is nil for what has no place in a tar: sockets.
func entryHeader(name string, st *unix.Stat_t, target string, capability []byte) *tar.Header {
	sec, _ := st.Mtim.Unix()
	h := &tar.Header{
		Format:  tar.FormatPAX,
		Name:    name,
		Mode:    int64(st.Mode & 0o7777),
		Uid:     int(st.Uid),
		Gid:     int(st.Gid),
		ModTime: time.Unix(sec, 0),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.Typeflag = tar.TypeReg
		h.Size = st.Size
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
		h.Name += "/"
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		h.Linkname = target
	case unix.S_IFCHR:
		h.Typeflag = tar.TypeChar
	case unix.S_IFBLK:
		h.Typeflag = tar.TypeBlock
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return nil
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		h.Devmajor = int64(unix.Major(st.Rdev))
		h.Devminor = int64(unix.Minor(st.Rdev))
	}
	if len(capability) > 0 {
		h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": string(capability)}
	}
	return h
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
