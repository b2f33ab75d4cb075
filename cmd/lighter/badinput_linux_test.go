package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image/imagetest"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

var amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}

const (
	asTar  = ocispec.MediaTypeImageLayer
	asGzip = ocispec.MediaTypeImageLayerGzip
	asZstd = ocispec.MediaTypeImageLayerZstd
)

// bad is an image that nobody should have made, and what lighter says of it.
type bad struct {
	name string
	make func(t *testing.T, f *imagetest.Fixture)
	// harm changes the files of the layout afterwards; nil leaves them.
	harm func(t *testing.T, dir string, f *imagetest.Fixture)
	// What the error says; "" is an image that can be read, or converted.
	inspect, convert string
}

// one is an image of one layer: blob by a media type, of which the config says
// that it is the tar.
func one(mediaType string, blob, tar []byte) func(*testing.T, *imagetest.Fixture) {
	return sized(mediaType, blob, tar, 0)
}

// sized is one of which the manifest says more bytes than there are.
func sized(mediaType string, blob, tar []byte, more int64) func(*testing.T, *imagetest.Fixture) {
	return func(t *testing.T, f *imagetest.Fixture) {
		l := imagetest.Layer{Descriptor: f.Add(mediaType, blob), DiffID: digest.FromBytes(tar)}
		l.Descriptor.Size += more
		f.AddImage(t, amd64, l)
	}
}

// far is an image whose layer lies elsewhere.
func far(mediaType string) func(*testing.T, *imagetest.Fixture) {
	return func(t *testing.T, f *imagetest.Fixture) {
		f.AddImage(t, amd64, imagetest.Layer{
			Descriptor: ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString("far"), Size: 100, URLs: []string{"https://example.com/x"}},
			DiffID:     digest.FromString("its tar"),
		})
	}
}

// nested is an image in so many indexes.
func nested(depth int) func(*testing.T, *imagetest.Fixture) {
	return func(t *testing.T, f *imagetest.Fixture) {
		desc := f.AddImage(t, amd64, f.AddForeignGzip(t, imagetest.Tar(t, 1, 100)))
		for range depth {
			desc = f.AddIndex(t, desc)
		}
	}
}

// written is a manifest or index as it stands; %[1]s is the descriptor of an
// image in it.
func written(mediaType, format string) func(*testing.T, *imagetest.Fixture) {
	return func(t *testing.T, f *imagetest.Fixture) {
		d := f.AddImage(t, amd64, f.AddForeignGzip(t, imagetest.Tar(t, 1, 100)))
		if strings.Contains(format, "%") {
			format = fmt.Sprintf(format, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, d.MediaType, d.Digest, d.Size))
		}
		f.Root = f.Add(mediaType, []byte(format))
	}
}

// blobFile is where a layout has a blob.
func blobFile(dir string, d digest.Digest) string {
	return filepath.Join(dir, "blobs", d.Algorithm().String(), d.Encoded())
}

