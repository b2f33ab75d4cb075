package main

import (
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestTuneInterrupted presses Ctrl-C while a level that takes seconds a frame is
// measured: the command ends although frames are still being compressed, and
// leaves no file, neither of its own nor half of a report.
func TestTuneInterrupted(t *testing.T) {
	s := newSite(t)
	tmp := filepath.Join(s.dir, "tmp")
	if err := os.Mkdir(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	s.env = append(s.env, "TMPDIR="+tmp)
	text := make([]byte, 32<<20) // of 16 letters: libzstd looks long for matches
	rand.NewChaCha8([32]byte{}).Read(text)
	for i := range text {
		text[i] = 'a' + text[i]&15
	}
	s.write("files/a", string(text))
	c := s.start("tune", "files", "--levels", "zstd:1,19", "--time-limit", "0", "--svg", "out.svg", "--html", "out.html")
	eventually(t, "the first level is measured", func() bool { return strings.Contains(c.stderr.String(), "zstd:1, round 1 of 3") })
	c.interrupt()
	if left := entries(t, tmp); len(left) > 0 {
		t.Errorf("left in the temporary directory: %q", left)
	}
	for _, name := range entries(t, s.dir) {
		if strings.Contains(name, "out.") {
			t.Errorf("left: %s", name)
		}
	}
}

// TestTuneJSON is a real run with its figures masked: programs read these
// fields by name.
func TestTuneJSON(t *testing.T) {
	s := newSite(t)
	s.write("files/a", strings.Repeat("a layer with this in it\n", 1000))
	c := s.start("tune", "files", "--levels", "zstd:3,gzip:6", "--rounds", "2", "--format", "json")
	<-c.done
	got := regexp.MustCompile(`\b\d+(\.\d+)?(e-?\d+)?\b`).ReplaceAllString(c.stdout.String(), "0")
	got = regexp.MustCompile(`("(recommended|encoder)": )".*"`).ReplaceAllString(got, `$1"…"`)
	got = regexp.MustCompile(`(?s)("(alike|notes)": )\[[^]]*\]`).ReplaceAllString(got, "$1[…]")
	path := filepath.Join("testdata", "tune.json")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got), -update accepts it:\n%s", path, diff)
	}
}
