package buildkit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	commonexptypes "github.com/moby/buildkit/exporter/exptypes"

	"github.com/lighter-oci/lighter/internal/engine"
)

// What an output may say, by kind (BuildKit, exporter/containerimage/exptypes
// and exporter/local). An engine keeps what it does not know as metadata and
// says nothing, so that a misspelt key would do nothing, silently.
var (
	imageKeys = []string{
		"name", attrOCIMediaTypes, "oci-artifact", "attestation-inline", "prefer-nondist-layers",
		engine.AttrCompression, engine.AttrLevel, engine.AttrAdd, engine.AttrForce, attrRewriteTimestamp, string(commonexptypes.OptKeySourceDateEpoch),
	}
	storeKeys = []string{
		"push", "push-by-digest", "registry.insecure", "unpack", "dangling-name-prefix", "danging-name-empty-only", "name-canonical", "store",
	}
	fileKeys = []string{"platform-split", "attestation-prefix", "mode"}
	boolKeys = []string{
		"push", "push-by-digest", "registry.insecure", "unpack", "store", "name-canonical", attrTar, attrOCIMediaTypes, "oci-artifact",
		"attestation-inline", "prefer-nondist-layers", engine.AttrForce, attrRewriteTimestamp, "platform-split",
	}
)

// checkOutputKeys refuses keys that no engine reads, and values that every one
// would refuse minutes later.
func checkOutputKeys(kind string, attrs map[string]string) error {
	var known []string
	switch kind {
	case client.ExporterImage:
		known = slices.Concat(imageKeys, storeKeys)
	case client.ExporterOCI, client.ExporterDocker:
		known = append(slices.Clone(imageKeys), attrTar)
	default:
		known = slices.Concat(fileKeys, []string{string(commonexptypes.OptKeySourceDateEpoch)})
	}
	for key, value := range attrs {
		if _, ok, err := exptypes.ParseAnnotationKey(key); ok || err != nil {
			if err != nil {
				return fmt.Errorf("output type=%s: %w", kind, err)
			}
			continue
		}
		if !slices.Contains(known, key) {
			return &hintError{
				err:  fmt.Errorf("output type=%s: it has no key %q", kind, key),
				hint: "it has " + strings.Join(known, ", ") + ", and annotation.KEY on images",
			}
		}
		if _, err := strconv.ParseBool(value); err != nil && value != "" && slices.Contains(boolKeys, key) {
			return fmt.Errorf("output type=%s: %s=%s: want true or false", kind, key, value)
		}
	}
	return nil
}
