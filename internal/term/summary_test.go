package term_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got), -update accepts it:\n%s", name, diff)
	}
}

// recorded folds the events of a real build, see package report's testdata.
func recorded(t testing.TB, name string) *report.Build {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "report", "testdata", name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b report.Build
	for d := json.NewDecoder(f); ; {
		var e event.Event
		if err := d.Decode(&e); err == io.EOF {
			return &b
		} else if err != nil {
			t.Fatal(err)
		}
		b.Add(e)
	}
}

// prove adds what reading back the image would find; names are from the history
// of its config, and change may spoil it.
func prove(b *report.Build, want string, names []string, change func(i int, l *report.Proven)) {
	p := report.Proof{Ref: b.Report().Summary.Names[0], Want: want}
	for i, l := range b.Report().Layers {
		pl := report.Proven{Digest: l.Digest, Codec: l.Codec, Out: l.Out, Verdict: report.Verdict{OK: true}}
		if i < len(names) {
			pl.Name = names[i]
		}
		if change != nil {
			change(i, &pl)
		}
		p.Layers = append(p.Layers, pl)
	}
	b.Proofs = []report.Proof{p}
}

func show(t *testing.T, o term.Output, r report.Report) string {
	t.Helper()
	var out, err bytes.Buffer
	o.Out, o.Err = &out, &err
	if e := o.Report(r); e != nil {
		t.Fatal(e)
	}
	if out.Len() > 0 {
		t.Errorf("on standard output: %q", out.String())
	}
	return err.String()
}

// builds are the recorded ones, and what reading them back may find.
func builds(t testing.TB) map[string]report.Report {
	names := []string{
		"COPY busybox /bin/busybox # buildkit", "RUN /bin/busybox --install -s /bin # buildkit",
		"COPY /src/built /built # buildkit", "COPY /assets /assets # buildkit", "RUN /bin/sh -c <<EOT # buildkit",
	}
	cold := recorded(t, "cold")
	cold.Stages = []string{"shell", "builder", "assets", "docs", "runtime"}
	prove(cold, "zstd:3", names, nil)
	warm := recorded(t, "warm")
	prove(warm, "zstd:3", names, nil)
	mismatch := recorded(t, "cold")
	prove(mismatch, "zstd:3", names, func(i int, l *report.Proven) {
		switch i {
		case 0:
			l.Codec = "gzip:6"
			l.Verdict = report.Verdict{Reason: "it came with the base image, which was pulled and not made here", Fix: "--force-compression"}
		case 3:
			l.Codec = ""
			l.Verdict = report.Verdict{Reason: "an earlier build made it and the registry still had it", Fix: "push to a repository that lacks it"}
		}
	})
	notes := recorded(t, "pull")
	prove(notes, "zstd:3", nil, func(i int, l *report.Proven) {
		if i < 5 {
			l.Codec = "gzip"
			l.Verdict = report.Verdict{OK: true, Reason: "a base layer, and those are left alone", Fix: "--force-compression"}
		}
	})
	return map[string]report.Report{
		"big":  big(),
		"cold": cold.Report(), "warm": warm.Report(), "mismatch": mismatch.Report(), "notes": notes.Report(),
		"fail": recorded(t, "fail").Report(), "multi": recorded(t, "multi").Report(), "local": recorded(t, "local").Report(),
		"empty": {},
	}
}

