package report_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
)

func layerEvent(action event.LayerAction, digest string) event.Event {
	return event.Event{Layer: &event.Layer{Action: action, Digest: digest}}
}

func TestLayersFold(t *testing.T) {
	const a, b, c, cfg = "sha256:aaaaaaaaaaaaaaaaaaaaaa", "sha256:bbbb", "sha256:cccc", "sha256:conf"
	var build report.Build
	for _, e := range []event.Layer{
		{Action: event.LayerCompressed, Digest: a, DiffID: "sha256:d1", Codec: "zstd:3", In: 6_440_000, Out: 2_000_000, Took: 20 * time.Millisecond},
		{Action: event.LayerReused, Digest: b, Codec: "gzip", Out: 500},
		{Action: event.LayerPushed, Digest: cfg, Out: 70, Where: "r/app"},
		{Action: event.LayerExists, Digest: a, Where: "r/old"},
		{Action: event.LayerPushed, Digest: a, Out: 2_000_000, Took: time.Hour, Where: "r/app"},
		{Action: event.LayerMounted, Digest: a, Where: "r/new"},
		{Action: event.LayerReused, Digest: a, Codec: "zstd:3"},
		{Action: event.LayerMounted, Digest: b, Where: "r/app"},
		{Action: event.LayerPushed, Digest: a, Where: "r/app"},
		{Action: event.LayerConverted, Digest: c, Codec: "zstd:9", In: 400, Out: 100, Took: time.Millisecond},
		{Action: event.LayerExists, Digest: c},
	} {
		build.Add(event.Event{Layer: &e})
	}
	rowA := report.Layer{
		Digest: a, DiffID: "sha256:d1", Codec: "zstd:3", In: 6_440_000, Out: 2_000_000, Ratio: 3.22,
		Took: ms(20), MBps: 322, Made: event.LayerCompressed, Sent: event.LayerPushed, Where: []string{"r/old", "r/app", "r/new"},
	}
	rowB := report.Layer{Digest: b, Codec: "gzip", Out: 500, Made: event.LayerReused, Sent: event.LayerMounted, Where: []string{"r/app"}}
	rowC := report.Layer{Digest: c, Codec: "zstd:9", In: 400, Out: 100, Ratio: 4, Took: ms(1), MBps: 0.4, Made: event.LayerConverted, Sent: event.LayerExists}

	r := build.Report()
	if diff := cmp.Diff([]report.Layer{rowA, rowB, rowC}, r.Layers); diff != "" {
		t.Errorf("by appearance, without the config (-want +got):\n%s", diff)
	}
	want := report.Image{Total: 2_000_600, Made: 2_000_100, Pushed: 2_000_000, Kept: 600}
	if diff := cmp.Diff(want, r.Summary.Image); diff != "" {
		t.Errorf("image bytes (-want +got):\n%s", diff)
	}
	if got, want := strings.Join(r.LayerTable().Render(0, nil), "\n"), ""+
		"layer         codec        in      out  ratio  MB/s\n"+
		"aaaaaaaaaaaa  zstd:3  6.44 MB  2.00 MB   3.22   322  compressed, pushed\n"+
		"bbbb          gzip               500 B               reused, mounted\n"+
		"cccc          zstd:9    400 B    100 B   4.00        converted, already there"; got != want {
		t.Errorf("table:\n%s\nwant:\n%s", got, want)
	}

	// The image's order rules, and a layer it has twice counts its bytes once.
	build.Layers = []string{c, "sha256:base", c, a}
	r = build.Report()
	if diff := cmp.Diff([]report.Layer{rowC, {Digest: "sha256:base"}, rowC, rowA}, r.Layers); diff != "" {
		t.Errorf("in the image's order (-want +got):\n%s", diff)
	}
	if r.Summary.Image.Total != 2_000_100 {
		t.Errorf("image bytes %+v", r.Summary.Image)
	}

	// What was read back is put over what was said.
	good := report.Verdict{OK: true}
	bad := report.Verdict{Reason: "base layer", Fix: "--force-compression"}
	build.Proofs = []report.Proof{{Ref: "r/app:1", Want: "zstd:3", Layers: []report.Proven{
		{Digest: b, Codec: "gzip", In: 1000, Out: 500, Platform: "linux/arm64", Name: "RUN --mount=x b", Verdict: bad},
		{Digest: a, Codec: "zstd:4", Verdict: good},
	}}}
	r = build.Report()
	rowB.Verdict, rowB.In, rowB.Ratio, rowB.Platform, rowB.Name = &bad, 1000, 2, "linux/arm64", "RUN --mount=x b"
	rowA.Verdict, rowA.Codec = &good, "zstd:4"
	if diff := cmp.Diff([]report.Layer{rowB, rowA}, r.Layers); diff != "" {
		t.Errorf("as proven (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(build.Proofs, r.Proofs); diff != "" {
		t.Errorf("proof (-want +got):\n%s", diff)
	}
	if got, want := strings.Join(r.LayerTable().Render(0, nil), "\n"), ""+
		"layer         platform     codec        in      out  ratio  MB/s                      from\n"+
		"bbbb          linux/arm64  gzip    1.00 kB    500 B   2.00        reused, mounted     RUN b\n"+
		"aaaaaaaaaaaa               zstd:4  6.44 MB  2.00 MB   3.22   322  compressed, pushed"; got != want {
		t.Errorf("table:\n%s\nwant:\n%s", got, want)
	}
}

// Without a word about codecs every blob is a row.
func TestLayersOfUnknownCodec(t *testing.T) {
	var b report.Build
	b.Add(layerEvent(event.LayerPushed, "sha256:1"))
	b.Add(layerEvent(event.LayerExists, "2"))
	r := b.Report()
	if len(r.Layers) != 2 {
		t.Errorf("rows are %+v", r.Layers)
	}
	if got := (report.Layer{}).Disposition(); got != "" {
		t.Errorf("nothing is known and it says %q", got)
	}
	if got := r.LayerTable().Render(0, nil)[2]; got != "2      already there" {
		t.Errorf("row is %q", got)
	}
}

// A daemon and a file are no registry.
func TestLayerThatIsNotPushed(t *testing.T) {
	var b report.Build
	for _, e := range []event.Layer{
		{Action: event.LayerExists, Digest: "sha256:a", DiffID: "sha256:d", Out: 1, Where: "podman"},
		{Action: event.LayerLoaded, Digest: "sha256:b", DiffID: "sha256:e", Codec: "gzip", Out: 20, Where: "podman"},
		{Action: event.LayerWritten, Digest: "sha256:b", DiffID: "sha256:e", Codec: "gzip", Out: 20, Where: "file"},
	} {
		b.Add(event.Event{Layer: &e})
	}
	r := b.Report()
	if diff := cmp.Diff(report.Moved{Total: 40, Loaded: 20, Written: 20}, r.Summary.Moved); diff != "" {
		t.Errorf("bytes moved (-want +got):\n%s", diff)
	}
	if got, want := strings.Join(r.LayerTable().Render(0, nil), "\n"), ""+
		"layer  codec   out\n"+
		"a              1 B  already there\n"+
		"b      gzip   20 B  loaded"; got != want {
		t.Errorf("table:\n%s\nwant:\n%s", got, want)
	}
}

// What several destinations say comes to the same in any order.
func TestLayerSentInAnyOrder(t *testing.T) {
	actions := []event.LayerAction{event.LayerPushed, event.LayerLoaded, event.LayerWritten, event.LayerMounted, event.LayerExists}
	for n := 1; n <= len(actions); n++ {
		for range 10 {
			some := append([]event.LayerAction{}, actions[len(actions)-n:]...)
			want := some[0]
			rand.Shuffle(n, func(i, j int) { some[i], some[j] = some[j], some[i] })
			var b report.Build
			for _, a := range some {
				b.Add(layerEvent(a, "d"))
			}
			if got := b.Report().Layers[0].Sent; got != want {
				t.Errorf("%v is %s", some, got)
			}
		}
	}
}

func TestProofLine(t *testing.T) {
	proof := func(want, verdicts string) report.Proof { // . as asked, x not, n not and need not
		p := report.Proof{Ref: "localhost:5000/app", Want: want}
		for _, v := range verdicts {
			l := report.Proven{Verdict: report.Verdict{OK: v != 'x'}}
			if v != '.' {
				l.Reason = "because"
			}
			p.Layers = append(p.Layers, l)
		}
		return p
	}
	for _, c := range []struct{ want, verdicts, line string }{
		{"zstd:3", "", "no layers"},
		{"zstd:3", ".", "the only layer is zstd:3"},
		{"zstd:3", "..", "both layers are zstd:3"},
		{"zstd:3", "...", "all 3 layers are zstd:3"},
		{"zstd:3", "x", "the only layer is not zstd:3"},
		{"zstd:3", "xn", "1 of 2 layers is not zstd:3"},
		{"zstd:3", "xx", "neither layer is zstd:3"},
		{"zstd:3", "x.x", "2 of 3 layers are not zstd:3"},
		{"zstd:3", "n", "the only layer is kept as it came"},
		{"zstd:3", "nn", "all 2 layers are kept as they came"},
		{"zstd:3", "n..", "2 of 3 layers are zstd:3, 1 is kept as it came"},
		{"zstd:3", "nn.", "1 of 3 layers is zstd:3, 2 are kept as they came"},
		{"", ".", "the only layer is whole"},
		{"", "...", "all 3 layers are whole"},
		{"", "xxx", "none of the 3 layers is whole"},
	} {
		p := proof(c.want, c.verdicts)
		if got := p.Line(); got != c.line+", read back from localhost:5000/app" {
			t.Errorf("%q %q: %q", c.want, c.verdicts, got)
		}
		p.Variant = "gzip"
		if got := p.Line(); got != "gzip variant: "+c.line+", read back from localhost:5000/app" {
			t.Errorf("%q %q, one of several: %q", c.want, c.verdicts, got)
		}
		bad, notes := strings.Count(c.verdicts, "x"), strings.Count(c.verdicts, "n")
		if p.OK() != (bad == 0) || len(p.Mismatches()) != bad || len(p.Notes()) != notes {
			t.Errorf("%q: ok %v, %d mismatches, %d notes", c.verdicts, p.OK(), len(p.Mismatches()), len(p.Notes()))
		}
	}
}
