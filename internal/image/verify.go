package image

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/lighter-oci/lighter/internal/codec"
)

// Flags of lighter that mend a mismatch.
const (
	flagForce = "--force-compression"
	flagOCI   = "--output type=image,oci-mediatypes=true"
)

// VerifyOptions says what was asked beside the compression itself.
type VerifyOptions struct {
	// ForceBase: base layers had to become what is wanted, too.
	ForceBase bool
	// BaseDiffIDs are the layers that came with a base image. Without ForceBase
	// they may be anything. Nil means that nobody knows.
	BaseDiffIDs []digest.Digest
	// OldClients: it is for those that read no zstd, so that base layers may be
	// anything but that.
	OldClients bool
	// AnyLevel compares codecs only.
	AnyLevel bool
	// KeepUnknown: layers whose level nobody knows were to stay.
	KeepUnknown bool
	// Chunked: zstd layers had to become zstd:chunked. Without it they may be, unless
	// ForceBase.
	Chunked bool
}

// Mismatch is one layer that is not as asked.
type Mismatch struct {
	Platform string        // "linux/amd64"
	Layer    int           // 1-based, from the bottom
	Digest   digest.Digest // of the blob
	DiffID   digest.Digest
	Got      string // "gzip", "zstd:9", "zstd of unknown level"
	Want     string // "zstd:3"
	Why      string // one clause
	Flag     string // the flag that mends it, "" where none does
	Note     bool   // as it was meant to be: a base layer that nobody forced
}

// String is one line: which layer, what it is, why, and what mends it.
func (m Mismatch) String() string {
	s := fmt.Sprintf("%s layer %d (%s) is %s, not %s: %s", m.Platform, m.Layer, short(m.Digest), m.Got, m.Want, m.Why)
	if m.Flag != "" {
		s += "; mend it with " + m.Flag
	}
	return s
}

// short is a digest as people compare them: algorithm and 12 characters.
func short(d digest.Digest) string {
	if d.Validate() != nil {
		return fmt.Sprintf("%.20q", string(d))
	}
	return d.Algorithm().String() + ":" + d.Encoded()[:12]
}

// Verify names every layer of every platform that is not want, by its own
// bytes and not by its media type. The level is compared with what the blob
// records of itself. An empty answer, or one of notes only, is the proof that
// the image is as asked; attestations and other artifacts do not count.
func Verify(img *Image, want codec.Compression, opts VerifyOptions) []Mismatch {
	var out []Mismatch
	v := verifier{want: want.Resolve(), opts: opts}
	for _, m := range img.Manifests {
		if !m.IsImage() {
			continue
		}
		for i := range m.Layers {
			l := &m.Layers[i]
			if mm, ok := v.check(m, l); ok {
				mm.Platform, mm.Layer = m.Platform, i+1
				mm.Digest, mm.DiffID = l.Descriptor.Digest, l.DiffID
				out = append(out, mm)
			}
		}
	}
	return out
}

type verifier struct {
	want codec.Compression
	opts VerifyOptions
}

func (v verifier) wanted() string { return Wanted(v.want, v.opts) }

// Wanted is what layers had to become, as flags spell it: "zstd:3", "gzip",
// "zstd:chunked:3".
func Wanted(want codec.Compression, opts VerifyOptions) string {
	name, level, hasLevel := strings.Cut(want.String(), ":")
	if opts.Chunked {
		name = TOCChunked
	}
	if opts.AnyLevel || !hasLevel {
		return name
	}
	return name + ":" + level
}

// check answers what is wrong with one layer, and whether anything is.
func (v verifier) check(m *Manifest, l *Layer) (Mismatch, bool) {
	mm := Mismatch{Want: v.wanted()}
	base := slices.Contains(v.opts.BaseDiffIDs, l.DiffID)
	switch {
	case l.Foreign:
		mm.Got, mm.Note = "a foreign layer", true
		mm.Why = "it is fetched from a URL of its own and never converted"
		return mm, true
	case l.Codec != v.want.Codec:
		mm.Got = string(l.Codec)
		mm.Why, mm.Flag = v.leftover(base)
	case m.TypeProblem(l) != "":
		mm.Got = fmt.Sprintf("%s by the name of %.200q", l.Codec, l.Descriptor.MediaType)
		mm.Why, mm.Flag = m.TypeProblem(l), flagOCI
		if l.Claimed != l.Codec {
			mm.Flag = flagForce
		}
	case v.opts.Chunked && l.layout() != codec.Chunked:
		mm.Got = l.describe()
		mm.Why, mm.Flag = "no parts of it can be fetched", flagForce
	case v.opts.AnyLevel || v.want.Codec == codec.Uncompressed:
		return mm, false
	case l.Record == nil:
		mm.Got = string(l.Codec) + " of unknown level"
		mm.Why, mm.Flag = "the blob has no record of how it was made", flagForce
		switch {
		case l.RecordErr != nil:
			mm.Why, mm.Flag = "its record could not be read: "+l.RecordErr.Error(), ""
		case v.opts.KeepUnknown:
			mm.Note = true
			mm.Why += " and was kept"
			return mm, true
		}
	case l.Record.Level != v.want.Level:
		mm.Got = l.Record.Compression.String()
		mm.Why, mm.Flag = v.leftover(base)
	case v.opts.ForceBase && !v.opts.Chunked && l.layout() == codec.Chunked:
		mm.Got = l.describe()
		mm.Why, mm.Flag = "it is "+TOCChunked, flagForce
	default:
		return mm, false
	}
	switch {
	case base && v.keeps(l):
		mm.Note = true
		mm.Why, mm.Flag = "it came with the base image and was kept", flagForce
	case v.opts.ForceBase && mm.Flag == flagForce:
		// Forcing was asked for and did not help, so it is not the advice.
		mm.Why, mm.Flag = mm.Why+", although "+flagForce+" was given", "--no-cache"
	}
	return mm, true
}

// keeps tells whether a base layer need not be as asked. One that lies breaks
// clients, whoever made it.
func (v verifier) keeps(l *Layer) bool {
	return !v.opts.ForceBase && l.Claimed == l.Codec && !(v.opts.OldClients && l.Codec == codec.Zstd)
}

// leftover says where a layer of another codec or level comes from.
func (v verifier) leftover(base bool) (why, flag string) {
	switch {
	case base:
		return "it came with the base image", flagForce
	case v.opts.BaseDiffIDs == nil:
		return "it came with the base image, or an earlier build, push or cache made it", flagForce
	}
	return "an earlier build or push made it, or a cache brought it, and it was used again", flagForce
}
