package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lighter-oci/lighter/internal/registry/registrytest"
	"github.com/lighter-oci/lighter/internal/report"
)

// A kind is one way in which lighter writes an image: a column of the matrix.
type kind struct {
	tag, title string
	flags      []string // of lighter convert
	codecs     []string // of the image's variants
	toc        string   // that each layer has
}

var kinds = []kind{
	{"gzip", "gzip", []string{"--compression", "gzip"}, []string{"gzip"}, ""},
	{"zstd", "zstd", []string{"--compression", "zstd"}, []string{"zstd"}, ""},
	{"chunked", "zstd:chunked", []string{"--compression", "zstd:chunked"}, []string{"zstd"}, "zstd:chunked"},
	{"dual", "gzip and zstd", []string{"--add-compression", "gzip"}, []string{"gzip", "zstd"}, ""},
}

// variant is one of the images under a tag: the codec and the digests of its
// layers.
type variant struct {
	codec  string
	layers []string
}

// TestCompatibility lets every client pull every kind of image, and compares all
// files that it makes of it. What came of it is the table in
// docs/compatibility.md: another outcome fails the run, another version of a
// client does not, and -update writes the table anew. A refusal that
// client.refuses does not announce fails in either case.
func TestCompatibility(t *testing.T) {
	s := newSite(t)
	reg := registrytest.Start(t, registrytest.Options{})
	source, want := uncompressed(t, everythingLostEasily())
	ref := reg.Push(t, "matrix", source)
	variants := map[string][]variant{}
	for _, k := range kinds {
		s.ok(append([]string{"convert", ref, reg.Ref("matrix:" + k.tag)}, k.flags...)...)
		variants[k.tag] = s.variants(k, reg.Ref("matrix:"+k.tag))
	}

	// In memory, since half of the time would go into waiting for a disk.
	disk := s.disk("m", 4<<30)
	rows := clients(t)
	table := make([][]string, len(rows))
	started := time.Now()
	t.Run("clients", func(t *testing.T) {
		for i, c := range rows {
			t.Run(strings.TrimSpace(c.name+" "+c.suite+c.note), func(t *testing.T) {
				t.Parallel()
				dir, err := os.MkdirTemp(disk, "")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := os.RemoveAll(dir); err != nil {
						t.Error(err)
					}
				})
				table[i] = c.row(t, dir, newWire(t, reg), variants, want)
			})
		}
	})
	t.Logf("%d pulls in %.1f s", len(rows)*len(kinds), time.Since(started).Seconds())
	if t.Failed() || slices.ContainsFunc(table, func(row []string) bool { return row == nil }) {
		return // a table of failures, or of the clients that -run names, is none
	}
	compareTable(t, filepath.Join("..", "..", "docs", "compatibility.md"), table)
}

// variants are the images under a reference, which have to be those of the kind.
func (s *site) variants(k kind, ref string) []variant {
	s.t.Helper()
	c := s.start("inspect", "--format", "json", ref)
	if code := c.code(); code != 0 {
		s.t.Fatalf("inspect %s: exit code %d", ref, code)
	}
	var in report.Inspection
	if err := json.Unmarshal(c.stdout.Bytes(), &in); err != nil {
		s.t.Fatal(err)
	}
	var found []variant
	var codecs []string
	for _, p := range in.Platforms {
		v := variant{codec: p.Layers[0].Codec}
		for _, l := range p.Layers {
			if l.Codec != v.codec || l.Encoder == "" || l.TOC != k.toc {
				s.t.Fatalf("%s: layer %+v", k.title, l)
			}
			v.layers = append(v.layers, l.Digest)
		}
		found, codecs = append(found, v), append(codecs, v.codec)
	}
	if !slices.Equal(codecs, k.codecs) {
		s.t.Fatalf("%s has the variants %v", k.title, codecs)
	}
	return found
}

// row pulls every kind and answers a line of the table.
func (c *client) row(t *testing.T, dir string, w *wire, variants map[string][]variant, want tree) []string {
	row := []string{c.title(t, dir)}
	if c.daemon != "" {
		c.start(t, dir)
	}
	for _, k := range kinds {
		answer, err := c.cell(dir, k, w, variants[k.tag], want)
		if err != nil {
			t.Errorf("%s, %s: %v", row[0], k.title, err)
		}
		row = append(row, answer)
	}
	return row
}