// big is a build of the size that people wait for, made up.
func big() report.Report {
	start := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	b := report.Build{Stages: []string{"planner", "builder", "assets", "tools", "docs", "runtime"}}
	step := func(id, name string, from, to float64, inputs ...string) {
		at := func(s float64) *time.Time { t := start.Add(time.Duration(s * 1e9)); return &t }
		b.Add(event.Event{Time: *at(to), Step: &event.Step{ID: id, Name: name, Inputs: inputs, Started: at(from), Completed: at(to), Cached: from == to}})
	}
	step("meta", "[internal] load metadata for docker.io/library/rust:1.90", 0, 0.8)
	step("f", "[planner 1/3] FROM docker.io/library/rust:1.90@sha256:0123", 0.9, 14.2)
	step("n", "[assets 1/2] FROM docker.io/library/node:24@sha256:4567", 0.9, 9)
	step("p", "[planner 2/3] RUN cargo install cargo-chef", 14.3, 14.3, "f")
	step("q", "[planner 3/3] RUN cargo chef prepare --recipe-path recipe.json", 14.3, 19, "p")
	step("c", "[builder 1/3] RUN --mount=type=cache,target=/root/.cargo cargo chef cook --release --recipe-path recipe.json", 19, 40, "q")
	step("a", "[assets 2/2] RUN npm ci && npm run build -- --locale=日本語 --production", 9.1, 36, "n")
	step("t", "[tools 1/1] RUN apt-get update && apt-get install -y --no-install-recommends protobuf-compiler", 14.3, 33.4, "f")
	step("d", "[builder 2/3] COPY . .", 40, 40.1, "c")
	step("b", "[builder 3/3] RUN --mount=type=cache,target=/root/.cargo cargo build --release --locked --bin server", 40.2, 62, "d", "t")
	step("r", "[runtime 1/2] COPY --from=builder /src/target/release/server /usr/local/bin/server", 62, 66.4, "b")
	step("s", "[runtime 2/2] COPY --from=assets /web/dist /srv/web", 66.4, 66.9, "r", "a")
	step("x", "exporting to image", 67, 72)
	end := start.Add(72_300 * time.Millisecond)
	b.Add(event.Event{Time: end, Progress: &event.Progress{ID: "transferring context:", Current: 3_400_000}})
	b.Add(event.Event{Time: end, Progress: &event.Progress{ID: "sha256:aa", Current: 587_000_000}})
	for i, l := range []event.Layer{
		{Codec: "zstd:3", In: 74_800_000, Out: 23_400_000},
		{Codec: "zstd:3", In: 41_200_000, Out: 12_100_000, Took: 131 * time.Millisecond},
		{Codec: "zstd:3", In: 8_050_000, Out: 1_930_000, Took: 27 * time.Millisecond},
	} {
		l.Digest = fmt.Sprintf("sha256:%x", sha256.Sum256([]byte{byte(i)}))
		made, sent := l, event.Layer{Digest: l.Digest, Out: l.Out, Where: "registry.example.com/shop/server"}
		made.Action, sent.Action = event.LayerCompressed, event.LayerPushed
		if i == 0 {
			made.Action, sent.Action = event.LayerReused, event.LayerMounted
		}
		b.Add(event.Event{Time: end, Layer: &made})
		b.Add(event.Event{Time: end, Layer: &sent})
	}
	b.Add(event.Event{Time: end, Result: &event.Result{
		Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(nil)), Names: []string{"registry.example.com/shop/server:1.4.0", "registry.example.com/shop/server:latest"},
	}})
	prove(&b, "zstd:3", []string{"/bin/sh -c #(nop) ADD file:0123 in / ", "COPY /src/target/release/server /usr/local/bin/server # buildkit", "COPY /web/dist /srv/web # buildkit"}, nil)
	return b.Report()
}

// The three to look at first are cold.golden, warm.golden, mismatch.golden.
func TestSummaries(t *testing.T) {
	for name, r := range builds(t) {
		t.Run(name, func(t *testing.T) { golden(t, name+".golden", show(t, term.Output{}, r)) })
	}
	r := builds(t)
	golden(t, "big-wide.golden", show(t, term.Output{Width: 132}, r["big"]))
	golden(t, "mismatch-narrow.golden", show(t, term.Output{Width: 1}, r["mismatch"]))
	golden(t, "mismatch-color.golden", show(t, term.Output{Color: true}, r["mismatch"]))
	golden(t, "mismatch-quiet.golden", show(t, term.Output{Quiet: true}, r["mismatch"]))
	if got := show(t, term.Output{Quiet: true}, r["notes"]); got != "" {
		t.Errorf("quiet with nothing wrong says %q", got)
	}
}

