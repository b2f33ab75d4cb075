package image

import (
	"encoding/json"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// envelope is what tells a manifest from an index by content.
type envelope struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Manifests     []json.RawMessage `json:"manifests"`
	Layers        []json.RawMessage `json:"layers"`
	FSLayers      []json.RawMessage `json:"fsLayers"` // schema 1
	Config        json.RawMessage   `json:"config"`
}

// ManifestType tells the media type of a manifest or index whose sender named
// none, from its mediaType field or else from its shape; "" for anything else.
func ManifestType(b []byte) string {
	var e envelope
	if json.Unmarshal(b, &e) != nil {
		return ""
	}
	switch {
	case e.MediaType != "":
		return e.MediaType
	case e.FSLayers != nil:
		return dockerSchema1s
	case e.Manifests != nil:
		return ocispec.MediaTypeImageIndex
	case e.Layers != nil || e.Config != nil:
		return ocispec.MediaTypeImageManifest
	}
	return ""
}

// open decodes content and refuses what could be read as two things: a client
// that goes by the descriptor and one that goes by the content must see the
// same image (CVE-2021-41190).
func open(desc ocispec.Descriptor, b []byte) (envelope, error) {
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return e, fmt.Errorf("%s is no JSON of a manifest or index: %w", desc.Digest, err)
	}
	switch {
	case e.SchemaVersion != 2:
		return e, fmt.Errorf("%s has schema version %d; only 2 can be read", desc.Digest, e.SchemaVersion)
	case e.MediaType != "" && e.MediaType != desc.MediaType:
		return e, fmt.Errorf("%s calls itself %.200q, but its descriptor says %q", desc.Digest, e.MediaType, desc.MediaType)
	case IsIndex(desc.MediaType) && (e.Layers != nil || e.Config != nil || e.FSLayers != nil):
		return e, fmt.Errorf("index %s has layers or a config of its own: it could be read as two images", desc.Digest)
	case IsManifest(desc.MediaType) && (e.Manifests != nil || e.FSLayers != nil):
		return e, fmt.Errorf("manifest %s lists manifests or schema 1 layers: it could be read as two images", desc.Digest)
	}
	return e, nil
}

func parseIndex(desc ocispec.Descriptor, b []byte) (ocispec.Index, error) {
	var index ocispec.Index
	if _, err := open(desc, b); err != nil {
		return index, err
	}
	if err := json.Unmarshal(b, &index); err != nil {
		return index, fmt.Errorf("index %s: %w", desc.Digest, err)
	}
	return index, nil
}

func parseManifest(desc ocispec.Descriptor, b []byte) (ocispec.Manifest, error) {
	var m ocispec.Manifest
	if _, err := open(desc, b); err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	if err := CheckDescriptor(m.Config); err != nil {
		return m, fmt.Errorf("manifest %s, config: %w", desc.Digest, err)
	}
	return m, nil
}

func parseConfig(desc ocispec.Descriptor, b []byte) (ocispec.Image, error) {
	var c ocispec.Image
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("config %s: %w", desc.Digest, err)
	}
	return c, nil
}
