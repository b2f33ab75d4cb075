package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// entry is one file of an archive made by hand.
type entry struct {
	tar.Header
	content string
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.Size = int64(len(e.content))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(name, content string) entry { return entry{tar.Header{Name: name, Mode: 0o644}, content} }

const (
	layoutVersion = `{"imageLayoutVersion":"1.0.0"}`
	emptyIndex    = `{"schemaVersion":2,"manifests":[]}`
)

func TestBrokenLayouts(t *testing.T) {
	good := archive(t, file("./oci-layout", layoutVersion), file("index.json", emptyIndex), file("blobs/sha256/x", strings.Repeat("x", 5000)))
	var zipped bytes.Buffer
	zw := gzip.NewWriter(&zipped)
	if _, err := zw.Write(good); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	sparse := archive(t, entry{tar.Header{Name: "oci-layout", Mode: 0o644, Format: tar.FormatGNU}, layoutVersion})
	sparse[156] = tar.TypeGNUSparse
	sum := 0 // the header's checksum counts its own field as spaces
	for i, c := range sparse[:512] {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int(c)
	}
	copy(sparse[148:], []byte{byte('0' + sum>>15&7), byte('0' + sum>>12&7), byte('0' + sum>>9&7), byte('0' + sum>>6&7), byte('0' + sum>>3&7), byte('0' + sum&7), 0, ' '})

	dir := t.TempDir() // not named after what the error has to say
	for label, tt := range map[string]struct {
		content []byte
		want    string
	}{
		"good":             {good, ""},
		"last one counts":  {archive(t, file("index.json", "x"), file("oci-layout", "x"), file("index.json", emptyIndex), file("oci-layout", layoutVersion)), ""},
		"gzip":             {zipped.Bytes(), "compressed with gzip"},
		"truncated":        {good[:len(good)-4000], "truncated"},
		"truncated header": {good[:700], "index.json"},
		"empty":            {nil, "no file oci-layout"},
		"docker save":      {archive(t, file("manifest.json", "[]")), "docker save"},
		"no tar":           {bytes.Repeat([]byte("hello "), 1000), "no tar archive"},
		"sparse":           {sparse, "sparse"},
		"a link":           {archive(t, entry{tar.Header{Name: "oci-layout", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, ""}), "no file oci-layout"},
		"no index":         {archive(t, file("oci-layout", layoutVersion)), "index.json"},
		"version 2":        {archive(t, file("oci-layout", `{"imageLayoutVersion":"2.0.0"}`), file("index.json", emptyIndex)), "not 1.x"},
		"broken version":   {archive(t, file("oci-layout", `{`), file("index.json", emptyIndex)), "oci-layout: "},
		"broken index":     {archive(t, file("oci-layout", layoutVersion), file("index.json", `[`)), "index.json: "},
		"9 MiB of index":   {archive(t, file("oci-layout", layoutVersion), file("index.json", strings.Repeat(" ", 9<<20))), "more than"},
	} {
		t.Run(label, func(t *testing.T) {
			name := filepath.Join(dir, "image.tar")
			if err := os.WriteFile(name, tt.content, 0o644); err != nil {
				t.Fatal(err)
			}
			l, err := OpenArchive(name)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if err := l.Close(); err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want one line with %q", err, tt.want)
			}
		})
	}
	if _, err := OpenLayout(t.TempDir()); err == nil || !strings.Contains(err.Error(), "no file oci-layout") {
		t.Errorf("an empty directory: %v", err)
	}
}

func TestLayoutNames(t *testing.T) {
	index := func(entries ...string) []byte {
		return archive(t, file("oci-layout", layoutVersion), file("index.json", `{"schemaVersion":2,"manifests":[`+strings.Join(entries, ",")+`]}`))
	}
	one := `{"mediaType":"m","digest":"sha256:1111111111111111111111111111111111111111111111111111111111111111","size":1,"annotations":{"org.opencontainers.image.ref.name":"1","io.containerd.image.name":"docker.io/library/app:1"}}`
	two := `{"mediaType":"m","digest":"sha256:2222222222222222222222222222222222222222222222222222222222222222","size":1,"annotations":{"org.opencontainers.image.ref.name":"2"}}`
	twoAgain := strings.Replace(one, "1111", "3333", 1)
	for _, tt := range []struct {
		content   []byte
		ref, want string
	}{
		{index(one), "", "1"}, {index(one, two), "1", "1"}, {index(one, two), "app:1", "1"}, {index(one, two), "docker.io/library/app:1", "1"},
		{index(one, two), "2", "2"}, {index(one, two), "sha256:2222222222222222222222222222222222222222222222222222222222222222", "2"},
		{index(one, one), "", "1"},
		{index(one, two), "", "holds 2 images"}, {index(one, twoAgain), "1", "names 2 images"}, {index(one, two), "3", `has no "3", but "docker.io/library/app:1", "2"`},
		{index(), "", "holds no image"},
	} {
		l, err := newArchive("x", bytes.NewReader(tt.content), int64(len(tt.content)), func() error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		desc, err := l.find(tt.ref)
		if err == nil && !strings.HasPrefix(desc.Digest.Encoded(), tt.want) || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %s, %v, want %s", tt.ref, desc.Digest, err, tt.want)
		}
	}
}

// The index of an archive never points outside of it, and agrees with what
// archive/tar itself reads.
func FuzzArchive(f *testing.F) {
	f.Add(archive(f, file("oci-layout", layoutVersion), file("index.json", emptyIndex)))
	f.Add(archive(f, entry{tar.Header{Name: "blobs/" + strings.Repeat("long", 50), PAXRecords: map[string]string{"X.y": "z"}}, "x"}, file("oci-layout", "")))
	f.Fuzz(func(t *testing.T, content []byte) {
		r := bytes.NewReader(content)
		entries, err := indexTar(r, r.Size())
		if err != nil {
			return
		}
		want := map[string][]byte{}
		for tr := tar.NewReader(bytes.NewReader(content)); ; {
			header, err := tr.Next()
			if err != nil {
				break
			}
			name := strings.TrimPrefix(header.Name, "./")
			if header.Typeflag != tar.TypeReg || !isLayoutName(name) {
				continue
			}
			var b bytes.Buffer
			if _, err := b.ReadFrom(tr); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			want[name] = b.Bytes()
		}
		for name, e := range entries {
			if e.offset < 0 || e.size < 0 || e.offset+e.size > r.Size() {
				t.Fatalf("%q lies at %d, %d bytes, in an archive of %d", name, e.offset, e.size, r.Size())
			}
			if b, ok := want[name]; ok && !bytes.Equal(b, content[e.offset:e.offset+e.size]) {
				t.Errorf("%q has other bytes", name)
			}
		}
	})
}
