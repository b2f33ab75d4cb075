package explain

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lighter-oci/lighter/internal/engine"
)

// A record has no value of an argument and no word of the Dockerfile in it.
func TestRecordKeepsSecrets(t *testing.T) {
	in := input(t, "good-app")
	in.Request.BuildArgs = map[string]string{"TOKEN": "hunter2"}
	in.Outline.Stages[0].Base = "registry.example.com/hunter2"
	edit(&in, 13, "RUN login hunter2")
	dir := t.TempDir()
	if err := (Store{dir}).Save("k", RecordOf(in), nil); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "k.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), "main.c") || strings.Contains(string(data), "hunter2") {
		t.Errorf("%s", data)
	}
	info, err := os.Stat(filepath.Join(dir, "k.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
}

// Sums go from record to record, as files are read only when they travel.
func TestSumsAreCarried(t *testing.T) {
	in := input(t, "good-app")
	in.Before = remembered(t, in)
	for i := range in.Context {
		in.Context[i].Sum = 0 // nothing travelled
	}
	r := RecordOf(in)
	if _, was, ok := r.cursor().at("main.c"); !ok || was.sum != 1 {
		t.Errorf("%v %v", was, ok)
	}
	file(&in, "main.c", content(0))
	r = RecordOf(in)
	if _, was, ok := r.cursor().at("main.c"); !ok || was.sum != 0 {
		t.Errorf("%v %v: the sum of another state was kept", was, ok)
	}
}

func TestStore(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	for i := range mostRecords + 5 {
		key := fmt.Sprintf("%03d", i)
		if err := s.Save(key, Record{Version: recordVersion}, nil); err != nil {
			t.Fatal(err)
		}
		when := time.Unix(1e9+int64(i), 0)
		if err := os.Chtimes(s.path(key), when, when); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Save("last", Record{Version: recordVersion}, nil); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(s.Dir)
	if err != nil || len(left) != mostRecords {
		t.Errorf("%d files are left, %v", len(left), err)
	}
	if s.Load("000") != nil || s.Load("last") == nil {
		t.Error("the wrong ones went")
	}
	for _, broken := range []string{"", "{", `{"version":99}`} {
		if err := os.WriteFile(s.path("broken"), []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if s.Load("broken") != nil {
			t.Errorf("%q was read", broken)
		}
	}
	if (Store{}).Load("x") != nil || (Store{}).Save("x", Record{}, nil) != nil {
		t.Error("a store without a directory keeps something")
	}
}

// Records that are too large together go, the oldest first; one that has just been
// written stays, however large it is.
func TestStoreIsBounded(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	age := time.Unix(1e9, 0)
	save := func(key string, size int64) {
		t.Helper()
		if err := s.Save(key, Record{Version: recordVersion}, nil); err != nil {
			t.Fatal(err)
		}
		if size > 0 { // its turn to be looked at is the next Save's
			age = age.Add(time.Second)
			if err := errors.Join(os.Truncate(s.path(key), size), os.Chtimes(s.path(key), age, age)); err != nil {
				t.Fatal(err)
			}
		}
	}
	save("small", 0)
	info, err := os.Stat(s.path("small"))
	if err != nil {
		t.Fatal(err)
	}
	left := func(what string, want ...string) {
		t.Helper()
		entries, err := os.ReadDir(s.Dir)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, strings.TrimSuffix(e.Name(), ".json"))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", what, diff)
		}
	}
	half := (64<<20 - info.Size()) / 2
	save("older", half)
	save("old", 64<<20-info.Size()-half)
	save("small", 0)
	left("as much as may be", "old", "older", "small")
	save("old", 64<<20-info.Size()-half+1)
	save("small", 0)
	left("a byte more", "old", "small")
	if err := errors.Join(os.Truncate(s.path("small"), 65<<20), os.Chtimes(s.path("small"), time.Now(), time.Now())); err != nil {
		t.Fatal(err)
	}
	if err := s.prune("small"); err != nil {
		t.Fatal(err)
	}
	left("one that is too large", "small")
}

// A context of 100,000 files, as they come from the walk.
func bigInput(t testing.TB) Input {
	in := input(t, "good-app")
	for i := range 100_000 {
		in.Context = append(in.Context, engine.ContextFile{
			Path: fmt.Sprintf("node_modules/package-%d/lib/module-%d.js", i/50, i), Size: int64(i), Mode: 0o644,
			ModTime: time.Unix(1.7e9, int64(i)), Sum: uint32(i) * 2654435761,
		})
	}
	sortContext(&in)
	return in
}

func BenchmarkRecord(b *testing.B) {
	in := bigInput(b)
	store := Store{Dir: b.TempDir()}
	if err := store.Save("k", RecordOf(in), in.Before); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		in.Before = store.Load("k")
		if err := store.Save("k", RecordOf(in), in.Before); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFindings(b *testing.B) {
	in := bigInput(b)
	in.Before = remembered(b, in)
	ranLines(&in, 12, 13)
	for b.Loop() {
		Findings(in)
	}
}
