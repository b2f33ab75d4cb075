package explain

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
)

var update = flag.Bool("update", false, "write the golden files anew")

// input is a build of testdata/NAME: its Dockerfile's outline, which the test of
// engine/buildkit writes, its context ("size path" lines), and a report in
// which every step came from the cache.
func input(t testing.TB, name string) Input {
	t.Helper()
	var o engine.Outline
	data, err := os.ReadFile(filepath.Join("testdata", name, "outline.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &o); err != nil {
		t.Fatal(err)
	}
	o.File, o.Ignore = "Dockerfile", ".dockerignore"
	in := Input{Outline: &o, Context: []engine.ContextFile{}, All: true}
	f, err := os.Open(filepath.Join("testdata", name, "context"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dirs := map[string]bool{".": true}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		size, p, ok := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(size, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		for d := path.Dir(p); !dirs[d]; d = path.Dir(d) {
			dirs[d] = true
			in.Context = append(in.Context, engine.ContextFile{Path: d, Mode: uint32(os.ModeDir | 0o755)})
		}
		in.Context = append(in.Context, engine.ContextFile{Path: p, Size: n, Mode: 0o644, ModTime: time.Unix(1e9, 0), Sum: 1})
	}
	sortContext(&in)
	in.Report = built(&o)
	return in
}

func sortContext(in *Input) {
	slices.SortFunc(in.Context, func(a, b engine.ContextFile) int { return strings.Compare(a.Path, b.Path) })
}

// built is the report of a build whose steps were all cached, named as BuildKit
// names them.
func built(o *engine.Outline) report.Report {
	var r report.Report
	for _, st := range o.Stages {
		var steps []engine.Instruction
		if st.Parent < 0 && st.Base != "scratch" {
			steps = append(steps, st.Instruction)
		}
		for _, in := range st.Instructions {
			if in.IsStep() {
				steps = append(steps, in)
			}
		}
		name := st.Name
		if len(o.Stages) == 1 {
			name = ""
		}
		for i, in := range steps {
			s := report.Step{
				ID: fmt.Sprint(name, i), Name: fmt.Sprintf("[%s %d/%d] %s", name, i+1, len(steps), in.Text),
				Kind: event.StepInstruction, Stage: name, Index: i + 1, Total: len(steps), State: report.Cached,
			}
			if in.Word == "FROM" {
				s.Kind = event.StepSource
				s.Name += "@sha256:" + strings.Repeat("a", 64)
			}
			r.Steps = append(r.Steps, s)
		}
	}
	return r
}

// told is findings as a user reads them, for golden files.
func told(list []report.Finding) string {
	var b strings.Builder
	for _, f := range list {
		fmt.Fprintf(&b, "%s:%d: %s\n", f.File, f.Line, f.Text)
		for _, c := range f.Change {
			fmt.Fprintf(&b, "    %s\n", strings.TrimSpace(f.ChangeIn+"  "+c))
		}
		if f.Note != "" {
			fmt.Fprintf(&b, "    (%s)\n", f.Note)
		}
	}
	return b.String()
}

// What a Dockerfile itself says: each bad one has the findings of its golden
// file, a good one has none.
func TestFindings(t *testing.T) {
	dirs, err := filepath.Glob("testdata/*")
	if err != nil || len(dirs) < 10 {
		t.Fatal(dirs, err)
	}
	for _, dir := range dirs {
		name := filepath.Base(dir)
		t.Run(name, func(t *testing.T) {
			got := told(Findings(input(t, name)))
			if strings.HasPrefix(name, "good-") {
				if got != "" {
					t.Errorf("a good Dockerfile has findings:\n%s", got)
				}
				return
			}
			golden := filepath.Join(dir, "want")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("-want +got, -update accepts it:\n%s", diff)
			}
		})
	}
}

func TestCommands(t *testing.T) {
	for script, want := range map[string]string{
		"apt-get update && apt-get install -y a; b || c | d":      "apt-get update|apt-get install -y a|b|c|d",
		"set -e\nfoo 'a b' \"c && d\" \\\n  e # x && y\nbar":      "set -e|foo a b c && d e|bar",
		"A=1 B='x y' sudo -E env C=2 make >/dev/null 2>&1":        "make",
		"for i in a b; do npm ci; done; if x; then y; else z; fi": "for i in a b|npm ci|x|y|z",
		"bash -euxo pipefail -c 'apk add git && true'":            "apk add git|true",
		`"sh" "-c" "npm ci"`:                            "npm ci",
		"v=$(git describe) && (cd x; make) ; { echo; }": "git describe|cd x|make|echo",
		"cat <in >out file; echo done>>log":             "cat file|echo done",
		"":                                              "",
		"'unclosed && x":                                "unclosed && x",
		"sh":                                            "sh",
	} {
		var got []string
		for _, c := range commands(script) {
			got = append(got, strings.Join(c, " "))
		}
		if s := strings.Join(got, "|"); s != want {
			t.Errorf("%q: %s, want %s", script, s, want)
		}
	}
}

func FuzzCommands(f *testing.F) {
	f.Add("a && b 'c\\' \"$(d)\" 2>&1")
	f.Fuzz(func(t *testing.T, script string) {
		for _, c := range commands(script) {
			if len(c) == 0 {
				t.Fatal("an empty command")
			}
			managerOf(c)
		}
	})
}

func TestHolds(t *testing.T) {
	for _, tt := range []struct {
		source, path string
		want         bool
	}{
		{".", "a/b", true},
		{"./", "a", true},
		{"/", "a", true},
		{"src", "src/a", true},
		{"./src/", "src", true},
		{"src", "srcs/a", false},
		{"package*.json", "package-lock.json", true},
		{"package*.json", "web/package.json", false},
		{"*.d", "conf.d/x/y", true},
		{"a/*/c", "a/b/c/d", true},
		{"a/*/c", "a/b", false},
		{"$DIR/x", "anything", true},
	} {
		if got := holds(tt.source, tt.path); got != tt.want {
			t.Errorf("%s holds %s: %v", tt.source, tt.path, got)
		}
	}
	in := engine.Instruction{Word: "COPY", Sources: []string{"."}, Exclude: []string{"*.md", "docs"}}
	for p, want := range map[string]bool{"a/b.md": false, "docs/x": false, "main.go": true} {
		if got := reads(in, in.Sources, p); got != want {
			t.Errorf("reads %s: %v", p, got)
		}
	}
}
