package main

import (
	"maps"
	"slices"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/report"
)

// inspection is an image in the words of package report.
func inspection(at image.Location, img *image.Image) report.Inspection {
	out := report.Inspection{
		Image: at.String(), Digest: img.Root.Digest.String(), MediaType: img.Root.MediaType, Size: img.Size(), Annotations: img.Annotations,
		Platforms: []report.PlatformImage{}, Attestations: []report.Attestation{}, Artifacts: []report.Artifact{},
	}
	users := layerUsers(img)
	platforms := map[digest.Digest]string{}
	for _, m := range img.Manifests {
		if m.IsImage() {
			platforms[m.Descriptor.Digest] = m.Platform
			out.Platforms = append(out.Platforms, platformImage(m, users))
		}
	}
	for _, m := range img.Manifests {
		switch {
		case m.Attestation:
			out.Attestations = append(out.Attestations, report.Attestation{
				Digest: m.Descriptor.Digest.String(), Subject: m.Subject.String(), Platform: platforms[m.Subject],
				Predicates: append([]string{}, m.Predicates()...), Size: m.PullSize(),
			})
		case !m.IsImage():
			out.Artifacts = append(out.Artifacts, report.Artifact{Digest: m.Descriptor.Digest.String(), Kind: m.Kind(), Size: m.PullSize()})
		}
	}
	return out
}

// layerUsers are the images that use each blob, in the order of the index.
func layerUsers(img *image.Image) map[digest.Digest][]*image.Manifest {
	users := map[digest.Digest][]*image.Manifest{}
	for _, m := range img.Manifests {
		if !m.IsImage() {
			continue
		}
		for _, l := range m.Layers {
			if d := l.Descriptor.Digest; !slices.Contains(users[d], m) {
				users[d] = append(users[d], m)
			}
		}
	}
	return users
}

func platformImage(m *image.Manifest, users map[digest.Digest][]*image.Manifest) report.PlatformImage {
	p := report.PlatformImage{
		Platform: m.Platform, Digest: m.Descriptor.Digest.String(), MediaType: m.Descriptor.MediaType,
		Annotations: m.Annotations, IndexAnnotations: m.Descriptor.Annotations,
		PullSize: m.PullSize(), Config: imageConfig(m), Layers: []report.InspectedLayer{},
	}
	var tar int64
	allKnown := true
	for i := range m.Layers {
		l := inspectedLayer(m, &m.Layers[i])
		for _, other := range users[m.Layers[i].Descriptor.Digest] {
			if other != m {
				l.SharedWith = append(l.SharedWith, other.Platform)
			}
		}
		if l.TarSize == nil {
			allKnown = false
		} else {
			tar += *l.TarSize
		}
		p.Layers = append(p.Layers, l)
	}
	if allKnown {
		p.TarSize = &tar
	}
	for _, h := range p.Config.History {
		if h.Layer > 0 {
			p.Layers[h.Layer-1].CreatedBy = h.CreatedBy
		}
	}
	return p
}

func inspectedLayer(m *image.Manifest, l *image.Layer) report.InspectedLayer {
	out := report.InspectedLayer{
		Digest: l.Descriptor.Digest.String(), DiffID: l.DiffID.String(), MediaType: l.Descriptor.MediaType, TypeProblem: m.TypeProblem(l),
		Codec: string(l.Codec), Size: l.Descriptor.Size, TOC: l.TOC(), Foreign: l.Foreign, SharedWith: []string{},
	}
	if r := l.Record; r != nil {
		out.Level, out.Encoder = r.Level, r.Encoder
		if r.Epoch != nil {
			t := time.Unix(*r.Epoch, 0).UTC()
			out.Epoch = &t
		}
	}
	if l.RecordErr != nil {
		out.RecordError = l.RecordErr.Error()
	}
	if l.Frames != nil {
		out.SeekTable, out.Frames = true, l.Frames.Count
	}
	if n, known := l.TarSize(); known {
		out.TarSize = &n
	}
	return out
}

func imageConfig(m *image.Manifest) report.ImageConfig {
	c := m.Config
	out := report.ImageConfig{
		Digest: m.ConfigDescriptor.Digest.String(), Created: c.Created, Author: c.Author,
		Entrypoint: append([]string{}, c.Config.Entrypoint...), Cmd: append([]string{}, c.Config.Cmd...),
		User: c.Config.User, Workdir: c.Config.WorkingDir, Env: []report.EnvVar{},
		Ports: keys(c.Config.ExposedPorts), Volumes: keys(c.Config.Volumes),
		Labels: c.Config.Labels, StopSignal: c.Config.StopSignal, History: historySteps(c.History, len(m.Layers)),
	}
	for _, e := range c.Config.Env {
		name, value, _ := strings.Cut(e, "=")
		out.Env = append(out.Env, report.EnvVar{Name: name, Value: value})
	}
	return out
}

// keys are those of a set, sorted; never nil.
func keys(set map[string]struct{}) []string {
	return append([]string{}, slices.Sorted(maps.Keys(set))...)
}

// historySteps numbers the layers. Where it speaks of more or fewer layers than
// there are, nobody knows which step made which.
func historySteps(steps []ocispec.History, layers int) []report.HistoryStep {
	made := 0
	for _, h := range steps {
		if !h.EmptyLayer {
			made++
		}
	}
	out := []report.HistoryStep{}
	n := 0
	for _, h := range steps {
		step := report.HistoryStep{Created: h.Created, CreatedBy: h.CreatedBy, Comment: h.Comment}
		if !h.EmptyLayer && made == layers {
			n++
			step.Layer = n
		}
		out = append(out, step)
	}
	return out
}
