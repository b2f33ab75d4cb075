package report

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Inspection is an image as `lighter inspect` found it; --format json prints
// it. Field names are stable; fields may be added. Sizes are bytes, times are
// RFC 3339, lists are never null, and what is not known is not there.
type Inspection struct {
	Image     string `json:"image"`  // as it was asked for, in full
	Digest    string `json:"digest"` // of the manifest or index
	MediaType string `json:"mediaType"`
	Size      int64  `json:"bytes"` // of everything in it, each blob once
	// Annotations of the index or the only manifest.
	Annotations  map[string]string `json:"annotations,omitempty"`
	Platforms    []PlatformImage   `json:"platforms"` // in the order of the index; one may come twice, as gzip and as zstd
	Attestations []Attestation     `json:"attestations"`
	Artifacts    []Artifact        `json:"artifacts"`
	Proofs       []Proof           `json:"proofs,omitempty"` // with --require, one for each variant that it names
}

// PlatformImage is one image of the index, or the only one.
type PlatformImage struct {
	Platform  string `json:"platform"` // "linux/arm/v7"
	Digest    string `json:"digest"`   // of the manifest
	MediaType string `json:"mediaType"`
	// Annotations of the manifest, and those of the index about it.
	Annotations      map[string]string `json:"annotations,omitempty"`
	IndexAnnotations map[string]string `json:"indexAnnotations,omitempty"`
	PullSize         int64             `json:"pullBytes"`          // manifest, config and layers, each blob once
	TarSize          *int64            `json:"tarBytes,omitempty"` // of all layers, where it is known of all
	Config           ImageConfig       `json:"config"`
	Layers           []InspectedLayer  `json:"layers"` // from the bottom
}

// ImageConfig is what the image says about running it and about its making.
type ImageConfig struct {
	Digest     string            `json:"digest"`
	Created    *time.Time        `json:"created,omitempty"`
	Author     string            `json:"author,omitempty"`
	Entrypoint []string          `json:"entrypoint"`
	Cmd        []string          `json:"cmd"`
	User       string            `json:"user,omitempty"`
	Workdir    string            `json:"workdir,omitempty"`
	Env        []EnvVar          `json:"env"`
	Ports      []string          `json:"ports"` // "8080/tcp", sorted
	Volumes    []string          `json:"volumes"`
	Labels     map[string]string `json:"labels,omitempty"`
	StopSignal string            `json:"stopSignal,omitempty"`
	History    []HistoryStep     `json:"history"`
}

// EnvVar is one variable of the environment.
type EnvVar struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// HistoryStep is one instruction that made the image.
type HistoryStep struct {
	Created   *time.Time `json:"created,omitempty"`
	CreatedBy string     `json:"createdBy,omitempty"`
	Comment   string     `json:"comment,omitempty"`
	Layer     int        `json:"layer,omitempty"` // which it made, 1 being the lowest; absent where none
}

// InspectedLayer is one layer by its own bytes and by what is said about it.
type InspectedLayer struct {
	Digest      string `json:"digest"` // of the blob
	DiffID      string `json:"diffID"` // of the tar
	MediaType   string `json:"mediaType"`
	TypeProblem string `json:"mediaTypeProblem,omitempty"` // what is wrong with it, given the bytes
	// Codec is what the first bytes are: "zstd", "gzip", "uncompressed"; ""
	// where the blob is not the registry's to give out.
	Codec       string     `json:"codec,omitempty"`
	Level       int        `json:"level,omitempty"`       // these three are recorded by lighter in the blob
	Encoder     string     `json:"encoder,omitempty"`     // "libzstd 1.5.7"
	Epoch       *time.Time `json:"epoch,omitempty"`       // times in the tar are no later
	RecordError string     `json:"recordError,omitempty"` // why none of them could be read
	Size        int64      `json:"bytes"`
	SeekTable   bool       `json:"seekTable"`
	Frames      int        `json:"frames,omitempty"`    // by the seek table
	TarSize     *int64     `json:"tarBytes,omitempty"`  // by the seek table, or of a tar as it is
	TOC         string     `json:"toc,omitempty"`       // "zstd:chunked" or "eStargz", where announced
	Foreign     bool       `json:"foreign,omitempty"`   // fetched from URLs of its own
	SharedWith  []string   `json:"sharedWith"`          // platforms
	CreatedBy   string     `json:"createdBy,omitempty"` // from the history
}

// Attestation is a manifest that states something about an image.
type Attestation struct {
	Digest     string   `json:"digest"`
	Subject    string   `json:"subject,omitempty"`  // digest of the image's manifest
	Platform   string   `json:"platform,omitempty"` // of that image
	Predicates []string `json:"predicateTypes"`     // "https://slsa.dev/provenance/v1"
	Size       int64    `json:"bytes"`
}

// Artifact is a manifest in the index that is neither.
type Artifact struct {
	Digest string `json:"digest"`
	Kind   string `json:"type"` // artifact type, or the config's media type
	Size   int64  `json:"bytes"`
}