// instead puts other content in the place of the image's first blob.
func instead(b []byte) func(*testing.T, string, *imagetest.Fixture) {
	return func(t *testing.T, dir string, f *imagetest.Fixture) {
		if err := os.WriteFile(blobFile(dir, f.Descriptors[0].Digest), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func gzipped(t *testing.T, tar []byte) []byte {
	t.Helper()
	f := &imagetest.Fixture{}
	return f.Blob(f.AddForeignGzip(t, tar).Descriptor.Digest)
}

func flipped(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 16
	return b
}

func badImages(t *testing.T) []bad {
	tar := imagetest.Tar(t, 1, 300<<10)
	gz := gzipped(t, tar)
	f := &imagetest.Fixture{}
	zst := f.Blob(f.AddForeignZstd(t, tar).Descriptor.Digest)
	half := len(gz) / 2
	const differs, next = "content differs from its descriptor", ".* → try again; "
	return []bad{
		{"cut", one(asGzip, gz[:half], tar), nil, "", "gzip: cut at byte.*unexpected EOF" + next},
		{"flipped", one(asGzip, flipped(gz), tar), nil, "", "gzip: " + next},
		{"cut in the store", one(asGzip, gz, tar), instead(gz[:half]), differs, differs + next},
		{"flipped in the store", one(asGzip, gz, tar), instead(flipped(gz)), "", differs + next},
		{"zstd flipped in the store", one(asZstd, zst, tar), instead(flipped(zst)), "", differs + next},
		{"wrong diffID", one(asGzip, gz, gz), nil, "", "its tar is sha256:.*, its config says" + next},
		{"more bytes said", sized(asGzip, gz, tar, 10), nil, differs, differs + next},
		{"fewer bytes said", sized(asGzip, gz, tar, -10), nil, differs, differs + next},
		{"no bytes said", sized(asGzip, gz, tar, -int64(len(gz))), nil, differs, differs + next},
		{"gzip called zstd", one(asZstd, gz, tar), nil, "", ""},
		{"zstd called gzip", one(asGzip, zst, tar), nil, "", ""},
		{"tar called gzip", one(asGzip, tar, tar), nil, "", ""},
		{"gzip called tar", one(asTar, gz, tar), nil, "", ""},
		{"two gzip members", one(asGzip, append(gzipped(t, tar[:99]), gzipped(t, tar[99:])...), tar), nil, "", ""},
		{"something behind the gzip", one(asGzip, append(bytes.Clone(gz), "something"...), tar), nil, "", "gzip: " + next},
		{"nothing", one(asTar, nil, nil), nil, "", ""},
		{"nothing called gzip", one(asGzip, nil, nil), nil, "", ""},
		{"gzip of nothing", one(asGzip, gzipped(t, nil), nil), nil, "", ""},
		{"empty tar", one(asGzip, gzipped(t, make([]byte, 1024)), make([]byte, 1024)), nil, "", ""},
		{"no layers", func(t *testing.T, f *imagetest.Fixture) { f.AddImage(t, amd64) }, nil, "", ""},
		{"index in an index", nested(2), nil, "", ""},
		{"six indexes deep", nested(6), nil, "in more than 4 others", "in more than 4 others"},
		{"index in itself", written(ocispec.MediaTypeImageIndex,
			`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:`+strings.Repeat("0", 64)+`","size":183}]}`),
			func(t *testing.T, dir string, f *imagetest.Fixture) {
				if err := os.Link(blobFile(dir, f.Root.Digest), blobFile(dir, digest.Digest("sha256:"+strings.Repeat("0", 64)))); err != nil {
					t.Fatal(err)
				}
			}, differs, differs},
		{"Docker's foreign layer", far("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), nil, "", "lie elsewhere, which registries may refuse: "},
		{"layer that may not be passed on", far("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"), nil, "", "lie elsewhere, which registries may refuse: "},
		{"schema 1", written("application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1}`), nil, "schema 1 manifest", "schema 1 manifest"},
		{"two spellings", written(ocispec.MediaTypeImageIndex, `{"schemaVersion":2,"Manifests":[%[1]s]}`), nil, "two images", "two images"},
		{"two lists", written(ocispec.MediaTypeImageIndex, `{"schemaVersion":2,"manifests":[],"manifests":[%[1]s]}`), nil, "two images", "two images"},
		{"missing image", written(ocispec.MediaTypeImageIndex,
			`{"schemaVersion":2,"manifests":[%[1]s,{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:`+strings.Repeat("1", 64)+`","size":183}]}`),
			nil, "not found: sha256:1111", "not found: sha256:1111"},
	}
}

// Each bad image ends in a clear error or a right result, and the tag at the
// destination stands for what it stood for, or for all of the image: it is read
// back, and each tar held against its diffID.
func TestBadInput(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	s := newSite(t)
	old := &imagetest.Fixture{Tag: "1"}
	old.AddImage(t, amd64, old.AddForeignGzip(t, imagetest.Tar(t, 99, 100)))
	for i, b := range badImages(t) {
		s.sub(b.name, func(t *testing.T) {
			name := fmt.Sprintf("bad%d", i)
			f := &imagetest.Fixture{Tag: "1"}
			b.make(t, f)
			f.WriteLayout(t, filepath.Join(s.dir, name))
			if b.harm != nil {
				b.harm(t, filepath.Join(s.dir, name), f)
			}
			reg.Push(t, name, old)
			s.says(b.inspect, "inspect", "oci:"+name)
			s.says(b.convert, "convert", "oci:"+name, reg.Ref(name+":1"))
			if b.convert != "" {
				if got := digestOf(t, reg, name+":1"); got != old.Root.Digest.String() {
					t.Errorf("the tag stands for %s", got)
				}
			} else {
				// skopeo reads no index in an index.
				s.ok("convert", "--compression", "uncompressed", reg.Ref(name+":1"), "oci:"+name+"-back")
			}
		})
	}
}

// says runs lighter and wants an error that matches want, in one line; none
// where want is "".
func (s *site) says(want string, args ...string) {
	s.t.Helper()
	c := s.start(args...)
	_ = c.stdin.Close()
	if want == "" {
		if c.code() != exitDone {
			s.t.Errorf("%v: exit code %d", args, c.code())
		}
		return
	}
	if c.code() != exitFailed {
		s.t.Fatalf("%v: exit code %d", args, c.code())
	}
	c.until(`^lighter: .*` + want + `.*\n\z`)
	if said := c.stderr.String(); strings.Count(said, "lighter: ") != 1 || strings.Contains(said, "goroutine ") {
		s.t.Errorf("%v: %s", args, said)
	}
}

// digestOf is what a tag stands for.
func digestOf(t *testing.T, reg *registrytest.Server, ref string) string {
	t.Helper()
	name, tag, _ := strings.Cut(ref, ":")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, fmt.Sprintf("%s/v2/%s/manifests/%s", reg.URL(), name, tag), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", ocispec.MediaTypeImageManifest+", "+ocispec.MediaTypeImageIndex)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.Header.Get("Docker-Content-Digest")
}

// Half a gigabyte behind half a megabyte passes through in bounded memory, whatever it
// becomes, and is no way around the diffID.
func TestBombs(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	s := newSite(t)
	const size = 512 << 20
	whole := digest.SHA256.Digester()
	var gz, zst bytes.Buffer
	zw, err := zstd.NewWriter(&zst)
	if err != nil {
		t.Fatal(err)
	}
	gw := gzip.NewWriter(&gz)
	for zeros := make([]byte, 1<<20); ; {
		if _, err := io.MultiWriter(whole.Hash(), gw, zw).Write(zeros); err != nil {
			t.Fatal(err)
		}
		if gz.Len() >= size>>10 { // gzip's best is 1 in 1032
			break
		}
	}
	if err := gw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	for i, b := range []struct {
		blob   []byte
		diffID digest.Digest
		to     string
		want   string
	}{
		{gz.Bytes(), whole.Digest(), "zstd", ""},
		{zst.Bytes(), whole.Digest(), "gzip", ""},
		{zst.Bytes(), whole.Digest(), "zstd:chunked", ""},
		{zst.Bytes(), digest.FromString("another"), "zstd:chunked", "its config says"},
	} {
		name := fmt.Sprintf("bomb%d", i)
		f := &imagetest.Fixture{Tag: "1"}
		f.AddImage(t, amd64, imagetest.Layer{Descriptor: f.Add(asGzip, b.blob), DiffID: b.diffID})
		f.WriteLayout(t, filepath.Join(s.dir, name))
		c := s.start("convert", "--compression", b.to, "oci:"+name, reg.Ref(name+":1"))
		_ = c.stdin.Close()
		if got := c.code(); (got == exitDone) != (b.want == "") || !strings.Contains(c.stderr.String(), b.want) {
			t.Errorf("%s: exit code %d, want %q", b.to, got, b.want)
		}
		if (digestOf(t, reg, name+":1") == "") != (b.want != "") {
			t.Errorf("%s: the tag stands for %s", b.to, digestOf(t, reg, name+":1"))
		}
		// The kernel counts what this process had when it started the other, too.
		used := c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss >> 10
		t.Logf("%s: %d MiB", b.to, used)
		if used > 400 {
			t.Errorf("%s: %d MiB of memory", b.to, used)
		}
	}
}
