package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lighter-oci/lighter/internal/event"
)

// Layer is one row of the layer table: everything that is known about one
// layer of the result. Unknown fields are zero.
type Layer struct {
	Digest   string            `json:"digest"` // of the blob
	DiffID   string            `json:"diffID,omitempty"`
	Platform string            `json:"platform,omitempty"`
	Name     string            `json:"name,omitempty"`        // the instruction that made it, where the caller knows
	Codec    string            `json:"codec,omitempty"`       // "zstd:3"; proven where there is a Verdict
	In       int64             `json:"in,omitempty"`          // bytes of the tar
	Out      int64             `json:"out,omitempty"`         // bytes of the blob
	Ratio    float64           `json:"ratio,omitempty"`       // In / Out
	Took     Seconds           `json:"seconds,omitempty"`     // of compressing or converting, not of sending
	MBps     float64           `json:"mbPerSecond,omitempty"` // In / Took, 10⁶ bytes
	Made     event.LayerAction `json:"made,omitempty"`        // compressed, converted or reused
	Sent     event.LayerAction `json:"sent,omitempty"`        // pushed, loaded, written, mounted or exists; the most work of several destinations
	Where    []string          `json:"where,omitempty"`       // repositories, daemons and files it is in now
	Verdict  *Verdict          `json:"verdict,omitempty"`
}

// Disposition is what became of the layer in words: "compressed, pushed",
// "reused, already there"; "" where nothing is known.
func (l Layer) Disposition() string {
	words := make([]string, 0, 2)
	if l.Made != "" {
		words = append(words, string(l.Made))
	}
	switch l.Sent {
	case "":
	case event.LayerExists:
		words = append(words, "already there")
	default:
		words = append(words, string(l.Sent))
	}
	return strings.Join(words, ", ")
}

// Verdict is what reading a layer back has shown. OK with a Reason is a layer
// that is not as asked and need not be: a base layer that nobody forced.
type Verdict struct {
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"` // why it is not as asked: "base layer, kept as it was pulled"
	Fix    string `json:"fix,omitempty"`    // what mends it: "--compression zstd:3,force"
}

// Proof is what a caller found when it read an image back from where it went.
// Its layers are the rows of the layer table, in its order.
type Proof struct {
	Ref     string   `json:"ref"`               // what was read
	Variant string   `json:"variant,omitempty"` // of the image, "gzip", where several were asked for
	Want    string   `json:"want,omitempty"`    // the codec that was asked for, "zstd:3"; "" where any will do
	Layers  []Proven `json:"layers"`
}

// Proven is one layer as it was read back.
type Proven struct {
	Digest   string `json:"digest"`
	Platform string `json:"platform,omitempty"` // where the image has several
	Name     string `json:"name,omitempty"`     // from the history of the config
	Codec    string `json:"codec"`              // "zstd:3"; without level where the blob does not say
	In       int64  `json:"in,omitempty"`       // bytes of the tar, where known
	Out      int64  `json:"out"`                // bytes of the blob
	Verdict
}

// OK says whether every layer is as asked.
func (p Proof) OK() bool { return len(p.Mismatches()) == 0 }

// Mismatches is the layers that are not as asked and should be.
func (p Proof) Mismatches() []Proven {
	return p.those(func(v Verdict) bool { return !v.OK })
}

// Notes is the layers that are not as asked and need not be.
func (p Proof) Notes() []Proven {
	return p.those(func(v Verdict) bool { return v.OK && v.Reason != "" })
}

func (p Proof) those(are func(Verdict) bool) []Proven {
	var list []Proven
	for _, l := range p.Layers {
		if are(l.Verdict) {
			list = append(list, l)
		}
	}
	return list
}

// work orders what can happen at several destinations; -1 is nothing.
func work(sent event.LayerAction) int {
	return slices.Index([]event.LayerAction{event.LayerExists, event.LayerMounted, event.LayerWritten, event.LayerLoaded, event.LayerPushed}, sent)
}

// add folds one event about the blob into its row. A codec or size that the
// event does not know changes nothing.
func (l *Layer) add(e event.Layer) {
	switch e.Action {
	case event.LayerPushed, event.LayerLoaded, event.LayerWritten, event.LayerMounted, event.LayerExists:
		if work(e.Action) > work(l.Sent) {
			l.Sent = e.Action
		}
		if e.Where != "" && !slices.Contains(l.Where, e.Where) {
			l.Where = append(l.Where, e.Where)
		}
	case event.LayerReused:
		if l.Made == "" { // made once, used again: it was made
			l.Made = e.Action
		}
	case event.LayerCompressed, event.LayerConverted:
		l.Made = e.Action
		keep(&l.Took, Seconds(e.Took))
	}
	keep(&l.DiffID, e.DiffID)
	keep(&l.Codec, e.Codec)
	keep(&l.In, e.In)
	keep(&l.Out, e.Out)
}

