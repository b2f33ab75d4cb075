package explain

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
)

// ran marks the steps of these lines as run, 2 s each.
func ranLines(in *Input, lines ...int) {
	g := newGraph(*in)
	for i, s := range in.Report.Steps {
		p, ok := g.place(s)
		if n := g.nodes[p]; ok && n != nil && n.step.ID == s.ID && slices.Contains(lines, g.instruction(n).Line) {
			in.Report.Steps[i].State = report.Run
			in.Report.Steps[i].Took = report.Seconds(2 * time.Second)
		}
	}
}

// edit changes the words of the instruction in a line of the Dockerfile.
func edit(in *Input, line int, text string) {
	for i := range in.Outline.Stages {
		st := &in.Outline.Stages[i]
		if st.Line == line {
			st.Text = text
		}
		for j := range st.Instructions {
			if st.Instructions[j].Line == line {
				st.Instructions[j].Text = text
			}
		}
	}
}

// file changes one file of the context, or adds it.
func file(in *Input, path string, change func(f *engine.ContextFile)) {
	i := slices.IndexFunc(in.Context, func(f engine.ContextFile) bool { return f.Path == path })
	if i < 0 {
		in.Context = append(in.Context, engine.ContextFile{Path: path, Mode: 0o644, ModTime: time.Unix(1e9, 0), Sum: 1})
		i = len(in.Context) - 1
	}
	if change != nil {
		change(&in.Context[i])
	}
	sortContext(in)
}

func content(sum uint32) func(*engine.ContextFile) {
	return func(f *engine.ContextFile) { f.Sum, f.ModTime = sum, f.ModTime.Add(time.Hour) }
}

