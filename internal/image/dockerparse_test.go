package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func savedConfig(diffIDs ...digest.Digest) string {
	var quoted []string
	for _, d := range diffIDs {
		quoted = append(quoted, fmt.Sprintf("%q", d))
	}
	return `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[` + strings.Join(quoted, ",") + `]}}`
}

func link(name, to string, kind byte) entry {
	return entry{tar.Header{Name: name, Linkname: to, Typeflag: kind, Mode: 0o644}, ""}
}

// What nobody should be able to do with an archive from elsewhere.
func TestBrokenDockerArchives(t *testing.T) {
	tarball := strings.Repeat("layer", 300)
	d := digest.FromString(tarball)
	manifest := file("manifest.json", `[{"Config":"c.json","RepoTags":["app:1"],"Layers":["l/layer.tar"]}]`)
	config, layer := file("c.json", savedConfig(d)), file("l/layer.tar", tarball)
	good := archive(t, config, layer, manifest)
	var zipped bytes.Buffer
	zw := gzip.NewWriter(&zipped)
	if _, err := zw.Write(good); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	names := func(config, layer string) entry {
		return file("manifest.json", fmt.Sprintf(`[{"Config":%q,"Layers":[%q]}]`, config, layer))
	}
	var loop []entry
	for i := range 20 {
		loop = append(loop, link(fmt.Sprint(i), fmt.Sprint((i+1)%20), tar.TypeSymlink))
	}
	for label, tt := range map[string]struct {
		content []byte
		want    string
	}{
		"good":                   {good, ""},
		"dots before names":      {archive(t, file("./c.json", savedConfig(d)), file("./l/layer.tar", tarball), file("./manifest.json", manifest.content)), ""},
		"a link":                 {archive(t, config, file("x.tar", tarball), link("l/layer.tar", "../x.tar", tar.TypeSymlink), manifest), ""},
		"a hard link":            {archive(t, config, file("x.tar", tarball), link("l/layer.tar", "x.tar", tar.TypeLink), manifest), ""},
		"the last one counts":    {archive(t, file("c.json", "x"), config, link("l/layer.tar", "/etc/passwd", tar.TypeSymlink), layer, manifest), ""},
		"the last one is a link": {archive(t, config, layer, file("x.tar", "x"), link("l/layer.tar", "../x.tar", tar.TypeSymlink), manifest), "layer \"l/layer.tar\" is sha256:2d711642"},
		"gzip":                   {zipped.Bytes(), "compressed with gzip as a whole: decompress it first (gzip -d)"},
		"truncated":              {good[:2000], "truncated"},
		"truncated header":       {good[:3300], "damaged"},
		"empty":                  {nil, "no file manifest.json"},
		"no tar":                 {bytes.Repeat([]byte("hello "), 1000), "no tar archive"},
		"no manifest":            {archive(t, config, layer), "no file manifest.json"},
		"broken manifest":        {archive(t, file("manifest.json", "[")), "manifest.json: "},
		"no image":               {archive(t, file("manifest.json", "[]")), "names no image"},
		"9 MiB of manifest":      {archive(t, file("manifest.json", strings.Repeat(" ", 9<<20))), "more than"},
		"1001 images":            {archive(t, file("manifest.json", "["+strings.Repeat("{},", 1000)+"{}]")), "more than 1000 images"},
		"10001 layers":           {archive(t, file("manifest.json", `[{"Layers":[`+strings.Repeat(`"",`, 10000)+`""]}]`)), "more than 10000 layers"},
		"no config":              {archive(t, layer, manifest), `config: file "c.json": file does not exist`},
		"broken config":          {archive(t, file("c.json", "{"), layer, manifest), "config sha256:"},
		"9 MiB of config":        {archive(t, file("c.json", strings.Repeat(" ", 9<<20)), layer, manifest), "more than"},
		"no layer":               {archive(t, config, manifest), `layer 1: file "l/layer.tar": file does not exist`},
		"two diffIDs":            {archive(t, file("c.json", savedConfig(d, d)), layer, manifest), "lists 1 layers, config \"c.json\" has 2 diffIDs"},
		"other diffID":           {archive(t, file("c.json", savedConfig(digest.FromString("x"))), layer, manifest), "its config says \"sha256:2d711642b726b044"},
		"no diffID":              {archive(t, file("c.json", savedConfig("x\ny")), layer, manifest), "its config says"},
		"outside by name":        {archive(t, config, layer, names("c.json", "../../etc/passwd")), "leads out of it"},
		"outside by absolute":    {archive(t, config, layer, names("/etc/passwd", "l/layer.tar")), "leads out of it"},
		"outside by symlink":     {archive(t, config, link("l/layer.tar", "../../etc/passwd", tar.TypeSymlink), manifest), "link that leads out"},
		"absolute symlink":       {archive(t, config, file("x.tar", tarball), link("l/layer.tar", "/x.tar", tar.TypeSymlink), manifest), "link that leads out"},
		"outside by hard link":   {archive(t, config, link("l/layer.tar", "../x", tar.TypeLink), manifest), "link that leads out"},
		"entries outside":        {archive(t, file("../c.json", savedConfig(d)), file("/l/layer.tar", tarball), manifest), `file "c.json": file does not exist`},
		"absolute entry":         {archive(t, config, file("/l/layer.tar", tarball), manifest), `file "l/layer.tar": file does not exist`},
		"links in a circle":      {archive(t, append(loop, config, names("c.json", "0"))...), "link to a link"},
		"layer is a directory":   {archive(t, config, link("l/layer.tar", "", tar.TypeDir), manifest), "does not exist"},
		"a layout without index": {archive(t, file("oci-layout", layoutVersion), manifest), "index.json"},
	} {
		t.Run(label, func(t *testing.T) {
			a, err := ReadDockerArchive("x.tar", bytes.NewReader(tt.content), int64(len(tt.content)), nothing)
			if err == nil {
				_, err = a.Resolve(t.Context(), "")
			}
			switch {
			case tt.want == "" && err != nil:
				t.Fatal(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "x.tar") || strings.Contains(err.Error(), "\n")):
				t.Errorf("%v, want one line with %q", err, tt.want)
			}
		})
	}
	var released bool
	if _, err := ReadDockerArchive("x", bytes.NewReader(nil), 0, func() error { released = true; return nil }); err == nil || !released {
		t.Errorf("%v, released: %v", err, released)
	}
}