// prove puts what was read back over what was said.
func (l *Layer) prove(p Proven) {
	l.Digest = p.Digest
	keep(&l.Platform, p.Platform)
	keep(&l.Name, p.Name)
	l.Codec = p.Codec
	keep(&l.In, p.In)
	keep(&l.Out, p.Out)
	v := p.Verdict
	l.Verdict = &v
}

// rates fills in what follows from the rest.
func (l *Layer) rates() {
	if l.In > 0 && l.Out > 0 {
		l.Ratio = float64(l.In) / float64(l.Out)
	}
	if l.Made == event.LayerCompressed || l.Made == event.LayerConverted {
		l.MBps = MBps(l.In, time.Duration(l.Took))
	}
}

// keep sets old to new unless new is nothing.
func keep[T comparable](old *T, new T) {
	var zero T
	if new != zero {
		*old = new
	}
}

// LayerTable is the table of layers as people read it, for terminals and
// pages alike; row i is Layers[i].
func (r Report) LayerTable() Table {
	t := Table{Columns: []Column{
		{Name: "layer"},
		{Name: "platform", Optional: true},
		{Name: "codec"},
		{Name: "in", Right: true},
		{Name: "out", Right: true},
		{Name: "ratio", Right: true, Optional: true},
		{Name: "MB/s", Right: true, Optional: true},
		{Name: ""},
		{Name: "from", Shrink: true, Optional: true},
	}}
	for _, l := range r.Layers {
		t.Add(
			ShortDigest(l.Digest),
			l.Platform,
			l.Codec,
			known(l.In, Bytes),
			known(l.Out, Bytes),
			known(l.Ratio, Figures),
			rate(l),
			l.Disposition(),
			ShortText(l.Name),
		)
	}
	return t
}

// rate leaves out what a small layer's start-up time would say.
func rate(l Layer) string {
	if l.In < 1e6 {
		return ""
	}
	return known(l.MBps, Figures)
}

// known formats v, or leaves the cell empty where v is zero.
func known[T int64 | float64](v T, format func(T) string) string {
	if v == 0 {
		return ""
	}
	return format(v)
}

// ShortDigest is the first twelve hex digits, as docker shows it.
func ShortDigest(digest string) string {
	_, hex, ok := strings.Cut(digest, ":")
	if !ok {
		hex = digest
	}
	if len(hex) > 12 {
		hex = hex[:12]
	}
	return hex
}

// Line says in one sentence whether the image is what was asked for: "all 7
// layers are zstd:3, read back from localhost:5000/app"; of a variant that is the
// beginning.
func (p Proof) Line() string {
	want := p.Want
	if want == "" {
		want = "whole"
	}
	n, bad, notes := len(p.Layers), len(p.Mismatches()), len(p.Notes())
	var what string
	switch {
	case n == 0:
		what = "no layers"
	case bad == n && n == 2:
		what = "neither layer is " + want
	case bad == n && n > 2:
		what = fmt.Sprintf("none of the %d layers is %s", n, want)
	case bad > 0:
		what = amount(bad, n) + " not " + want
	case notes == n && n == 1:
		what = "the only layer is kept as it came"
	case notes == n:
		what = fmt.Sprintf("all %d layers are kept as they came", n)
	case notes > 0:
		came := "1 is kept as it came"
		if notes > 1 {
			came = fmt.Sprintf("%d are kept as they came", notes)
		}
		what = amount(n-notes, n) + " " + want + ", " + came
	default:
		what = amount(n, n) + " " + want
	}
	if p.Variant != "" {
		what = p.Variant + " variant: " + what
	}
	return what + ", read back from " + p.Ref
}

// amount is "1 of 3 layers is", "all 3 layers are".
func amount(some, all int) string {
	switch {
	case all == 1:
		return "the only layer is"
	case some == 2 && all == 2:
		return "both layers are"
	case some == all:
		return fmt.Sprintf("all %d layers are", all)
	case some == 1:
		return fmt.Sprintf("1 of %d layers is", all)
	}
	return fmt.Sprintf("%d of %d layers are", some, all)
}
