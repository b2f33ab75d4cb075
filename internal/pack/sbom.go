package pack

import (
	"bytes"
	"compress/zlib"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/toolchain"
)

// component is something that a binary says it was made of.
type component struct {
	name, version string
	purl          string // https://github.com/package-url/purl-spec
	main          bool
}

// components reads what a binary says of itself: Go writes it into every
// program, cargo-auditable into Rust's. None is what most others say.
func components(b toolchain.Binary) ([]component, error) {
	if info, err := buildinfo.ReadFile(b.Path); err == nil {
		out := []component{golang(info.Main.Path, info.Main.Version, true)}
		out = append(out, golang("stdlib", strings.TrimPrefix(info.GoVersion, "go"), false))
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			out = append(out, golang(m.Path, m.Version, false))
		}
		return out, nil
	}
	f, err := elf.Open(b.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	section := f.Section(".dep-v0")
	if section == nil {
		return nil, nil
	}
	crates, err := auditable(section.Open())
	if err != nil {
		return nil, fmt.Errorf("%s: section .dep-v0: %w", b.Path, err)
	}
	return crates, nil
}

func golang(path, version string, main bool) component {
	c := component{name: path, version: version, purl: "pkg:golang/" + path, main: main}
	if version != "" && version != "(devel)" {
		c.purl += "@" + url.QueryEscape(version)
	}
	return c
}

// sectionMost bounds what is decompressed of a section.
const sectionMost = 8 << 20

// auditable reads what cargo-auditable writes: JSON, compressed by zlib.
func auditable(r io.Reader) ([]component, error) {
	z, err := zlib.NewReader(r)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	var list struct {
		Packages []struct {
			Name    string `json:"name"`
			Version string `json:"version"`
			Kind    string `json:"kind"`
			Root    bool   `json:"root"`
		} `json:"packages"`
	}
	if err := json.NewDecoder(io.LimitReader(z, sectionMost)).Decode(&list); err != nil {
		return nil, err
	}
	var out []component
	for _, p := range list.Packages {
		if p.Kind == "build" { // which leaves nothing in the binary
			continue
		}
		out = append(out, component{p.Name, p.Version, "pkg:cargo/" + p.Name + "@" + url.QueryEscape(p.Version), p.Root})
	}
	return out, nil
}

// list notes the components of an image; a binary that says nothing is named.
func (p *Packed) list(binaries []toolchain.Binary) error {
	for _, b := range binaries {
		found, err := components(b)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			found = []component{{name: b.Name, main: true}}
			p.Notes = append(p.Notes, b.Name+" does not say what it was made of, so the SBOM names it alone: Go's programs say it, Rust's do with cargo-auditable")
		}
		p.components = append(p.components, found...)
	}
	return nil
}

// document is the SBOM of an image. It depends on nothing but what is in it.
func (s Spec) document(p *Packed) *v2_3.Document {
	binary := p.Layers[len(p.Layers)-1]
	doc := &v2_3.Document{
		SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: binary.Name,
		DocumentNamespace: "https://github.com/lighter-oci/lighter/spdx/" + binary.DiffID.Encoded(),
		CreationInfo: &v2_3.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "lighter"}}, Created: s.time().Format("2006-01-02T15:04:05Z"),
		},
	}
	root := common.ElementID("")
	for i, c := range p.components {
		id := common.ElementID(fmt.Sprintf("Package-%d", i+1))
		pkg := &v2_3.Package{
			PackageName: c.name, PackageVersion: c.version, PackageSPDXIdentifier: id, PackageDownloadLocation: "NOASSERTION",
			IsFilesAnalyzedTagPresent: true,
		}
		if c.purl != "" {
			pkg.PackageExternalReferences = []*v2_3.PackageExternalReference{{Category: "PACKAGE-MANAGER", RefType: "purl", Locator: c.purl}}
		}
		doc.Packages = append(doc.Packages, pkg)
		relation := &v2_3.Relationship{RefA: common.MakeDocElementID("", string(root)), RefB: common.MakeDocElementID("", string(id)), Relationship: "DEPENDS_ON"}
		if c.main {
			root = id
			relation.RefA, relation.Relationship = common.MakeDocElementID("", "DOCUMENT"), "DESCRIBES"
		}
		doc.Relationships = append(doc.Relationships, relation)
	}
	return doc
}

// inToto is a statement about images, as BuildKit attaches them. Source:
// https://github.com/in-toto/attestation/tree/main/spec/v0.1.0
type inToto struct {
	Type          string          `json:"_type"`
	PredicateType string          `json:"predicateType"`
	Subject       []inTotoSubject `json:"subject"`
	Predicate     *v2_3.Document  `json:"predicate"`
}

type inTotoSubject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// predicateType is what the SBOM is called in statements and annotations.
const predicateType = "https://spdx.dev/Document"

// attestation puts a statement about a platform's image into m, and answers its
// entry in the index, as BuildKit writes it (docs/attestations). Its subjects are
// what became of the image in all its compressions.
func (s Spec) attestation(m *image.Made, p *Packed) (ocispec.Descriptor, error) {
	statement := inToto{Type: "https://in-toto.io/Statement/v0.1", PredicateType: predicateType, Subject: []inTotoSubject{}, Predicate: s.document(p)}
	for _, d := range p.became {
		statement.Subject = append(statement.Subject, inTotoSubject{p.Layers[len(p.Layers)-1].Name, map[string]string{d.Algorithm().String(): d.Encoded()}})
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(statement); err != nil {
		return ocispec.Descriptor{}, err
	}
	blob := m.AddBytes("application/vnd.in-toto+json", buf.Bytes())
	blob.Annotations = map[string]string{"in-toto.io/predicate-type": predicateType}
	nowhere := ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	config, err := addJSON(m, ocispec.MediaTypeImageConfig, ocispec.Image{
		Platform: nowhere, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{blob.Digest}},
	})
	if err != nil {
		return config, err
	}
	entry, err := addJSON(m, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{blob},
	})
	entry.Platform = &nowhere
	entry.Annotations = map[string]string{
		"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": p.Manifest.Digest.String(),
	}
	return entry, err
}

func addJSON(m *image.Made, mediaType string, v any) (ocispec.Descriptor, error) {
	b, err := json.Marshal(v)
	return m.AddBytes(mediaType, b), err
}
