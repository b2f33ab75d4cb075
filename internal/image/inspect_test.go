package image_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
)

// Sizes of tars are told where the blob tells them, and nowhere else.
func TestTarSize(t *testing.T) {
	var got []int64
	for _, m := range read(t, imagetest.Sample(t)).Manifests {
		for _, l := range m.Layers {
			n, known := l.TarSize()
			if !known && l.Codec == "zstd" && l.Record != nil {
				t.Errorf("%s has a seek table", l.Descriptor.Digest)
			}
			got = append(got, n)
		}
	}
	// gzip and foreign zstd are unknown; the last is the attestation, whose
	// layer is never probed.
	big, small := int64(len(imagetest.Tar(t, 1, 400<<10))), int64(len(imagetest.Tar(t, 3, 3000)))
	if diff := cmp.Diff([]int64{0, big, small, small, 0, 0, big, 0, 0}, got); diff != "" {
		t.Error(diff)
	}
	frames := read(t, imagetest.Sample(t)).Manifests[0].Layers[1].Frames
	if frames == nil || frames.Count != 7 { // of 64 KiB
		t.Errorf("%+v", frames)
	}
}

// A blob counts once, however many use it.
func TestSizes(t *testing.T) {
	f := imagetest.Sample(t)
	var all int64
	for _, desc := range f.Descriptors {
		all += desc.Size
	}
	img := read(t, f)
	if img.Size() != all {
		t.Errorf("size %d, want %d", img.Size(), all)
	}
	m := img.Manifests[0]
	want := m.Descriptor.Size + m.ConfigDescriptor.Size
	for _, l := range m.Layers {
		want += l.Descriptor.Size
	}
	if m.PullSize() != want {
		t.Errorf("pull size %d, want %d", m.PullSize(), want)
	}
	l := f.AddLayer(t, imagetest.Tar(t, 9, 100), zstd3)
	f.AddImage(t, amd64, l, l)
	twice := read(t, f).Manifests[0]
	if want := twice.Descriptor.Size + twice.ConfigDescriptor.Size + l.Descriptor.Size; twice.PullSize() != want {
		t.Errorf("pull size of a layer that comes twice %d, want %d", twice.PullSize(), want)
	}
}

func TestOnly(t *testing.T) {
	img := read(t, imagetest.Sample(t))
	for platform, want := range map[string]string{
		"linux/amd64":  "linux/amd64 attestation",
		"amd64":        "linux/amd64 attestation", // the system is this one's
		"linux/arm":    "linux/arm/v7",
		"linux/arm/v7": "linux/arm/v7",
	} {
		only, err := img.Only(platform)
		if err != nil {
			t.Errorf("%s: %v", platform, err)
			continue
		}
		var got []string
		for _, m := range only.Manifests {
			if m.Attestation {
				m.Platform = "attestation"
			}
			got = append(got, m.Platform)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: %s, want %s", platform, s, want)
		}
	}
	_, err := img.Only("linux/s390x")
	if !errors.Is(err, image.ErrNotFound) || !strings.Contains(err.Error(), "the image has linux/amd64, linux/arm/v7") {
		t.Errorf("an absent one: %v", err)
	}
	if _, err := img.Only("a/b/c/d\n"); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("none at all: %v", err)
	}
}

// What descriptors and manifests announce is found, and media types are held
// against the bytes.
func TestAnnounced(t *testing.T) {
	f := &imagetest.Fixture{}
	plain := f.AddLayer(t, imagetest.Tar(t, 1, 10), zstd3)
	with := func(key string) imagetest.Layer {
		l := plain
		l.Descriptor.Annotations = map[string]string{key: "x"}
		return l
	}
	wrong, lying := plain, plain
	wrong.Descriptor.MediaType = image.DockerManifest
	lying.Descriptor.MediaType = ocispec.MediaTypeImageLayerGzip
	f.AddImage(t, amd64, plain, with("io.github.containers.zstd-chunked.manifest-position"), with("containerd.io/snapshot/stargz/toc.digest"), wrong, lying)
	m := read(t, f).Manifests[0]
	var tocs, problems []string
	for i := range m.Layers {
		tocs = append(tocs, m.Layers[i].TOC())
		problem, _, _ := strings.Cut(m.TypeProblem(&m.Layers[i]), " ")
		problems = append(problems, problem)
	}
	if diff := cmp.Diff([]string{"", image.TOCChunked, image.TOCStargz, "", ""}, tocs); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"", "", "", "no", "clients"}, problems); diff != "" {
		t.Error(diff)
	}
}

// Predicates, kinds and annotations come from where they belong.
func TestDescribed(t *testing.T) {
	f := &imagetest.Fixture{}
	subject := f.AddImage(t, amd64, f.AddLayer(t, imagetest.Tar(t, 1, 10), zstd3))
	statement := f.Add("application/vnd.in-toto+json", []byte("{}"))
	statement.Annotations = map[string]string{"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"}
	attestation := f.AddImage(t, ocispec.Platform{OS: "unknown", Architecture: "unknown"}, imagetest.Layer{Descriptor: statement, DiffID: statement.Digest})
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": subject.Digest.String()}
	chart := f.AddJSON(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, Config: f.Add("application/vnd.cncf.helm.config.v1+json", []byte("{}")), Layers: []ocispec.Descriptor{},
	})
	f.Root = f.AddJSON(t, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{subject, attestation, chart}, Annotations: map[string]string{"a": "index"},
	})
	img := read(t, f)
	if diff := cmp.Diff(map[string]string{"a": "index"}, img.Annotations); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"https://slsa.dev/provenance/v1"}, img.Manifests[1].Predicates()); diff != "" {
		t.Error(diff)
	}
	if got := img.Manifests[2].Kind(); got != "application/vnd.cncf.helm.config.v1+json" {
		t.Error(got)
	}
}
