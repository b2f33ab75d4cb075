package imagetest

import (
	"fmt"
	"strings"

	"github.com/lighter-oci/lighter/internal/image"
)

// Describe is what a test compares: one line a manifest and one a layer,
// without digests.
func Describe(img *image.Image) string {
	var b strings.Builder
	for _, m := range img.Manifests {
		switch {
		case m.Attestation:
			fmt.Fprintf(&b, "attestation of %v\n", m.Subject != "")
			continue
		case !m.IsImage():
			fmt.Fprintf(&b, "artifact\n")
			continue
		}
		fmt.Fprintf(&b, "%s\n", m.Platform)
		for _, l := range m.Layers {
			record := "no record"
			if l.Record != nil {
				record = l.Record.Compression.String()
			}
			if l.RecordErr != nil {
				record = l.RecordErr.Error()
			}
			fmt.Fprintf(&b, "  %s called %s, %s\n", l.Codec, l.Claimed, record)
		}
	}
	return b.String()
}

// sampleDescription describes Sample.
const sampleDescription = `linux/amd64
  gzip called gzip, no record
  zstd called zstd, zstd:3
  zstd called zstd, zstd:9
  uncompressed called uncompressed, no record
linux/arm/v7
  gzip called gzip, gzip:6
  zstd called zstd, no record
  zstd called zstd, zstd:3
  gzip called gzip, no record
attestation of true
`
