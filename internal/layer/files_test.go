package layer_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/layer"
)

func content(s string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }
}

// The tar is in order, of one time, and the same whatever order the files come in.
func TestWriteFiles(t *testing.T) {
	files := []layer.File{
		{Path: "/usr/bin/app", Mode: fs.ModeSetuid | 0o755, Size: 3, Open: content("app")},
		{Path: "/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		{Path: "/usr/bin/link", Mode: fs.ModeSymlink | 0o777, Link: "app"},
		{Path: "/home/me", Mode: fs.ModeDir | 0o700, UID: 7, GID: 8},
	}
	at := time.Unix(86400, 999)
	var all bytes.Buffer
	if err := layer.WriteFiles(&all, files, at, true); err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(bytes.NewReader(all.Bytes())); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(r)
		got = append(got, fmt.Sprintf("%s %o %d:%d %d %s%s", h.Name, h.Mode, h.Uid, h.Gid, h.ModTime.Unix(), h.Linkname, body))
	}
	want := `home/ 755 0:0 86400 
home/me/ 700 7:8 86400 
tmp/ 1777 0:0 86400 
usr/ 755 0:0 86400 
usr/bin/ 755 0:0 86400 
usr/bin/app 4755 0:0 86400 app
usr/bin/link 777 0:0 86400 app`
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("%s\nwant\n%s", s, want)
	}
	var again bytes.Buffer
	files[0], files[3] = files[3], files[0]
	if err := layer.WriteFiles(&again, files, at.Add(time.Nanosecond), true); err != nil || !bytes.Equal(again.Bytes(), all.Bytes()) {
		t.Errorf("another order, another tar (%v)", err)
	}
	// On a base, directories above are the base's.
	var few bytes.Buffer
	if err := layer.WriteFiles(&few, files[3:], at, false); err != nil || strings.Contains(few.String(), "usr/\x00") {
		t.Errorf("directories that nobody asked for (%v)", err)
	}
}

func TestWriteFilesRefuses(t *testing.T) {
	for want, files := range map[string][]layer.File{
		"/a is to be in the image twice":                  {{Path: "/a", Mode: fs.ModeDir}, {Path: "/a", Mode: fs.ModeDir}},
		"/a/b/c is to be below /a, which is no directory": {{Path: "/a/b/c", Open: content("x")}, {Path: "/a", Open: content("x")}},
		"/a: it has 1 bytes, and had 2":                   {{Path: "/a", Size: 2, Open: content("x")}},
		"/a: archive/tar: write too long":                 {{Path: "/a", Size: 2, Open: content("xyz")}},
		"/a: unreadable":                                  {{Path: "/a", Size: 2, Open: func() (io.ReadCloser, error) { return nil, fmt.Errorf("unreadable") }}},
	} {
		if err := layer.WriteFiles(io.Discard, files, time.Time{}, true); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