// Each miss has the first reason of its chain, and what follows is counted. The
// lines are those of testdata/good-app/Dockerfile.
func TestMisses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(in *Input) // changes the build before
		now    func(in *Input)
		ran    []int
		want   string
	}{
		{name: "nothing ran", want: ""},
		{
			name: "a file", ran: []int{12, 13, 14, 15, 22},
			now:  func(in *Input) { file(in, "main.c", content(2)) },
			want: "12 files: COPY . . ran again: main.c modified; 4 steps after it ran again, too (10.0 s in all)",
		},
		{
			name: "files of all kinds", ran: []int{12},
			now: func(in *Input) {
				file(in, "main.c", func(f *engine.ContextFile) { f.Size = 7 })
				file(in, "util.c", func(f *engine.ContextFile) { f.Mode = 0o755 })
				file(in, "z.c", nil)
				for i := range 12 {
					file(in, fmt.Sprintf("new/%d.c", i), nil)
				}
				in.Context = slices.DeleteFunc(in.Context, func(f engine.ContextFile) bool { return f.Path == "Makefile" })
			},
			want: "12 files: COPY . . ran again: main.c, util.c modified, new/0.c added, and 13 more (2.00 s)",
		},
		{
			name: "touched, and another changed", ran: []int{12},
			now: func(in *Input) {
				file(in, "main.c", content(1))
				file(in, "util.c", content(2))
			},
			want: "12 files: COPY . . ran again: util.c modified (2.00 s)",
		},
		{
			name: "another copy's file", ran: []int{18},
			now: func(in *Input) {
				file(in, "main.c", content(2))
				file(in, "assets/logo.svg", content(2))
			},
			want: "18 files: COPY assets /assets ran again: assets/logo.svg modified (2.00 s)",
		},
		{
			name: "a bind mount's file", ran: []int{19, 23},
			now:  func(in *Input) { file(in, "fonts/b.ttf", nil) },
			want: "19 files: RUN cp -r /fonts /assets ran again: fonts/b.ttf added; 1 step after it ran again, too (4.00 s in all)",
		},
		{
			name: "what no build reads", ran: []int{12},
			now: func(in *Input) {
				file(in, "Dockerfile", content(2))
				file(in, ".github/workflows/ci.yml", nil)
			},
			want: "12 files: COPY . . ran again: Dockerfile modified, .github/workflows/ci.yml added (2.00 s) | Dockerfile* | .github",
		},
		{
			name: "an argument", ran: []int{13, 14, 15},
			now: func(in *Input) { in.Request.BuildArgs = map[string]string{"REVISION": "abc"} },
			want: "13 argument: RUN make ran again: build argument REVISION has another value; 2 steps after it ran again, too (6.00 s in all)" +
				" | ARG REVISION | RUN echo $REVISION > /revision",
		},
		{
			name: "an argument that a step uses", ran: []int{14},
			before: func(in *Input) { in.Request.BuildArgs = map[string]string{"REVISION": "abc"} },
			want:   "14 argument: RUN echo $REVISION > /revision ran again: build argument REVISION has another value (2.00 s)",
		},
		{
			name: "an argument is nothing to a copy", ran: []int{12},
			now:  func(in *Input) { in.Request.BuildArgs = map[string]string{"REVISION": "abc"} },
			want: "12 pruned: COPY . . ran again, although nothing that it depends on has changed: its cache was dropped (2.00 s) | lighter cache ls",
		},
		{
			name: "a flag", ran: []int{6},
			now:  func(in *Input) { in.Request.AddHosts = []string{"db:10.0.0.1"} },
			want: "6 argument: RUN echo base ran again: --add-host has another value (2.00 s)",
		},
		{
			name: "the words", ran: []int{13, 14, 15, 22},
			now:  func(in *Input) { edit(in, 13, "RUN make -j8") },
			want: "13 instruction: RUN make -j8 is new or was edited; 3 steps after it ran again, too (8.00 s in all)",
		},
		{
			name: "the words above", ran: []int{6, 10, 11, 12, 13, 14, 15, 22, 23},
			now:  func(in *Input) { edit(in, 5, "ENV LANG=de_DE") },
			want: "5 instruction: ENV LANG=de_DE is new or was edited, and RUN echo base depends on it; 8 steps after it ran again, too (18.0 s in all)",
		},
		{
			name: "what is set above is nothing to a copy", ran: []int{12},
			now:  func(in *Input) { edit(in, 5, "ENV LANG=de_DE") },
			want: "12 instruction: COPY . . ran again: instructions above it were edited, moved or removed (2.00 s)",
		},
		{
			name: "the base line", ran: []int{6, 10},
			now:  func(in *Input) { in.Outline.Stages[0].Base = "debian:13" },
			want: "4 base: FROM debian:13 names another image than in the build before; 1 step after it ran again, too (4.00 s in all)",
		},
		{
			name: "the base image", ran: []int{6},
			now: func(in *Input) {
				for i := range in.Report.Steps {
					if in.Report.Steps[i].Stage == "base" {
						in.Report.Steps[i].Name = strings.ReplaceAll(in.Report.Steps[i].Name, "aaaa", "bbbb")
					}
				}
			},
			want: "4 base: FROM debian:12 is another image now: bbbbbbbbbbbb, not aaaaaaaaaaaa (2.00 s)",
		},
		{
			name: "the base image of another stage", ran: []int{18},
			now: func(in *Input) {
				for i := range in.Report.Steps {
					if in.Report.Steps[i].Stage == "assets" {
						in.Report.Steps[i].Name = strings.ReplaceAll(in.Report.Steps[i].Name, "aaaa", "bbbb")
					}
				}
			},
			want: "17 base: FROM alpine:3 is another image now: bbbbbbbbbbbb, not aaaaaaaaaaaa (2.00 s)" +
				" | FROM alpine:3@sha256:" + strings.Repeat("b", 64) + " AS assets",
		},
		{
			name: "something was taken out above", ran: []int{13},
			before: func(in *Input) { edit(in, 11, "RUN something else") },
			want:   "13 instruction: RUN make ran again: instructions above it were edited, moved or removed (2.00 s)",
		},
		{
			name: "an image that nobody watches", ran: []int{15},
			want: "15 context: COPY --from=tools /bin/tool /bin/ ran again: it reads the image tools, which may have changed (2.00 s)",
		},
		{
			name: "a named context", ran: []int{15},
			now:  func(in *Input) { in.Request.NamedContexts = map[string]string{"tools": "../tools"} },
			want: "15 context: COPY --from=tools /bin/tool /bin/ ran again: it reads the build context tools, which may have changed (2.00 s)",
		},
		{
			name: "dropped", ran: []int{19},
			want: "19 pruned: RUN cp -r /fonts /assets ran again, although nothing that it depends on has changed: its cache was dropped (2.00 s) | lighter cache ls",
		},
		{
			name: "two chains", ran: []int{12, 13, 18},
			now: func(in *Input) {
				file(in, "main.c", content(2))
				file(in, "assets/a", nil)
			},
			want: "12 files: COPY . . ran again: main.c modified, assets/a added; 1 step after it ran again, too (4.00 s in all)\n" +
				"18 files: COPY assets /assets ran again: assets/a added (2.00 s)",
		},
		{
			name: "no cache", ran: []int{6, 10, 18},
			now:  func(in *Input) { in.Request.NoCache = true },
			want: "0 no-cache: every step ran: --no-cache was asked for (3 steps, 6.00 s) | lighter build without --no-cache",
		},
		{
			name: "no cache of a stage", ran: []int{18, 19},
			now:  func(in *Input) { in.Request.NoCacheFilter = []string{"assets"} },
			want: "17 no-cache: stage assets ran: --no-cache-filter asked for it; 1 step after it ran again, too (4.00 s in all) | lighter build without --no-cache-filter assets",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			was, is := input(t, "good-app"), input(t, "good-app")
			if tt.before != nil {
				tt.before(&was)
			}
			if tt.now != nil {
				tt.now(&is)
			}
			ranLines(&is, tt.ran...)
			is.Before = remembered(t, was)
			var got []string
			for _, f := range Findings(is) {
				if f.Kind == report.CacheMiss {
					line := fmt.Sprintf("%d %s: %s", f.Line, f.Reason, f.Text)
					got = append(got, strings.Join(append([]string{line}, f.Change...), " | "))
				}
			}
			if s := strings.Join(got, "\n"); s != tt.want {
				t.Errorf("got\n%s\nwant\n%s", s, tt.want)
			}
		})
	}
}

