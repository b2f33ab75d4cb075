package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
)

// entry is one of a tar.
type entry struct {
	tar.Header
	content []byte
}

// directory, file and link are the entries of plain cases.
func directory(name string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}, nil}
}

func file(name, content string) entry {
	return entry{tar.Header{Name: name, Mode: 0o644}, []byte(content)}
}

func link(kind byte, mode int64, name, to string) entry {
	return entry{tar.Header{Name: name, Typeflag: kind, Mode: mode, Linkname: to}, nil}
}

// everythingLostEasily are three layers of what an unpacker gets wrong: a file
// of more than one zstd frame, links, odd names, an owner with setuid, and in
// the second layer whiteouts.
func everythingLostEasily() [][]entry {
	large := make([]byte, 9<<20) // of four letters, so that it compresses
	rand.NewChaCha8([32]byte{}).Read(large)
	for i := range large {
		large[i] = 'a' + large[i]&3
	}
	tool := file("srv/data/tool", "somebody's, setuid")
	tool.Mode, tool.Uid, tool.Gid = 0o4750, 1000, 50
	return [][]entry{{
		directory("srv/"), directory("srv/data/"), directory("srv/replaced/"),
		file("srv/data/large", string(large)), link(tar.TypeLink, 0o644, "srv/data/linked", "srv/data/large"),
		link(tar.TypeSymlink, 0o777, "srv/data/symbolic", "../changed"), tool, file("srv/data/empty", ""),
		file("srv/-rf \t$(x) \"ж\n日本", "odd"), file("srv/"+strings.Repeat("long", 50), "long"),
		file("srv/changed", "first"), file("srv/removed", "first"), file("srv/replaced/old", "first"),
	}, {
		directory("srv/"), directory("srv/replaced/"), file("srv/replaced/.wh..wh..opq", ""), file("srv/replaced/new", "second"),
		file("srv/.wh.removed", ""), file("srv/changed", "second"),
	}, {
		directory("srv/"), file("srv/last", "third"),
	}}
}

// uncompressed is an image of such layers, of which every blob that a client
// sees has still to be made, and the files that are in it.
func uncompressed(t *testing.T, layers [][]entry) (*imagetest.Fixture, tree) {
	t.Helper()
	f, files := &imagetest.Fixture{Tag: "source"}, tree{}
	var blobs []imagetest.Layer
	for _, entries := range layers {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, e := range entries {
			e.Size, e.ModTime = int64(len(e.content)), time.Unix(1_700_000_000, 0)
			if err := w.WriteHeader(&e.Header); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(e.content); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		blobs = append(blobs, f.AddLayer(t, b.Bytes(), codec.Compression{Codec: codec.Uncompressed}))
		if err := files.apply(&b); err != nil {
			t.Fatal(err)
		}
	}
	f.AddImage(t, ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}, blobs...)
	return f, files
}

// tree is what is below /srv: names, and what each stands for. Two names of
// one file share it.
type tree map[string]*string

// apply lays a tar over the tree, as a layer is laid over those below it.
func (files tree) apply(r io.Reader) error {
	for tr := tar.NewReader(r); ; {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Clean(hdr.Name)
		dir, base := path.Split(name)
		hidden, whiteout := strings.CutPrefix(base, ".wh.")
		switch {
		case name != "srv" && !strings.HasPrefix(name, "srv/"):
		case base == ".wh..wh..opq":
			files.remove(dir)
		case whiteout:
			delete(files, dir+hidden)
			files.remove(dir + hidden + "/")
		case hdr.Typeflag == tar.TypeLink:
			files[name] = files[path.Clean(hdr.Linkname)]
		default:
			is, err := describe(hdr, tr)
			if err != nil {
				return err
			}
			files[name] = &is
		}
	}
}

// remove takes away all that is below dir, which ends with a slash.
func (files tree) remove(dir string) {
	maps.DeleteFunc(files, func(name string, _ *string) bool { return strings.HasPrefix(name, dir) })
}

// describe is all of an entry that has to survive, but for its name. Times of
// directories and links are not: podman does not keep them.
func describe(hdr *tar.Header, content io.Reader) (string, error) {
	is := fmt.Sprintf("%v %d:%d", hdr.FileInfo().Mode(), hdr.Uid, hdr.Gid)
	switch hdr.Typeflag {
	case tar.TypeReg:
		hash := sha256.New()
		_, err := io.Copy(hash, content)
		return fmt.Sprintf("%s %d %d %x", is, hdr.Size, hdr.ModTime.Unix(), hash.Sum(nil)), err
	case tar.TypeSymlink:
		return is + " to " + hdr.Linkname, nil
	}
	return is, nil
}

// list is a line a name, sorted.
func (files tree) list() []string {
	var lines []string
	first := map[*string]string{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		is := files[name]
		switch earlier, seen := first[is]; {
		case is == nil:
			lines = append(lines, fmt.Sprintf("%q is a link to nothing", name))
		case seen:
			lines = append(lines, fmt.Sprintf("%q is %q", name, earlier))
		default:
			first[is] = name
			lines = append(lines, fmt.Sprintf("%q %s", name, *is))
		}
	}
	return lines
}
