package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lighter-oci/lighter/internal/report"
)

const second = report.Seconds(time.Second)

// steady is a timing whose rounds were all the same.
func steady(s float64) report.Timing {
	v := report.Seconds(s * float64(time.Second))
	return report.Timing{Median: v, Min: v, Max: v}
}

// threeLevels is an image of two layers of 300 and 100 MB on a machine that
// hashes 200 MB/s and writes 100 MB/s, behind 80 Mbit/s, which is 10 MB/s.
func threeLevels() *report.Tuning {
	level := func(name, codec string, size int64, compress, decode float64) report.Level {
		return report.Level{Name: name, Codec: codec, Encoder: "libzstd 1.5.7", Rounds: 3, Size: size, Ratio: 400e6 / float64(size),
			Compress: steady(compress), CPU: steady(2 * compress), Decode: steady(decode)}
	}
	return &report.Tuning{
		Subject: "oci:app", Platform: "linux/amd64", Cores: 2, Tar: 400e6, Entries: 1000, Sample: 400e6,
		Layers:    []report.TunedLayer{{Name: "sha256:aa", Tar: 300e6, Sample: 300e6}, {Name: "sha256:bb", Tar: 100e6, Sample: 100e6}},
		Bandwidth: 10e6, PullsPerBuild: 2, Hash: steady(2), Write: steady(4),
		Levels: []report.Level{
			level("zstd:1", "zstd", 200e6, 1, 1),
			level("zstd:19", "zstd", 100e6, 30, 1),
			level("gzip:6", "gzip", 160e6, 8, 8),
		},
		LeftOut: []string{}, Notes: []string{},
	}
}

// TestPullByHand works the model out on paper. zstd:1: 200 MB at 10 MB/s are
// 15 + 5 s of download (hashing them at 200 MB/s would be 0.75 + 0.25). Unpacking
// is max(1, 2 + 4) = 6 s, of which 4.5 and 1.5. The first layer is unpacked at
// 19.5, the second has arrived at 20 and is unpacked at 21.5.
// gzip:6: download 12 + 4, unpacking max(8, 6) = 6 + 2: 12, 18, then 16 < 18 and 20.
func TestPullByHand(t *testing.T) {
	r := threeLevels()
	r.Conclude()
	for i, want := range []struct{ took, download, unpack, push, cost float64 }{
		{21.5, 20, 6, 20, 1 + 20 + 2*21.5},
		{13.5, 10, 6, 10, 30 + 10 + 2*13.5}, // 7.5 → 12; 10 → max(12, 10) + 1.5
		{20, 16, 8, 16, 8 + 16 + 2*20},
	} {
		l := r.Levels[i]
		got := []report.Seconds{l.Pull.Took, l.Pull.Download, l.Pull.Unpack, l.Push, l.Cost.Median}
		for j, w := range []float64{want.took, want.download, want.unpack, want.push, want.cost} {
			if math.Abs(got[j].Duration().Seconds()-w) > 1e-6 {
				t.Errorf("%s: figure %d is %v, want %v", l.Name, j, got[j].Duration().Seconds(), w)
			}
		}
	}
	if r.Recommended != "zstd:1" && r.Recommended != "gzip:6" && r.Recommended != "zstd:19" {
		t.Errorf("recommended %q", r.Recommended)
	}
}

// TestRecommendationFollowsPulls: who never pulls wants speed, who pulls often
// wants size, and the line between them is where the sums cross.
func TestRecommendationFollowsPulls(t *testing.T) {
	for _, tt := range []struct {
		pulls int
		want  string
	}{
		{0, "zstd:1"},  // 21, 40, 24
		{2, "zstd:1"},  // 64, 67, 64: the first of equals
		{3, "zstd:19"}, // 85.5, 80.5, 84
		{20, "zstd:19"},
	} {
		r := threeLevels()
		r.PullsPerBuild = tt.pulls
		r.Conclude()
		if r.Recommended != tt.want {
			t.Errorf("%d pulls: %s, want %s", tt.pulls, r.Recommended, tt.want)
		}
	}
	r := threeLevels()
	r.Bandwidth = 10e9 // the network is free: hashing, writing and compressing remain
	r.Conclude()
	if r.Recommended != "zstd:1" || r.Levels[0].Pull.Download != second {
		t.Errorf("%s, download %v: blobs are hashed at 200 MB/s whatever the network", r.Recommended, r.Levels[0].Pull.Download)
	}
}

func TestSpreadDecidesWhatIsAlike(t *testing.T) {
	r := threeLevels()
	r.PullsPerBuild = 3 // 85.5, 80.5, 84
	r.Conclude()
	if len(r.Alike) != 0 {
		t.Fatalf("alike without any spread: %q", r.Alike)
	}
	r.Levels[2].Compress.Min -= 4 * second // gzip:6 may be 80
	r.Conclude()
	if diff := cmp.Diff([]string{"gzip:6"}, r.Alike); diff != "" {
		t.Error(diff)
	}
	if got := r.Likeness(); !strings.HasPrefix(got, "gzip:6 cannot be told from it") {
		t.Error(got)
	}
}

