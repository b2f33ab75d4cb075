// Package pack owns how binaries of this machine become an image: what is
// checked before they go in, what else is in it, and in which layers.
//
// It runs compilers through toolchain and moves nothing itself: what it makes is
// an image.Source with plain layers, which image.Copy compresses on the way to
// wherever they go. It needs no engine, no root, and no Linux.
package pack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/layer"
	"github.com/lighter-oci/lighter/internal/toolchain"
)

// Spec says what an image is made of besides its binaries. The zero value is
// scratch with certificates and a user that is not root.
type Spec struct {
	Base    *Base // nil is scratch; it must have been read
	Files   []File
	Include []string // certificates, tzdata, tmp; nil is certificates on scratch, nothing on a base

	Entrypoint  []string // nil is the first binary
	Cmd         []string
	Env         map[string]string
	User        string // "" is the base's, if that is not root, or a number that is nobody's
	Workdir     string
	Expose      []string
	Labels      map[string]string
	Annotations map[string]string // of manifests and index
	Epoch       time.Time         // of all files, and of the config; the zero value is 1970

	Debug       string            // directory for debug information; "" is nowhere
	UPX         bool              // compress binaries themselves
	SBOM        bool              // attach what the binaries say they were made of
	Compression codec.Compression // of layers, by which UPX is judged

	Temp string // where plain layers lie until they are compressed; "" is $TMPDIR
}

// Packed is the image of one platform.
type Packed struct {
	Platform ocispec.Platform
	Manifest ocispec.Descriptor
	Layers   []Layer  // its own, bottom first
	Notes    []string // what a user should know

	components []component     // for the SBOM
	became     []digest.Digest // the manifest where it was sent ahead, in each compression

	content []content
	temp    string // a directory; "" where none was needed
	discard func() // removes it
}

// Layer is one that was packed here.
type Layer struct {
	Name   string
	DiffID digest.Digest
	Size   int64 // bytes of tar
}

// content is what a source gives out.
type content struct {
	desc ocispec.Descriptor
	io.ReaderAt
	file *os.File // nil where it lies in memory
}

// addTo puts all there is into a source.
func (p *Packed) addTo(s *image.Made) {
	for _, c := range p.content {
		s.Add(c.desc, c)
	}
}

// Close removes the plain layers.
func (p *Packed) Close() error {
	var errs []error
	for _, c := range p.content {
		if c.file != nil {
			errs = append(errs, c.file.Close())
		}
	}
	if p.discard != nil {
		p.discard()
	}
	return errors.Join(errs...)
}

// create makes a file that goes with this process.
func (p *Packed) create(in string) (f *os.File, err error) {
	if p.temp == "" {
		if p.temp, p.discard, err = image.TempDir(in); err != nil {
			return nil, err
		}
	}
	return os.CreateTemp(p.temp, "*")
}

// Pack makes the image of one platform. It must be closed.
func (s Spec) Pack(ctx context.Context, p ocispec.Platform, binaries []toolchain.Binary, pool *codec.Pool) (_ *Packed, err error) {
	out := &Packed{Platform: p}
	defer func() {
		if err != nil {
			err = errors.Join(err, out.Close())
		}
	}()
	var under *image.Manifest
	config := ocispec.Image{Platform: p, RootFS: ocispec.RootFS{Type: "layers"}}
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Annotations: s.Annotations}
	if s.Base != nil {
		if under, err = s.Base.on(p); err != nil {
			return nil, err
		}
		config.RootFS, config.History, config.Config = under.Config.RootFS, under.Config.History, under.Config.Config
		config.RootFS.DiffIDs, config.History = slices.Clone(config.RootFS.DiffIDs), slices.Clone(config.History)
		for _, l := range under.Layers {
			manifest.Layers = append(manifest.Layers, l.Descriptor)
		}
		manifest.Annotations = maps.Clone(s.Annotations)
		if manifest.Annotations == nil {
			manifest.Annotations = map[string]string{}
		}
		manifest.Annotations[ocispec.AnnotationBaseImageName] = s.Base.Name
		manifest.Annotations[ocispec.AnnotationBaseImageDigest] = under.Descriptor.Digest.String()
	}
	if s.SBOM {
		if err := out.list(binaries); err != nil {
			return nil, err
		}
	}
	if binaries, err = s.prepare(ctx, out, binaries, under, pool); err != nil {
		return nil, err
	}
	files, err := s.files()
	if err != nil {
		return nil, err
	}
	programs, err := programFiles(binaries)
	if err != nil {
		return nil, err
	}
	if err := s.starts(files, programs); err != nil {
		return nil, err
	}
	for _, l := range []struct {
		name  string
		files []layer.File
	}{{"files", files}, {names(binaries), programs}} {
		if len(l.files) == 0 {
			continue
		}
		desc, err := s.layer(out, l.name, l.files)
		if err != nil {
			return nil, err
		}
		manifest.Layers = append(manifest.Layers, desc)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, desc.Digest)
		config.History = append(config.History, ocispec.History{Created: s.created(), CreatedBy: l.name, Comment: "lighter pack"})
	}
	config.Created = s.created()
	s.configure(&config.Config, binaries)
	if manifest.Config, err = out.add(ocispec.MediaTypeImageConfig, config); err != nil {
		return nil, err
	}
	out.Manifest, err = out.add(ocispec.MediaTypeImageManifest, manifest)
	return out, err
}