// A base that a named context gives is counted and has no number.
func TestNamedBase(t *testing.T) {
	in := input(t, "good-go")
	in.Before = remembered(t, in)
	file(&in, "main.go", content(2))
	in.Report.Steps = slices.DeleteFunc(in.Report.Steps, func(s report.Step) bool { return s.Kind == event.StepSource })
	for i := range in.Report.Steps {
		if s := &in.Report.Steps[i]; s.Stage == "build" {
			if s.Index--; s.Index >= 4 {
				s.State, s.Took = report.Run, report.Seconds(time.Second)
			}
		}
	}
	want := "Dockerfile:5: COPY . . ran again: main.go modified; 1 step after it ran again, too (2.00 s in all)\n"
	if got := told(Findings(in)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// A copy from a stage that cross-compiles follows from that stage's miss for
// its own platform, and a miss on two platforms is one finding.
func TestPlatforms(t *testing.T) {
	in := input(t, "good-go")
	in.Before = remembered(t, in)
	file(&in, "main.go", content(2))
	var steps []report.Step
	for _, s := range in.Report.Steps {
		for _, arch := range []string{"amd64", "arm64"} {
			s.Platform = "linux/" + arch
			if s.Stage == "build" && arch == "arm64" {
				s.Platform = "linux/amd64->arm64"
			}
			if s.Kind == event.StepInstruction && (s.Index >= 5 || s.Stage == "stage-2") {
				s.State, s.Took = report.Run, report.Seconds(time.Second)
			}
			steps = append(steps, s)
		}
	}
	in.Report.Steps = steps
	want := "Dockerfile:5: COPY . . ran again: main.go modified; 5 steps after it ran again, too (6.00 s in all)\n"
	if got := told(Findings(in)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// remembered is the record of a build after a way through a store.
func remembered(t testing.TB, in Input) *Record {
	t.Helper()
	store := Store{Dir: filepath.Join(t.TempDir(), "builds")}
	if err := store.Save("key", RecordOf(in), nil); err != nil {
		t.Fatal(err)
	}
	r := store.Load("key")
	if r == nil {
		t.Fatal("the record cannot be read back")
	}
	return r
}

func TestFirstBuild(t *testing.T) {
	in := input(t, "good-app")
	ranLines(&in, 6, 10)
	got := told(Findings(in))
	if !strings.Contains(got, "no earlier build") || !strings.Contains(got, "(2 steps, 4.00 s)") || !strings.Contains(got, "--cache-from") {
		t.Error(got)
	}
	in.Request.CacheFrom = []engine.Entry{{Type: "registry"}}
	if got := told(Findings(in)); !strings.Contains(got, "the caches that were asked did not have") || strings.Contains(got, "mode=max") {
		t.Error(got)
	}
}

// Unasked, only what took its time in this build is said.
func TestUnasked(t *testing.T) {
	in := input(t, "bad-node")
	in.All = false
	if got := told(Findings(in)); strings.Contains(got, "cache mount") || strings.Contains(got, "comes before") || strings.Contains(got, "dist") {
		t.Errorf("all steps were cached:\n%s", got)
	}
	ranLines(&in, 4)
	if Slow(in.Report) {
		t.Error("2 s are slow")
	}
	got := told(Findings(in))
	for _, want := range []string{"no earlier build", "no cache mount for npm", "comes before npm ci", "node_modules", ".git"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in\n%s", want, got)
		}
	}
	for i := range in.Report.Steps {
		in.Report.Steps[i].Took /= 4
	}
	if got := told(Findings(in)); strings.Contains(got, "no earlier build") || strings.Contains(got, "npm ci") {
		t.Errorf("nobody changes a line for half a second:\n%s", got)
	}
	for i := range in.Report.Steps {
		in.Report.Steps[i].State, in.Report.Steps[i].Took = report.Run, report.Seconds(5*time.Second)
	}
	if !Slow(in.Report) {
		t.Error("many times 5 s are not slow")
	}
}

func TestBaseLayers(t *testing.T) {
	in := input(t, "good-app")
	in.Request.Compression.Codec = codec.Zstd
	in.BaseDiffIDs = []string{"sha256:1", "sha256:2"}
	in.Report.Layers = []report.Layer{
		{Digest: "a", DiffID: "sha256:1", Codec: "gzip", Out: 30e6},
		{Digest: "b", DiffID: "sha256:2", Codec: "zstd:3", Out: 30e6},
		{Digest: "c", DiffID: "sha256:3", Codec: "gzip", Out: 30e6},
		{Digest: "d", Codec: "gzip:6", Out: 10e6, Verdict: &report.Verdict{OK: true, Reason: "it came with the base image and was kept"}},
	}
	want := "Dockerfile:4: 2 layers of debian:12 stayed gzip in an image that is zstd otherwise (40.0 MB)\n"
	if got := told(Findings(in)); !strings.HasPrefix(got, want) {
		t.Errorf("%s, want %s", got, want)
	}
	for _, meant := range []engine.Request{
		{Compression: codec.Compression{Codec: codec.Zstd}, Force: true},
		{Compression: codec.Compression{Codec: codec.Zstd}, AddCompression: []codec.Compression{{Codec: codec.Gzip}}},
		{Compression: codec.Compression{Codec: codec.Gzip}},
	} {
		in.Request = meant
		if got := Findings(in); len(got) != 0 {
			t.Errorf("%+v: %s", meant, told(got))
		}
	}
}
