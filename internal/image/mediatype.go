package image

import (
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
)

// Docker's media types (distribution, docs/spec/manifest-v2-2.md), which
// registries still serve for older images.
const (
	DockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerConfig   = "application/vnd.docker.container.image.v1+json"

	dockerSchema1  = "application/vnd.docker.distribution.manifest.v1+json"
	dockerSchema1s = "application/vnd.docker.distribution.manifest.v1+prettyjws"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar"
	dockerForeign  = "application/vnd.docker.image.rootfs.foreign.diff.tar"
	ociForeign     = "application/vnd.oci.image.layer.nondistributable.v1.tar"
)

// IsIndex tells whether a media type is an index's (or a manifest list's).
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == DockerIndex
}

// IsManifest tells whether a media type is a manifest's.
func IsManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == DockerManifest
}

func isSchema1(mediaType string) bool {
	return mediaType == dockerSchema1 || mediaType == dockerSchema1s
}

func isImageConfig(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == DockerConfig
}

// claimed is what a layer's media type says: the codec, "" for a type that is
// not in the specifications, and whether the layer is a foreign one. Docker's
// zstd type is known to tools and to no specification: it names a codec, and
// is wrong all the same.
func claimed(mediaType string) (c codec.Codec, foreign, wrong bool) {
	base, suffix := mediaType, ""
	docker := strings.HasPrefix(mediaType, "application/vnd.docker.")
	sep := "+"
	if docker {
		sep = ".tar."
	}
	if before, after, ok := strings.Cut(mediaType, sep); ok {
		base, suffix = before, after
		if docker {
			base += ".tar"
		}
	}
	switch base {
	case ocispec.MediaTypeImageLayer, dockerLayer:
	case ociForeign, dockerForeign:
		foreign = true
	default:
		return "", false, true
	}
	switch suffix {
	case "":
		return codec.Uncompressed, foreign, false
	case "gzip":
		return codec.Gzip, foreign, false
	case "zstd":
		return codec.Zstd, foreign, docker
	}
	return "", foreign, true
}
