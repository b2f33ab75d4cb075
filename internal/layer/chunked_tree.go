package layer

import (
	"path"
	"strings"
	"unicode/utf8"

	"github.com/vbatts/tar-split/archive/tar"
)

// tree is the names of a layer and what each is. A tar that is read entry by
// entry may name a file twice, hide one of its own or go through its own
// symbolic links. One that is put together from a table of contents may not:
// clients refuse such a table, or make every file once and find it there
// already, and instead of reading the tar they give the pull up.
type tree struct {
	names     map[string]byte // cleaned, from the root: the type of the entry
	whiteouts []string        // the names they hide
}

// implied is a directory that has no entry, only entries below it.
const implied = 0

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
	is, known := t.names[name]
	dir := hdr.Typeflag == tar.TypeDir
	switch {
	case entryType(hdr.Typeflag) == "":
		return "an entry of type " + string(rune(hdr.Typeflag)) + ": " + name
	case hdr.Name == "" || name == "/" && !dir:
		return "an entry without a name"
	case known && (is != implied || !dir):
		return "two entries of one name: " + name
	case hdr.Size > 0 && hdr.Typeflag != tar.TypeReg:
		return "content in what is no file: " + name
	case hdr.Typeflag == tar.TypeLink && !t.linkable(hdr.Linkname):
		return "a hard link to what is no file before it: " + name
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
	return t.imply(name)
}

// linkable says whether a hard link to name can be made.
func (t *tree) linkable(name string) bool {
	name = path.Clean("/" + name)
	is, known := t.names[name]
	return known && is != implied && is != tar.TypeDir && !strings.HasPrefix(path.Base(name), whiteout)
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

// imply adds the directories above name that nothing has named yet.
func (t *tree) imply(name string) string {
	for name != "/" {
		name = path.Dir(name)
		switch is, known := t.names[name]; {
		case strings.HasPrefix(path.Base(name), whiteout):
			return "an entry below a whiteout: " + name
		case known && (is == implied || is == tar.TypeDir):
			return ""
		case known:
			return "an entry below what is no directory: " + name
		}
		t.names[name] = implied
	}
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
