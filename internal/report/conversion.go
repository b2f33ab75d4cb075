package report

import (
	"fmt"

	"github.com/lighter-oci/lighter/internal/event"
)

// Conversion is what `lighter convert` did to one image; --format json prints
// it. Field names are stable; fields may be added. Sizes are bytes, times are
// seconds, lists are never null.
type Conversion struct {
	Source      string           `json:"source"`
	SourceRoot  string           `json:"sourceDigest"`
	Destination string           `json:"destination"`
	Root        string           `json:"digest"`
	Took        Seconds          `json:"seconds"`
	Layers      []ConvertedLayer `json:"layers"`
	// LeftBehind are signatures and other referrers of the source whose subject
	// is not at the destination, because its digest changed.
	LeftBehind []string `json:"leftBehind"`
	Notes      []string `json:"notes"`
	// Proofs are what the destination's own bytes say, one for each variant.
	Proofs []Proof `json:"proofs"`
}

// ConvertedLayer is one blob of the source and what stands for it.
type ConvertedLayer struct {
	Platform string            `json:"platform,omitempty"`
	Source   string            `json:"source"` // digest of the blob
	Was      string            `json:"was"`    // "gzip", "zstd:3", "zstd:chunked:3"
	Before   int64             `json:"before"` // bytes of it
	Digest   string            `json:"digest"`
	Is       string            `json:"is"`
	After    int64             `json:"after"`
	Tar      int64             `json:"tar,omitempty"` // bytes, where it was decoded
	Action   event.LayerAction `json:"action"`
	Took     Seconds           `json:"seconds"`
}

// Sizes are the bytes of all layers before and after.
func (c Conversion) Sizes() (before, after int64) {
	for _, l := range c.Layers {
		before += l.Before
		after += l.After
	}
	return before, after
}

// Counts are how many layers were made anew, and how many bytes travelled.
func (c Conversion) Counts() (made int, sent int64) {
	for _, l := range c.Layers {
		switch l.Action {
		case event.LayerConverted:
			made++
			sent += l.After
		case event.LayerPushed:
			sent += l.After
		}
	}
	return made, sent
}

// Table is a row a layer.
func (c Conversion) Table() Table {
	t := Table{Columns: []Column{
		{Name: "layer"}, {Name: "was"}, {Name: "is"}, {Name: "before", Right: true}, {Name: "after", Right: true},
		{Name: "tar", Right: true, Optional: true}, {Name: "MB/s", Right: true, Optional: true}, {Name: ""}, {Name: "platform", Optional: true},
	}}
	for _, l := range c.Layers {
		tar, rate := "", ""
		if l.Tar > 0 {
			tar = Bytes(l.Tar)
			rate = Figures(MBps(l.Tar, l.Took.Duration()))
		}
		t.Add(ShortDigest(l.Digest), l.Was, l.Is, Bytes(l.Before), Bytes(l.After), tar, rate, converted(l.Action), l.Platform)
	}
	return t
}

// converted says in a word what happened to a layer.
func converted(a event.LayerAction) string {
	switch a {
	case event.LayerPushed:
		return "copied"
	case event.LayerExists:
		return "already there"
	}
	return string(a)
}

// Headline is the conversion in one line.
func (c Conversion) Headline() string {
	before, after := c.Sizes()
	made, sent := c.Counts()
	return fmt.Sprintf("%s · %d of %d layers converted · %s → %s · %s sent", c.Took, made, len(c.Layers), Bytes(before), Bytes(after), Bytes(sent))
}