// add puts JSON in.
func (p *Packed) add(mediaType string, v any) (ocispec.Descriptor, error) {
	b, err := json.Marshal(v)
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	p.content = append(p.content, content{desc: desc, ReaderAt: strings.NewReader(string(b))})
	return desc, err
}

// files is the layer that rarely changes.
func (s Spec) files() ([]layer.File, error) {
	var own []layer.File
	at := map[string]bool{}
	for _, f := range s.Files {
		more, err := collect(f)
		if err != nil {
			return nil, err
		}
		for _, m := range more {
			if !m.Mode.IsDir() || !at[m.Path] { // several may go into one directory
				own = append(own, m)
			}
			at[m.Path] = true
		}
	}
	if s.Base != nil {
		return own, nil
	}
	files, err := foundation(s.User, s.include())
	// A project may bring what would be there anyway.
	files = slices.DeleteFunc(files, func(have layer.File) bool { return at[have.Path] })
	return append(files, own...), err
}

func (s Spec) include() []string {
	if s.Include == nil {
		return []string{"certificates"}
	}
	return s.Include
}

func names(binaries []toolchain.Binary) string {
	list := make([]string, len(binaries))
	for i, b := range binaries {
		list[i] = path.Join(binDir, b.Name)
	}
	return strings.Join(list, " ")
}

func programFiles(binaries []toolchain.Binary) ([]layer.File, error) {
	mode := os.FileMode(0o755)
	var files []layer.File
	for _, b := range binaries {
		more, err := collect(File{From: b.Path, To: path.Join(binDir, b.Name), Mode: &mode})
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	return files, nil
}

// layer writes a plain layer.
func (s Spec) layer(p *Packed, name string, files []layer.File) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer}
	f, err := p.create(s.Temp)
	if err != nil {
		return desc, fmt.Errorf("plain layer: %w", err)
	}
	p.content = append(p.content, content{file: f})
	sum := digest.Canonical.Digester()
	if err := layer.WriteFiles(io.MultiWriter(f, sum.Hash()), files, s.time(), s.Base == nil); err != nil {
		return desc, fmt.Errorf("layer of %s: %w", name, err)
	}
	if desc.Size, err = f.Seek(0, io.SeekCurrent); err != nil {
		return desc, err
	}
	desc.Digest = sum.Digest()
	p.content[len(p.content)-1] = content{desc, f, f}
	p.Layers = append(p.Layers, Layer{name, desc.Digest, desc.Size})
	return desc, nil
}

func (s Spec) time() time.Time {
	if s.Epoch.IsZero() {
		return time.Unix(0, 0).UTC()
	}
	return s.Epoch.UTC()
}

func (s Spec) created() *time.Time {
	t := s.time()
	return &t
}

// configure puts over the base's config what the image has differently.
func (s Spec) configure(c *ocispec.ImageConfig, binaries []toolchain.Binary) {
	c.Entrypoint, c.Cmd = s.Entrypoint, s.Cmd
	if len(c.Entrypoint) == 0 && len(binaries) > 0 {
		c.Entrypoint = []string{path.Join(binDir, binaries[0].Name)}
	}
	env := slices.Clone(c.Env)
	if s.Base == nil {
		env = []string{"PATH=" + searchPath}
		if slices.Contains(s.include(), "certificates") {
			env = append(env, "SSL_CERT_FILE="+certificates)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.Env)) {
		env = slices.DeleteFunc(env, func(e string) bool { return strings.HasPrefix(e, key+"=") })
		env = append(env, key+"="+s.Env[key])
	}
	c.Env = env
	switch {
	case s.Base == nil:
		c.User = accountOf(s.User).String()
	case s.User != "":
		c.User = s.User
	case c.User == "", c.User == "root", c.User == "0", strings.HasPrefix(c.User, "0:"), strings.HasPrefix(c.User, "root:"):
		c.User = account{uid: nonroot, gid: nonroot}.String()
	}
	if s.Workdir != "" {
		c.WorkingDir = s.Workdir
	}
	for _, port := range s.Expose {
		if c.ExposedPorts == nil {
			c.ExposedPorts = map[string]struct{}{}
		}
		if !strings.Contains(port, "/") {
			port += "/tcp"
		}
		c.ExposedPorts[port] = struct{}{}
	}
	if labels := maps.Clone(s.Labels); len(labels) > 0 {
		maps.Copy(labels, c.Labels)
		maps.Copy(labels, s.Labels)
		c.Labels = labels
	}
}

// Title is the platform in words.
func (p *Packed) Title() string { return platforms.Format(p.Platform) }