// cell pulls one kind and says what came of it. An error is what nobody has
// announced: a failure, other files, a refusal that is none any more.
func (c *client) cell(dir string, k kind, w *wire, variants []variant, want tree) (string, error) {
	cell := filepath.Join(dir, k.tag)
	if err := os.Mkdir(cell, 0o755); err != nil {
		return "", err
	}
	w.forget()
	out, err := c.output(dir, c.pull, "REF="+w.Ref("matrix:"+k.tag), "CELL="+cell)
	refuses := c.refuses != "" && !slices.Contains(k.codecs, "gzip")
	switch {
	case err != nil && refuses && strings.Contains(err.Error(), c.refuses):
		return "refuses: `" + c.refuses + "`", nil
	case err != nil:
		return "", err
	case refuses:
		return "", fmt.Errorf("it was taken, and not refused with %q", c.refuses)
	}
	files := tree{}
	if c.read != nil {
		files, err = c.read(cell)
	} else {
		err = files.apply(bytes.NewReader(out))
	}
	if err != nil {
		return "", err
	}
	if diff := cmp.Diff(want.list(), files.list()); diff != "" {
		return "", fmt.Errorf("other files (-want +got):\n%s", diff)
	}
	return w.outcome(variants, c.races)
}

// wire is the registry as one client sees it, and what it fetched there.
type wire struct {
	*registrytest.Faulty
	mu      sync.Mutex
	fetched map[string]bool // digests of blobs; true where a range was asked for
}

func newWire(t *testing.T, reg *registrytest.Server) *wire {
	w := &wire{Faulty: registrytest.NewFaulty(t, reg)}
	w.forget()
	w.Rewrite(func(resp *http.Response) error {
		if resp.Request.Method == http.MethodGet && resp.StatusCode/100 == 2 && strings.Contains(resp.Request.URL.Path, "/blobs/") {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.fetched[path.Base(resp.Request.URL.Path)] = resp.StatusCode == http.StatusPartialContent
		}
		return nil
	})
	return w
}

// forget starts from nothing.
func (w *wire) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fetched = map[string]bool{}
}

// outcome says which of the variants was fetched, and how. It is an error where
// none was, the files must have come from somewhere else, or a mixture, unless
// the client races.
func (w *wire) outcome(variants []variant, races bool) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var codecs []string
	parts := true
	missing := slices.Repeat([]bool{true}, len(variants[0].layers))
	for _, v := range variants {
		whole := true
		for i, l := range v.layers {
			part, ok := w.fetched[l]
			whole, parts, missing[i] = whole && ok, parts && part, missing[i] && !ok
		}
		if whole {
			codecs = append(codecs, v.codec)
		}
	}
	switch {
	case slices.Contains(missing, true), len(codecs) == 0 && !races:
		return "", fmt.Errorf("it fetched %v, which is none of %v", w.fetched, variants)
	case len(variants) == 1 && parts:
		return "yes (by parts)", nil
	case len(variants) == 1:
		return "yes", nil
	case races:
		return "yes (either)", nil
	case len(codecs) > 1:
		return "yes (both)", nil
	}
	return "yes (" + codecs[0] + ")", nil
}

// compareTable holds the rows against the table between the two marks of the
// file, whatever versions each of them names, or writes them there.
func compareTable(t *testing.T, file string, rows [][]string) {
	t.Helper()
	head := []string{"client"}
	for _, k := range kinds {
		head = append(head, k.title)
	}
	var b strings.Builder
	for _, row := range slices.Insert(rows, 0, head, slices.Repeat([]string{"---"}, len(head))) {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
	}
	table := b.String()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?s)<!-- table: .*? -->\n(.*?)<!-- end of the table -->`).FindSubmatchIndex(data)
	if m == nil {
		t.Fatalf("%s has no marks of a table", file)
	}
	if *update {
		if err := os.WriteFile(file, slices.Replace(data, m[2], m[3], []byte(table)...), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	version := regexp.MustCompile(`\d+(\.\d+)+`)
	lines := func(table string) []string { return strings.Split(version.ReplaceAllString(table, "…"), "\n") }
	there := string(data[m[2]:m[3]])
	if diff := cmp.Diff(lines(there), lines(table)); diff != "" {
		t.Errorf("%s (-there +this run), -update accepts it:\n%s", file, diff)
	} else if there != table {
		t.Logf("the same outcomes as in %s, from other versions:\n%s", file, table)
	}
}