// Hashing stops when it is told to, and starts again.
func TestDockerArchiveCancelled(t *testing.T) {
	big := strings.Repeat("x", 5<<20)
	content := archive(t, file("c.json", savedConfig(digest.FromString(big))), file("l", big), file("manifest.json", `[{"Config":"c.json","Layers":["l"]},{"Config":"c.json","Layers":["l"]}]`))
	ctx, cancel := context.WithCancel(t.Context())
	r := &cancelling{bytes.NewReader(content), 0, cancel}
	a, err := ReadDockerArchive("x", r, int64(len(content)), nothing)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Resolve(ctx, "@0"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want it cancelled", err)
	}
	r.cancel = func() {}
	if _, err := a.Resolve(t.Context(), "@0"); err != nil {
		t.Error(err)
	}
	r.big = 0
	for _, ref := range []string{"@0", "@1"} {
		if _, err := a.Resolve(t.Context(), ref); err != nil || r.big > 0 {
			t.Errorf("%s: hashed again: %v, %d reads", ref, err, r.big)
		}
	}
}

// cancelling calls cancel when a big piece is read.
type cancelling struct {
	*bytes.Reader
	big    int
	cancel func()
}

func (c *cancelling) ReadAt(p []byte, off int64) (int, error) {
	if len(p) >= 1<<20 {
		c.big++
		c.cancel()
	}
	return c.Reader.ReadAt(p, off)
}

// Whatever an archive says, nothing outside of it is read, and what can be
// resolved can be read whole and is what its descriptors say.
func FuzzDockerArchive(f *testing.F) {
	d := digest.FromString("layer")
	f.Add(archive(f, file("c", savedConfig(d)), file("l", "layer"), file("manifest.json", `[{"Config":"c","RepoTags":["app:1"],"Layers":["l"]}]`)))
	f.Add(archive(f, file("c", savedConfig(d, d)), file("a/l", "layer"), link("l", "a/l", tar.TypeSymlink), link("m", "l", tar.TypeLink), file("manifest.json", `[{"Config":"c","Layers":["l","m"]},{}]`)))
	f.Add(archive(f, file("oci-layout", layoutVersion), file("index.json", emptyIndex), file("manifest.json", `[{}]`)))
	f.Fuzz(func(t *testing.T, content []byte) {
		r := bytes.NewReader(content)
		files, err := indexDockerTar(r, r.Size())
		if err != nil {
			return
		}
		for name, e := range files.entries {
			if e.offset < 0 || e.size < 0 || e.offset+e.size > r.Size() {
				t.Fatalf("%q lies at %d, %d bytes, in an archive of %d", name, e.offset, e.size, r.Size())
			}
		}
		a, err := ReadDockerArchive("x", r, r.Size(), nothing)
		if err != nil {
			return
		}
		for _, ref := range []string{"", "@0", "@1", "app:1"} {
			img, err := Read(t.Context(), a, ref, ReadOptions{})
			if err != nil {
				continue
			}
			for _, m := range img.Manifests {
				for _, l := range m.Layers {
					if l.Foreign {
						continue
					}
					b, err := ReadAll(t.Context(), a, l.Descriptor)
					if err == nil && l.Descriptor.Digest.Algorithm().FromBytes(b) != l.Descriptor.Digest {
						t.Errorf("layer %s has other bytes", l.Descriptor.Digest)
					}
				}
			}
		}
	})
}
