package image

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

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
	if err := unambiguous(json.NewDecoder(bytes.NewReader(b)), false); err != nil {
		return e, fmt.Errorf("%s could be read as two images: %w", desc.Digest, err)
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

// fields are what manifests, indexes and descriptors have, lower case.
var fields = map[string]string{
	"schemaversion": "schemaVersion", "mediatype": "mediaType", "artifacttype": "artifactType", "manifests": "manifests",
	"config": "config", "layers": "layers", "fslayers": "fsLayers", "subject": "subject", "annotations": "annotations",
	"digest": "digest", "size": "size", "urls": "urls", "data": "data", "platform": "platform",
}

// unambiguous reads a JSON value and refuses objects in which a field comes
// twice, or is spelled in other letters than the specification's: some parsers
// take the first, others the last, and some, as Go's, "Layers" for "layers".
// The names of annotations are anybody's.
func unambiguous(d *json.Decoder, annotations bool) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for d.More() {
		var name string
		if open == '{' {
			t, err := d.Token()
			if err != nil {
				return err
			}
			name, _ = t.(string)
			want, known := fields[strings.ToLower(name)]
			switch {
			case seen[name]:
				return fmt.Errorf("the field %.100q comes twice", name)
			case known && name != want && !annotations:
				return fmt.Errorf("the field %.100q is spelled as nobody spells it", name)
			}
			seen[name] = true
		}
		if err := unambiguous(d, name == "annotations"); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
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
