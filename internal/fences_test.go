// Package internal holds no code of its own: its one test keeps the rooms
// apart and the repository installable.
package internal

import (
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/lighter-oci/lighter/"

// A room is one row of ARCHITECTURE.md's table: a folder, and which others it
// may import. A folder belongs to the room with the longest matching path.
type room struct {
	path string
	may  []string
}

type rooms []room

// readRooms reads the table, whose rows are
//
//	| `internal/image` | what it owns | layer codec event |
//
// with – for nothing, all for every room, and all above for the rows before.
func readRooms(t *testing.T) rooms {
	t.Helper()
	data, err := os.ReadFile("../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	var table rooms
	row := regexp.MustCompile("(?m)^\\| `((?:cmd|internal)/[a-z/]+)` \\|.*\\| ([^|]+) \\|$")
	for _, m := range row.FindAllStringSubmatch(string(data), -1) {
		r := room{path: m[1]}
		switch m[2] {
		case "–":
		case "all above":
			for _, above := range table {
				r.may = append(r.may, above.path)
			}
		default:
			for _, name := range strings.Fields(m[2]) {
				r.may = append(r.may, "internal/"+name)
			}
		}
		table = append(table, r)
	}
	if len(table) < 5 {
		t.Fatalf("ARCHITECTURE.md has a table of %d rooms: looking for the wrong rows", len(table))
	}
	return table
}

// of finds the room that a folder (relative to the root) belongs to.
func (table rooms) of(dir string) (room, bool) {
	var best room
	for _, r := range table {
		if within(dir, r.path) && len(r.path) > len(best.path) {
			best = r
		}
	}
	return best, best.path != ""
}

func (r room) mayImport(other room) bool {
	return other.path == r.path || slices.Contains(r.may, other.path) || slices.Contains(r.may, "internal/all")
}

func (table rooms) String() string {
	var b strings.Builder
	for _, r := range table {
		may := "–"
		if len(r.may) > 0 {
			may = strings.ReplaceAll(strings.Join(r.may, " "), "internal/", "")
		}
		fmt.Fprintf(&b, "  %-26s may import  %s\n", r.path, may)
	}
	return b.String()
}

// BuildKit and containerd stay behind two doors; their small vocabularies
// (platforms, error kinds, a registry's section of a buildkitd.toml) may be
// spoken anywhere.
var (
	engineModules = []string{"github.com/moby/", "github.com/containerd/"}
	engineRooms   = []string{"internal/engine/buildkit", "internal/image"}
	vocabularies  = []string{"github.com/containerd/platforms", "github.com/containerd/errdefs", "github.com/moby/buildkit/util/resolver/config"}
)

// An arrow is one import clause of a production file.
type arrow struct {
	file string // slash-separated, relative to the root of the repository
	line int
	to   string // import path
}

// complaint says what is wrong with the arrow, or nothing.
func (table rooms) complaint(a arrow) string {
	from, ok := table.of(path.Dir(a.file))
	if !ok {
		return fmt.Sprintf("%s:%d: %s is no room of the table", a.file, a.line, path.Dir(a.file))
	}
	if within(a.to, engineModules...) && !within(a.to, vocabularies...) && !slices.Contains(engineRooms, from.path) {
		return fmt.Sprintf("%s:%d: %s → %s, which only %s may import", a.file, a.line, from.path, a.to, strings.Join(engineRooms, " and "))
	}
	ours, ok := strings.CutPrefix(a.to, module)
	if !ok {
		return ""
	}
	to, ok := table.of(ours)
	if !ok {
		return fmt.Sprintf("%s:%d: %s → %s, which is no room of the table", a.file, a.line, from.path, ours)
	}
	if !from.mayImport(to) {
		return fmt.Sprintf("%s:%d: %s → %s is not in the table", a.file, a.line, from.path, to.path)
	}
	return ""
}

func TestRoomsImportOnlyWhatTheTableSays(t *testing.T) {
	table, arrows := readRooms(t), arrowsOf(t)
	if len(arrows) < 20 {
		t.Fatalf("found %d import clauses: looking in the wrong place", len(arrows))
	}
	var complaints []string
	for _, a := range arrows {
		if c := table.complaint(a); c != "" {
			complaints = append(complaints, c)
		}
	}
	for _, r := range table {
		if _, err := os.Stat(filepath.Join("..", r.path)); err != nil {
			complaints = append(complaints, "ARCHITECTURE.md: "+r.path+" is in the table and not on the disk")
		}
	}
	if len(complaints) > 0 {
		t.Errorf("imports that nobody agreed to:\n  %s\n\nthe table of ARCHITECTURE.md:\n%s", strings.Join(complaints, "\n  "), table)
	}
}

// The fence is held against arrows that must not pass, so that a slip in it
// does not open it for good.
func TestFenceRefuses(t *testing.T) {
	table := readRooms(t)
	for _, tt := range []struct {
		file, to string
		passes   bool
	}{
		{"internal/event/a.go", module + "internal/codec", false},
		{"internal/codec/a.go", module + "internal/event", false},
		{"internal/image/a.go", module + "internal/registry", false},
		{"internal/engine/a.go", module + "internal/engine/buildkit", false},
		{"internal/engine/process/a.go", module + "internal/engine", false},
		{"internal/engine/buildkit/export/a.go", module + "internal/registry", false},
		{"internal/term/a.go", module + "internal/util", false},
		{"internal/util/a.go", "fmt", false},
		{"internal/report/a.go", module + "cmd/lighter", false},
		{"internal/registry/a.go", "github.com/containerd/containerd/v2/core/remotes", false},
		{"cmd/lighter/a.go", "github.com/moby/buildkit/client", false},
		{"cmd/lighter/a.go", module + "internal/engine/buildkit", true},
		{"internal/engine/buildkit/export/a.go", module + "internal/engine", true},
		{"internal/engine/buildkit/export/a.go", module + "internal/engine/buildkit", true},
		{"internal/engine/buildkit/export/a.go", "github.com/moby/buildkit/client", true},
		{"internal/image/store/a.go", "github.com/containerd/containerd/v2/client", true},
		{"internal/registry/a.go", "github.com/containerd/platforms", true},
		{"internal/event/a.go", "time", true},
	} {
		if got := table.complaint(arrow{file: tt.file, line: 1, to: tt.to}); (got == "") != tt.passes {
			t.Errorf("%s → %s: passes=%v, want %v (%s)", tt.file, tt.to, got == "", tt.passes, got)
		}
	}
}

// go install MODULE@VERSION refuses a module with replace or exclude.
func TestModuleIsInstallable(t *testing.T) {
	out, err := exec.Command("go", "mod", "edit", "-json", "../go.mod").Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct{ Replace, Exclude []json.RawMessage }
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	if n := len(mod.Replace) + len(mod.Exclude); n > 0 {
		t.Errorf("go.mod has %d replace or exclude lines: go install would refuse it", n)
	}
}

// private matches what belongs to one machine: where packages are mirrored,
// and where somebody keeps a working tree.
var private = regexp.MustCompile(`(?i)` +
	`goproxy=[^$\s"']*https?://|npm_config_registry=|index-url *=|` +
	`https?://[a-z0-9.-]*(artifactory|nexus|verdaccio|devpi|athens|goproxy|mirror)[a-z0-9-]*\.|` +
	`(^|[\s"'=:(` + "`" + `])/(wo` + `rk/(main|shared|\.library)|tmp/w/|root/go/|home/[a-z]+/(src|go)/)`)

func TestTrackedFilesNameNoMachine(t *testing.T) {
	for _, name := range tracked(t) {
		data, err := os.ReadFile(filepath.Join("..", name))
		if err != nil || slices.Contains(data, 0) {
			continue // removed and not yet committed, or binary
		}
		for i, line := range strings.Split(string(data), "\n") {
			if m := private.FindString(line); m != "" && name != "internal/fences_test.go" {
				t.Errorf("%s:%d: %q belongs to one machine", name, i+1, strings.TrimSpace(m))
			}
		}
	}
}

func TestPrivatePattern(t *testing.T) {
	for line, want := range map[string]bool{
		"GOPROXY=https://proxy.company.example,direct": true,
		"see /wo" + "rk/main/go.mod":                   true,
		"https://artifactory.company.example/go":       true,
		"WORKDIR /work":                                false,
		"COPY --from=build /work/out /bin/app":         false,
		"RUN --mount=type=cache,target=/root/.cache":   false,
	} {
		if got := private.MatchString(line); got != want {
			t.Errorf("%q: private=%v, want %v", line, got, want)
		}
	}
}

// Files near 300 lines are the rule; these are the ceilings.
func TestFilesStayReadable(t *testing.T) {
	for _, name := range goFiles(t) {
		data, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		ceiling := 400
		if strings.HasSuffix(name, "_test.go") {
			ceiling = 700
		}
		if n := strings.Count(string(data), "\n"); n > ceiling {
			t.Errorf("%s has %d lines, more than %d: it does more than one thing", name, n, ceiling)
		}
	}
}

// within tells whether p is one of the prefixes or lies in one of them.
func within(p string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool {
		prefix = strings.TrimSuffix(prefix, "/")
		return p == prefix || strings.HasPrefix(p, prefix+"/")
	})
}

// arrowsOf reads the import clauses of every production file, whatever system
// it is built for.
func arrowsOf(t *testing.T) []arrow {
	t.Helper()
	var arrows []arrow
	fset := token.NewFileSet()
	for _, name := range goFiles(t) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, filepath.Join("..", name), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			arrows = append(arrows, arrow{file: name, line: fset.Position(spec.Pos()).Line, to: to})
		}
	}
	return arrows
}

// goFiles lists the Go files under cmd and internal, relative to the root.
func goFiles(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, top := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join("..", top), func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && d.Name() == "testdata" {
				return fs.SkipDir
			}
			if err == nil && strings.HasSuffix(p, ".go") {
				names = append(names, strings.TrimPrefix(filepath.ToSlash(p), "../"))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// tracked lists the files under version control, relative to the root. In an
// unpacked source archive there are none.
func tracked(t *testing.T) []string {
	t.Helper()
	if _, err := os.Stat("../.git"); err != nil {
		t.Skip("not a git checkout: nothing is tracked")
	}
	out, err := exec.Command("git", "-C", "..", "ls-files", "-z").Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}
