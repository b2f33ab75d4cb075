package layer

import (
	"path"
	"strings"
	"unicode/utf8"

	"github.com/vbatts/tar-split/archive/tar"
)

// tree is the names of a layer and what each is. A tar that is read entry by
// entry may name a file twice, come before its directory, hide one of its own
// or go through its own symbolic links. One that is put together from a table
// of contents may not: containers/storage refuses such a table, or makes every
// file once and finds it there already, or makes files on 32 goroutines that
// trip over each other's directories, which then have no permissions; and
// instead of reading the tar it gives the pull up (podman 5.8).
type tree struct {
	names     map[string]byte // cleaned, from the root: the type of the entry
	whiteouts []string        // the names they hide
}

// The names of image-spec's layer.md. Others that begin with whiteoutAufs are
// left over from AUFS; whoever reads the tar passes over them.
const (
	whiteout       = ".wh."
	whiteoutAufs   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// admit adds an entry, or says why it cannot be in a table of contents.
func (t *tree) admit(hdr *tar.Header) string {
	name := path.Clean("/" + hdr.Name)
	_, known := t.names[name]
	above := path.Dir(name)
	switch {
	case entryType(hdr.Typeflag) == "":
		return "an entry of type " + string(rune(hdr.Typeflag)) + ": " + name
	case hdr.Name == "" || name == "/" && hdr.Typeflag != tar.TypeDir:
		return "an entry without a name"
	case known:
		return "two entries of one name: " + name
	case above != "/" && t.names[above] != tar.TypeDir:
		return "an entry whose directory has none before it: " + name
	case hdr.Size > 0 && hdr.Typeflag != tar.TypeReg:
		return "content in what is no file: " + name
	case hdr.Typeflag == tar.TypeLink && !t.linkable(hdr.Linkname):
		return "a hard link to what is no file before it: " + name
	case isNode(hdr.Typeflag) && !strings.HasPrefix(name, "/dev/"):
		return "a device or pipe outside of /dev: " + name
	case !utf8.ValidString(hdr.Name) || !utf8.ValidString(hdr.Linkname):
		return "a name that is not UTF-8: " + name
	}
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return "a sparse file: " + name
		}
		if attr, ok := strings.CutPrefix(key, xattrRecord); ok && (attr == "" || !utf8.ValidString(attr)) {
			return "an extended attribute whose name is not UTF-8: " + name
		}
	}
	if why := t.hide(name, hdr); why != "" {
		return why
	}
	t.names[name] = hdr.Typeflag
	return ""
}

// isNode is for what clients leave out when they follow a table. Below /dev,
// where base images have some, every runtime mounts its own.
func isNode(flag byte) bool {
	return flag == tar.TypeChar || flag == tar.TypeBlock || flag == tar.TypeFifo
}

// linkable says whether a hard link to name can be made.
func (t *tree) linkable(name string) bool {
	name = path.Clean("/" + name)
	switch t.names[name] {
	case tar.TypeReg, tar.TypeSymlink, tar.TypeLink:
		return !strings.HasPrefix(path.Base(name), whiteout)
	}
	return false
}

// hide notes what a whiteout hides.
func (t *tree) hide(name string, hdr *tar.Header) string {
	dir, base := path.Split(name)
	hidden, ok := strings.CutPrefix(base, whiteout)
	switch {
	case !ok:
		return ""
	case hdr.Typeflag != tar.TypeReg || hdr.Size > 0 || hidden == "":
		return "a whiteout that is no empty file: " + name
	case base == whiteoutOpaque:
		return ""
	case strings.HasPrefix(base, whiteoutAufs):
		return "an entry of AUFS: " + name
	}
	t.whiteouts = append(t.whiteouts, dir+hidden)
	return ""
}

// whole says what is wrong with the whole, all entries being there.
func (t *tree) whole() string {
	for _, name := range t.whiteouts {
		if _, known := t.names[name]; known {
			return "a whiteout for what the layer has itself: " + name
		}
	}
	return ""
}