func TestTimingOf(t *testing.T) {
	for _, tt := range []struct {
		rounds []time.Duration
		want   report.Timing
		spread float64
	}{
		{nil, report.Timing{}, 0},
		{[]time.Duration{4}, report.Timing{Median: 4, Min: 4, Max: 4}, 0},
		{[]time.Duration{8, 4}, report.Timing{Median: 6, Min: 4, Max: 8}, 1. / 3},
		{[]time.Duration{9, 1, 4}, report.Timing{Median: 4, Min: 1, Max: 9}, 1},
	} {
		got := report.TimingOf(tt.rounds)
		if got != tt.want || got.Spread() != tt.spread {
			t.Errorf("%v: %v with spread %v", tt.rounds, got, got.Spread())
		}
	}
}

func TestParseBandwidth(t *testing.T) {
	for s, want := range map[string]string{
		"1gbit": "125000000 1 Gbit/s", "2.5Gbit/s": "312500000 2.5 Gbit/s", "100 Mbit": "12500000 100 Mbit/s", "512kbit": "64000 512 kbit/s",
		"100MB/s": "100000000 800 Mbit/s", "1GB/s": "1000000000 8 Gbit/s", "1000mbit": "125000000 1 Gbit/s",
		"999kB/s": "999000 8 Mbit/s",
	} {
		got, err := report.ParseBandwidth(s)
		if err != nil || fmt.Sprintf("%d %s", got, got) != want {
			t.Errorf("%s: %d %s, %v; want %s", s, got, got, err, want)
		}
	}
	for _, s := range []string{"", "fast", "1gb", "100MB", "1 GB", "-1gbit", "0gbit", "NaNgbit", "infgbit", "1e30gbit", "gbit", "1", "1mb/s", "1..2gbit", "1gbit extra", "100mbps"} {
		if got, err := report.ParseBandwidth(s); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
}

// recordedTuning has the sizes and CPU seconds of a real run on a root file
// system of 1.1 GB, and the times that they make on two idle cores.
func recordedTuning(t *testing.T) *report.Tuning {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "tune.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r report.Tuning
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	r.Conclude()
	return &r
}

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
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
		t.Errorf("%s (-want +got), -update accepts it:\n%s", name, diff)
	}
}

func TestTuningPictureAndPage(t *testing.T) {
	r := recordedTuning(t)
	compareGolden(t, "tune.svg", r.SVG())
	page, err := r.HTML()
	if err != nil {
		t.Fatal(err)
	}
	compareGolden(t, "tune.html", string(page))
	wellFormed(t, r.SVG())
	if regexp.MustCompile(`(?i)<script|https?://[^w]|\burl\(|@import|\son\w+=`).Match(page) {
		t.Error("the page has a script, or something from elsewhere")
	}
	for _, want := range []string{`lang="en"`, `<caption>`, `scope="col"`, `scope="row"`, `role="img"`, `aria-labelledby="tune-title tune-desc"`, `light-dark(`} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page has no %s", want)
		}
	}
}

// wellFormed wants s to be XML.
func wellFormed(t *testing.T, s string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(s)); ; {
		_, err := d.Token()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, s)
		}
	}
}

// TestPictureOfAnything: no figures and no name may break the picture or get
// out of it.
func TestPictureOfAnything(t *testing.T) {
	empty := &report.Tuning{}
	empty.Conclude()
	hostile := threeLevels()
	hostile.Subject = "dir:</title><script>alert(1)</script>&\x1b[31m\x00\u202e"
	odd := threeLevels()
	odd.Levels[0].Compress, odd.Levels[1].Ratio = report.Timing{}, 0
	one := threeLevels()
	one.Levels = one.Levels[:1]
	wide := threeLevels()
	wide.Levels[1].Compress = steady(1e6)
	wide.Levels[2].Ratio = 5000
	plain := threeLevels()
	plain.Levels[0].Name, plain.Levels[0].Codec = "uncompressed", "uncompressed"
	for name, r := range map[string]*report.Tuning{"empty": empty, "hostile": hostile, "odd": odd, "one": one, "wide": wide, "plain": plain} {
		r.Conclude()
		svg := r.SVG()
		wellFormed(t, svg)
		page, err := r.HTML()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(svg+string(page), "<script") || strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
			t.Errorf("%s:\n%s", name, svg)
		}
		if n := strings.Count(svg, `class="quiet"`); n > 16 {
			t.Errorf("%s: %d ticks", name, n)
		}
	}
}

// TestSeriesDifferInShape: colours alone tell nobody who does not see them.
func TestSeriesDifferInShape(t *testing.T) {
	r := threeLevels()
	r.Conclude()
	svg := r.SVG()
	if strings.Count(svg, `<circle class="zstd"`) != 2 || strings.Count(svg, `<rect class="gzip hollow"`) != 1 || strings.Count(svg, `<circle class="ring"`) != 1 {
		t.Error(svg)
	}
	if !strings.Contains(svg, ">zstd:1, recommended</text>") {
		t.Error("the recommended point carries no label")
	}
}

func TestDoubts(t *testing.T) {
	r := threeLevels()
	if got := r.Doubts(); len(got) != 0 {
		t.Errorf("doubts about a quiet machine: %q", got)
	}
	for i := range r.Levels {
		r.Levels[i].CPU = steady(0.1)
	}
	if got := r.Doubts(); len(got) != 1 || !strings.Contains(got[0], "others were busy") {
		t.Errorf("%q", got)
	}
	r.Sample = 1e6
	if got := r.Doubts(); len(got) != 1 || !strings.Contains(got[0], "too little") {
		t.Errorf("%q", got)
	}
}