// What the recorded builds do not have.
func TestSummaryDetails(t *testing.T) {
	second := report.Seconds(time.Second)
	slow := report.Step{Text: "RUN x", Took: 9 * second}
	bad := func(digest, codec, reason string, ok bool) report.Proven {
		return report.Proven{Digest: digest, Codec: codec, Verdict: report.Verdict{OK: ok, Reason: reason, Fix: "--force-compression"}}
	}
	for _, c := range []struct {
		name  string
		width int
		r     report.Report
		want  string
	}{
		{"a path of one step is the slowest step", 80, report.Report{
			Summary: report.Summary{Took: 10 * second, Slowest: &slow},
			Path:    []report.PathStep{{Step: slow}},
		}, "✓ 10.0 s · 0 B moved · slowest 9.00 s RUN x\n"},
		{"a short name needs little room", 43, report.Report{
			Summary: report.Summary{Took: 10 * second, Slowest: &slow},
		}, "✓ 10.0 s · 0 B moved · slowest 9.00 s RUN x\n"},
		{"too little room", 42, report.Report{
			Summary: report.Summary{Took: 10 * second, Slowest: &slow},
		}, "✓ 10.0 s · 0 B moved\n  slowest 9.00 s RUN x\n"},
		{"one step is not all", 80, report.Report{
			Summary: report.Summary{Steps: report.StepCount{Total: 1, Cached: 1}},
		}, "✓ 0.00 s · 1/1 steps cached · 0 B moved\n"},
		{"a failure without a step", 80, report.Report{
			Summary: report.Summary{Error: "no Dockerfile", Slowest: &slow},
		}, "✗ failed after 0.00 s · 0 B moved · slowest 9.00 s RUN x\n"},
		{"a small mount is sent with more than its files", 100, report.Report{
			Mounts: []event.Mount{
				{Action: event.MountRestored, Name: "a", Size: 3000, Moved: 200}, {Action: event.MountRestored, Name: "b", Size: 1000},
				{Action: event.MountSaved, Name: "a", Size: 29, Moved: 160},
			},
		}, "✓ 0.00 s · 0 B moved\n\n  mounts    2 restored, 4.00 kB in files, 200 B fetched · 1 saved, 29 B in files, 160 B sent\n"},
		{"warnings with less to say", 80, report.Report{
			Warnings: []event.Warning{{Short: "a", File: "F"}, {Short: "b (line 3)", Line: 3}, {Short: "c (line 3)", File: "F", Line: 4}},
		}, "✓ 0.00 s · 0 B moved\n\n! F: a\n! b (line 3)\n! F:4: c (line 3)\n"},
		{"reasons of several sorts", 80, report.Report{
			Summary: report.Summary{Names: []string{"r", "s"}, Digest: "sha256:ab"},
			Proofs: []report.Proof{{Ref: "r", Want: "zstd:3", Layers: []report.Proven{
				bad("sha256:1", "gzip", "old", false), bad("sha256:2", "gzip", "old", false),
				bad("sha256:3", "gzip", "base", true), bad("sha256:4", "zstd", "base", true),
				bad("sha256:5", "gzip", "base", true), bad("sha256:6", "gzip", "foreign", true), bad("sha256:7", "", "base", true),
			}}},
		}, "✓ 0.00 s · 0 B moved\n\n" +
			"✗ 2 of 7 layers are not zstd:3, read back from r\n" +
			"  1  gzip  old\n" +
			"  2  gzip  old\n" +
			"  2 layers  gzip     base\n" +
			"  4         zstd     base\n" +
			"  6         gzip     foreign\n" +
			"  7         unknown  base\n" +
			"  → add --force-compression\n" +
			"  s\n  sha256:ab\n"},
	} {
		if got := show(t, term.Output{Width: c.width}, c.r); got != c.want {
			t.Errorf("%s: (-want +got)\n%s", c.name, cmp.Diff(c.want, got))
		}
	}
}

var sgr = regexp.MustCompile("\x1b\\[[0-9;]*m")

// Colour adds nothing but colour, and no line is wider than the terminal but
// those of one word (digests, links), which are for copying.
func TestSummaryLines(t *testing.T) {
	for name, r := range builds(t) {
		for width := 72; width < 200; width++ {
			plain := show(t, term.Output{Width: width}, r)
			if color := show(t, term.Output{Width: width, Color: true}, r); sgr.ReplaceAllString(color, "") != plain {
				t.Fatalf("%s in %d columns differs in colour:\n%s", name, width, cmp.Diff(plain, sgr.ReplaceAllString(color, "")))
			}
			for l := range strings.Lines(plain) {
				l = strings.TrimSuffix(l, "\n")
				if report.Width(l) > width && strings.Contains(strings.TrimSpace(l), " ") {
					t.Fatalf("%s in %d columns: %d wide: %s", name, width, report.Width(l), l)
				}
				if strings.TrimRight(l, " ") != l {
					t.Fatalf("%s in %d columns: blanks at the end of %q", name, width, l)
				}
			}
		}
	}
}