// CodecName is "zstd:3", "zstd" where no level is recorded, "foreign".
func (l InspectedLayer) CodecName() string {
	switch {
	case l.Foreign:
		return "foreign"
	case l.Level > 0:
		return fmt.Sprintf("%s:%d", l.Codec, l.Level)
	}
	return l.Codec
}

// marks is what else there is to say about a layer in a table.
func (l InspectedLayer) marks() string {
	var words []string
	if l.TOC != "" {
		words = append(words, l.TOC)
	}
	if len(l.SharedWith) > 0 {
		words = append(words, "shared")
	}
	if l.TypeProblem != "" {
		words = append(words, "wrong media type")
	}
	return strings.Join(words, ", ")
}

// unknown stands in tables for what a blob does not tell.
const unknown = "unknown"

// LayerTable is a row for each step of the history, or for each layer where
// that does not match the layers.
func (p PlatformImage) LayerTable() Table {
	t := Table{Columns: []Column{
		{Name: "layer"}, {Name: "codec"}, {Name: "seekable", Right: true}, {Name: "size", Right: true},
		{Name: "tar", Right: true}, {Name: "ratio", Right: true, Optional: true}, {Name: "", Shrink: true}, {Name: "made by", Shrink: true},
	}}
	if len(p.Layers) == 0 {
		return t
	}
	row := func(l InspectedLayer, by string) {
		frames, tar, ratio := "no", unknown, ""
		if l.SeekTable {
			frames = Plural(l.Frames, "frame")
		}
		if l.TarSize != nil {
			tar = Bytes(*l.TarSize)
			ratio = known(float64(*l.TarSize)/float64(max(l.Size, 1)), Figures)
		}
		t.Add(ShortDigest(l.Digest), l.CodecName(), frames, Bytes(l.Size), tar, ratio, l.marks(), ShortText(by))
	}
	told := slices.ContainsFunc(p.Config.History, func(h HistoryStep) bool { return h.Layer > 0 })
	if !told {
		for _, l := range p.Layers {
			row(l, "")
		}
		return t
	}
	for _, h := range p.Config.History {
		if h.Layer > 0 && h.Layer <= len(p.Layers) {
			row(p.Layers[h.Layer-1], h.CreatedBy)
			continue
		}
		t.Add("", "", "", "", "", "", "", ShortText(h.CreatedBy))
	}
	return t
}

// Encoders are those that the layers record, each once; and Epoch is the
// latest that their times were clamped to, nil where none were.
func (p PlatformImage) Encoders() (names []string, epoch *time.Time) {
	for _, l := range p.Layers {
		if l.Encoder != "" && !slices.Contains(names, l.Encoder) {
			names = append(names, l.Encoder)
		}
		if l.Epoch != nil && (epoch == nil || l.Epoch.After(*epoch)) {
			epoch = l.Epoch
		}
	}
	return names, epoch
}

// Headline is the image in one line: what it is, of what, how big.
func (i Inspection) Headline() string {
	parts := []string{KindName(i.MediaType)}
	if n := len(i.Platforms); n != 1 || len(i.Attestations)+len(i.Artifacts) > 0 {
		parts = append(parts, Plural(n, "image"))
	}
	if n := len(i.Attestations); n > 0 {
		parts = append(parts, Plural(n, "attestation"))
	}
	if n := len(i.Artifacts); n > 0 {
		parts = append(parts, Plural(n, "artifact"))
	}
	return strings.Join(append(parts, Bytes(i.Size)+" in all"), " · ")
}

// Headline is one platform in one line.
func (p PlatformImage) Headline() string {
	platform := p.Platform
	if platform == "" {
		platform = "no platform"
	}
	line := fmt.Sprintf("%s · %s to pull · %s", platform, Bytes(p.PullSize), Plural(len(p.Layers), "layer"))
	if p.TarSize != nil {
		line += " of " + Bytes(*p.TarSize) + " unpacked"
	}
	return line
}

// Plural is "1 layer", "2 layers".
func Plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// KindName is a manifest's or index's media type in words, or itself.
func KindName(mediaType string) string {
	switch mediaType {
	case "application/vnd.oci.image.index.v1+json":
		return "OCI index"
	case "application/vnd.oci.image.manifest.v1+json":
		return "OCI manifest"
	case "application/vnd.docker.distribution.manifest.list.v2+json":
		return "Docker manifest list"
	case "application/vnd.docker.distribution.manifest.v2+json":
		return "Docker manifest"
	}
	return mediaType
}

// PredicateName is what a predicate type is called, "" for one that has no name.
func PredicateName(predicate string) string {
	switch {
	case strings.HasPrefix(predicate, "https://slsa.dev/provenance/"):
		return "provenance"
	case strings.HasPrefix(predicate, "https://spdx.dev/"), strings.HasPrefix(predicate, "https://cyclonedx.org/"):
		return "SBOM"
	case strings.HasPrefix(predicate, "https://openvex.dev/"):
		return "VEX"
	}
	return ""
}
