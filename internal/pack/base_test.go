package pack

import (
	"archive/tar"
	"bytes"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
)

// tarOf is a layer of names; one with an arrow is a link.
func tarOf(t *testing.T, entries ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e[0], Typeflag: tar.TypeReg, Mode: 0o755}
		if e[1] != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, e[1]
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What a loader finds: through links, in the directories that it knows, and not
// what an upper layer took away.
func TestLoaderFinds(t *testing.T) {
	pool := codec.NewPool(1)
	defer pool.Close()
	var src image.Made
	all := &layers{base: "debian", links: map[string]string{}}
	for _, layer := range [][]byte{
		tarOf(t, [2]string{"./lib64", "usr/lib64"}, [2]string{"./lib", "/usr/lib"}, [2]string{"usr/lib64/ld-linux-x86-64.so.2", "../lib/x86_64-linux-gnu/ld.so"},
			[2]string{"usr/lib/x86_64-linux-gnu/ld.so", ""}, [2]string{"usr/lib/x86_64-linux-gnu/libc.so.6", ""},
			[2]string{"usr/lib/libz.so.1", "libz.so.1.2"}, [2]string{"usr/lib/libz.so.1.2", ""}, [2]string{"opt/gone/libgone.so", ""},
			[2]string{"usr/lib/libold.so", ""}, [2]string{"usr/lib/round.so", "round.so"}, [2]string{"usr/lib/dangling.so", "nothing"}),
		tarOf(t, [2]string{"usr/lib/.wh.libold.so", ""}, [2]string{"opt/gone/.wh..wh..opq", ""}, [2]string{"opt/app/lib/libown.so", ""}),
	} {
		if err := all.read(t.Context(), &src, src.AddBytes(ocispec.MediaTypeImageLayer, layer), pool); err != nil {
			t.Fatal(err)
		}
	}
	for need, want := range map[string]bool{
		"/lib64/ld-linux-x86-64.so.2": true, "libc.so.6": true, "libz.so.1": true, "libown.so": true,
		"/lib/ld-musl-x86_64.so.1": false, "libold.so": false, "libgone.so": false, "round.so": false, "dangling.so": false, "c.so.6": false,
	} {
		if got := all.has(need, []string{"/opt/gone", "$ORIGIN/../../../opt/app/lib"}); got != want {
			t.Errorf("%s: there %v, want %v", need, got, want)
		}
	}
	if (*layers)(nil).has("libc.so.6", nil) {
		t.Error("scratch has a library")
	}
}