func TestReportJSON(t *testing.T) {
	r := builds(t)["mismatch"]
	r.Steps[0].Name = "evil \x1b[31m\u009b31m\u202e\U000E0041\x7f <&> 日本語"
	var out, errs bytes.Buffer
	o := term.Output{Out: &out, Err: &errs, JSON: true, Quiet: true}
	if err := o.Report(r); err != nil {
		t.Fatal(err)
	}
	if i := bytes.IndexFunc(out.Bytes(), func(r rune) bool {
		return unicode.IsControl(r) && r != '\n' || unicode.Is(unicode.Cf, r)
	}); i >= 0 {
		t.Errorf("a control character at %d", i)
	}
	if !bytes.Contains(out.Bytes(), []byte("<&> 日本語")) {
		t.Error("ordinary characters are escaped")
	}
	var back report.Report
	if err := json.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if back.Steps[0].Name != r.Steps[0].Name || back.Summary.Digest != r.Summary.Digest || len(back.Layers) != len(r.Layers) {
		t.Error("something got lost")
	}
	golden(t, "mismatch-quiet.golden", errs.String()) // exit code 3 needs its reason in any form

	errs.Reset()
	ok := builds(t)["cold"]
	if err := o.Report(ok); err != nil || errs.Len() > 0 {
		t.Errorf("%v, and on standard error: %q", err, errs.String())
	}
	r.Layers = append(r.Layers, report.Layer{Ratio: math.NaN()}) // JSON has no such number
	if err := o.Report(r); err == nil {
		t.Error("an unwritable report was no error")
	}
	o.Out = failing{}
	if err := o.Report(ok); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("a full disk is %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("disk full") }

// Whatever builds and registries call things, the terminal obeys none of it.
func FuzzSummaryIsClean(f *testing.F) {
	for _, s := range []string{"\x1b[2J", "a\nb", "\u009b1m", "\x1b]0;x\a", "\u202e", "\xff", "日本語", "-x", " "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		st := report.Step{Name: s, Text: s, Stage: s, Platform: s, Error: s, State: report.Failed, Took: 5e9}
		bad := report.Verdict{Reason: s, Fix: s}
		r := report.Report{
			Summary:  report.Summary{Error: s, Digest: s, Names: []string{s}, Slowest: &st, Took: 1e10, Image: report.Image{Total: 5, Made: 3}},
			Steps:    []report.Step{st},
			Stages:   []report.Stage{{Name: s, State: report.StageNever}},
			Overlaps: []report.Overlap{{A: s, B: s, Took: 1e9}},
			Path:     []report.PathStep{{Step: st}, {Step: st}},
			Layers:   []report.Layer{{Digest: s, Codec: s, Platform: s, Name: s, Verdict: &bad}},
			Proofs:   []report.Proof{{Ref: s, Want: s, Layers: []report.Proven{{Digest: s, Codec: s, Verdict: bad}, {Digest: s, Verdict: report.Verdict{OK: true, Reason: s, Fix: s}}}}},
			Warnings: []event.Warning{{Short: s, File: s, URL: s, Line: 1}},
		}
		for _, color := range []bool{false, true} {
			var b bytes.Buffer
			o := term.Output{Err: &b, Color: color}
			if err := o.Report(r); err != nil {
				t.Fatal(err)
			}
			o.Error(hintedError{s, s})
			checkClean(t, color, b.String())
		}
	})
}

func checkClean(t *testing.T, color bool, got string) {
	t.Helper()
	if color {
		got = sgr.ReplaceAllString(got, "")
	}
	if !utf8.ValidString(got) {
		t.Errorf("not UTF-8: %q", got)
	}
	if i := strings.IndexFunc(got, func(r rune) bool {
		return r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) && r != '\u200d')
	}); i >= 0 {
		t.Errorf("a control character at %d of %q", i, got)
	}
}
