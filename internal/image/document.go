package image

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// document is a JSON object of which only a part is known and all is kept: what
// newer tools write into manifests and descriptors survives a conversion.
type document map[string]json.RawMessage

func parseDocument(b []byte) (document, error) {
	var d document
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, err
	}
	return d, nil
}

// set replaces one field.
func (d document) set(key string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // of strings, numbers and documents that were JSON before
	}
	d[key] = b
}

// list are the objects in an array; nil where there is none.
func (d document) list(key string) ([]document, error) {
	var out []document
	if raw, ok := d[key]; ok {
		if err := json.Unmarshal(raw, &out); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	return out, nil
}

// descriptor is what the specification knows of a document that is one.
func (d document) descriptor() (ocispec.Descriptor, error) {
	var desc ocispec.Descriptor
	b, err := json.Marshal(d)
	if err == nil {
		err = json.Unmarshal(b, &desc)
	}
	return desc, err
}

// point makes a document that is a descriptor one of desc. Fields that spoke of
// the old content's bytes go, annotations are desc's.
func (d document) point(desc ocispec.Descriptor) document {
	out := maps.Clone(d)
	out.set("mediaType", desc.MediaType)
	out.set("digest", desc.Digest)
	out.set("size", desc.Size)
	delete(out, "data")
	delete(out, "annotations")
	if len(desc.Annotations) > 0 {
		out.set("annotations", desc.Annotations)
	}
	if desc.Platform != nil {
		out.set("platform", desc.Platform)
	}
	return out
}

// bytes are the document and its descriptor.
func (d document) bytes(mediaType string) ([]byte, ocispec.Descriptor) {
	b, err := json.Marshal(d)
	if err != nil {
		panic(err) // every value was JSON before
	}
	return b, ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
}
