package main

import (
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/report"
)

// proofOf holds an image that was read back against what it was to become.
func proofOf(img *image.Image, ref string, want codec.Compression, opts image.VerifyOptions) report.Proof {
	proof := report.Proof{Ref: ref, Want: image.Wanted(want, opts)}
	proof.Layers = provenImage(img, image.Verify(img, want, opts))
	return proof
}

// provenImage are the rows of all platforms.
func provenImage(img *image.Image, mismatches []image.Mismatch) []report.Proven {
	images := 0
	for _, m := range img.Manifests {
		if m.IsImage() {
			images++
		}
	}
	var rows []report.Proven
	for _, m := range img.Manifests {
		if m.IsImage() {
			rows = append(rows, proven(m, images > 1, mismatches)...)
		}
	}
	return rows
}

// proofsOf holds an image that was read back against the variants that it was to
// have, each by opts of its own; none where nothing was to change.
func proofsOf(img *image.Image, ref string, variants []codec.Compression, opts func(*image.Image, codec.Compression) image.VerifyOptions) []report.Proof {
	proofs := []report.Proof{}
	for i, part := range img.Variants(len(variants)) {
		p := proofOf(part, ref, variants[i], opts(part, variants[i]))
		if len(variants) > 1 {
			p.Variant = string(variants[i].Codec)
		}
		proofs = append(proofs, p)
	}
	return proofs
}

// proven are the rows of one platform.
func proven(m *image.Manifest, several bool, mismatches []image.Mismatch) []report.Proven {
	var rows []report.Proven
	names := layerNames(m.Config)
	for i, l := range m.Layers {
		row := report.Proven{
			Digest: l.Descriptor.Digest.String(), Codec: string(l.Codec), Out: l.Descriptor.Size,
			Verdict: report.Verdict{OK: true},
		}
		if several {
			row.Platform = m.Platform
		}
		if i < len(names) {
			row.Name = names[i]
		}
		if l.Record != nil {
			row.Codec = l.Record.Compression.String()
		}
		at := slices.IndexFunc(mismatches, func(mm image.Mismatch) bool {
			return mm.Digest == l.Descriptor.Digest && mm.Platform == m.Platform && mm.Layer == i+1
		})
		if at >= 0 {
			mm := mismatches[at]
			row.Verdict = report.Verdict{OK: mm.Note, Reason: mm.Why}
			if !mm.Note {
				row.Fix = mm.Flag
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// layerNames are the instructions that made the layers, bottom first.
func layerNames(cfg ocispec.Image) []string {
	var names []string
	for _, h := range cfg.History {
		if !h.EmptyLayer {
			names = append(names, report.WithoutArgs(h.CreatedBy))
		}
	}
	return names
}
