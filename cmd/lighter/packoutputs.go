package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/daemon"
	"github.com/lighter-oci/lighter/internal/registry"
)

// delivery is one place where the image goes.
type delivery struct {
	location image.Location // the zero value is a daemon
	said     []string       // names, as they were written
	names    []string       // tags, or whole names where the place has those
	layers   engine.Layers
	insecure string // host that is spoken to without TLS
	into     string // of a daemon

	writable
	variants []codec.Compression // none leaves layers plain
	report   func(event.Event)
	copied   *image.Copied
}

// where is the place in words; of a registry the repository.
func (d *delivery) where() string {
	switch d.location.Transport {
	case "":
		return d.into
	case image.InRegistry:
		ref, _ := image.ParseReference(d.location.Ref) // which has been parsed before
		return ref.Name()
	}
	return d.location.Path
}

// deliveries reads -o, --push, --load and -t.
func (p *packCmd) deliveries() ([]delivery, error) {
	name := p.Compression
	if name == "" {
		name = defaultCompression
	}
	flags, _, err := compressions(codec.Parse, name, p.AddCompression)
	if err != nil {
		return nil, err
	}
	flags.Force = p.ForceCompression
	var req engine.Request
	for _, s := range p.Output {
		o, err := parseOutput(s)
		if err != nil {
			return nil, err
		}
		req.Outputs = append(req.Outputs, o)
	}
	if p.Push {
		pushOutput(&req)
	}
	var all []delivery
	for _, o := range req.Outputs {
		more, err := p.delivery(o, flags)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	switch {
	case p.Into != "" && !p.Load:
		return nil, errors.New("--into says where --load goes: add --load")
	case p.Load && len(p.AddCompression) > 0:
		return nil, errors.New("--add-compression: --load gives a daemon one variant, which it unpacks: drop one of the two")
	case p.Load:
		all = append(all, delivery{said: p.Tag, names: p.Tag, into: p.Into, layers: flags})
	}
	if len(all) == 0 && len(p.Tag) > 0 {
		return nil, fmt.Errorf("%s would go nowhere: add --push, --load, or -o type=oci,dest=FILE", p.Tag[0])
	}
	if len(all) == 0 {
		return nil, errors.New("the image would go nowhere: add -t REGISTRY/NAME:TAG --push, --load, or -o type=oci,dest=FILE")
	}
	return all, nil
}

// delivery is what one output comes to: a place for each repository, with all
// tags that it gets.
func (p *packCmd) delivery(o engine.Output, flags engine.Layers) ([]delivery, error) {
	layers, err := flags.With(o.Attrs)
	if err != nil {
		return nil, fmt.Errorf("output type=%s: %w", o.Type, err)
	}
	variants, err := layers.Variants()
	if err != nil {
		return nil, err
	}
	for _, c := range variants {
		if err := c.Validate(); err != nil {
			return nil, err
		}
	}
	names := p.Tag
	if o.Attrs["name"] != "" {
		names = strings.Split(o.Attrs["name"], ",")
	}
	tar, err := engine.Flag(o.Attrs, "tar", true)
	if err != nil {
		return nil, fmt.Errorf("-o type=%s: %w", o.Type, err)
	}
	d := delivery{said: names, names: names, layers: layers, variants: variants, location: image.Location{Path: o.Dest}}
	switch {
	case o.Dest == "-":
		return nil, fmt.Errorf("-o type=%s: a pack writes to files: want dest=FILE", o.Type)
	case o.Type == "image":
		return p.pushes(o, names, d)
	case o.Type == "oci" && tar:
		d.location.Transport = image.InArchive
	case o.Type == "oci":
		d.location.Transport = image.InLayout
	case o.Type == "docker" && len(layers.Added) > 0:
		return nil, errors.New("--add-compression: a docker archive holds one variant")
	case o.Type == "docker":
		d.location.Transport, d.variants = image.InDockerArchive, nil
	default:
		return nil, fmt.Errorf("-o type=%s: a pack makes an image: want type=image, oci or docker", o.Type)
	}
	if d.location.Transport != image.InDockerArchive {
		d.names = nil // a layout has tags only
		for _, name := range names {
			ref, err := image.ParseReference(name)
			if err != nil {
				return nil, err
			}
			d.names = append(d.names, ref.Tag)
		}
	}
	if len(d.names) == 0 {
		d.names = []string{""}
	}
	return []delivery{d}, nil
}

// pushes are the repositories of an image output.
func (p *packCmd) pushes(o engine.Output, names []string, d delivery) ([]delivery, error) {
	if !isTrue(o.Attrs, "push") {
		return nil, errors.New("-o type=image without push=true: a pack keeps images nowhere: add push=true, or --load")
	}
	if len(names) == 0 {
		return nil, errors.New("a push needs a name: add -t REGISTRY/NAME:TAG")
	}
	var all []delivery
	for _, name := range names {
		ref, err := image.ParseReference(name)
		if err != nil {
			return nil, err
		}
		if ref.Digest != "" {
			return nil, fmt.Errorf("-t %q: what is packed decides its digest itself: name a tag only", name)
		}
		d := d
		d.location = image.Location{Transport: image.InRegistry, Ref: ref.String()}
		d.said, d.names = []string{d.location.Short()}, []string{ref.Tag}
		if isTrue(o.Attrs, "push-by-digest") {
			d.location.Ref = ref.Name()
			d.said, d.names = []string{ref.Name()}, nil
		}
		if isTrue(o.Attrs, "registry.insecure") {
			d.insecure = ref.Host
		}
		merged := false
		for i := range all {
			if all[i].where() == d.where() {
				all[i].said, all[i].names = append(all[i].said, d.said...), append(all[i].names, ref.Tag)
				merged = true
			}
		}
		if !merged {
			all = append(all, d)
		}
	}
	return all, nil
}

// placesFor opens what deliveries name.
func placesFor(to []delivery) *places {
	var insecure []string
	for _, d := range to {
		if d.insecure != "" {
			insecure = append(insecure, d.insecure)
		}
	}
	return &places{registry.New(registry.Options{Insecure: insecure, UserAgent: "lighter/" + version()})}
}

// open makes sure that there is such a place. discard has to be called.
func (d *delivery) open(ctx context.Context, p *places) error {
	if d.location.Transport == "" {
		target, err := daemon.Detect(ctx, d.into, daemon.Options{})
		if err != nil {
			return err
		}
		d.into = target.Name()
		to, err := staged(target, "", image.Location{Transport: image.InDocker, Ref: strings.Join(d.names, ",")}, target.Name())
		if err != nil {
			return err
		}
		d.writable = *to
		d.writable.names = d.names
		return nil
	}
	to, err := p.target(ctx, d.location)
	if err != nil {
		return err
	}
	d.writable = *to
	d.writable.names = d.names
	// Who cannot be reached, or lets nobody in, says so before anything compiles.
	if repo, ok := to.Target.(*registry.Repository); ok {
		return repo.Reach(ctx)
	}
	return nil
}

// sbom reads --sbom, and without it what the project's file says, where that has
// a place.
func (p *packCmd) sbom(to []delivery, file bool) (bool, error) {
	placed := slices.ContainsFunc(to, func(d delivery) bool { return d.variants != nil })
	if p.SBOM == "" {
		return file && placed, nil
	}
	on, err := strconv.ParseBool(p.SBOM)
	if err != nil {
		return false, fmt.Errorf("--sbom %q: want true or false: a pack reads the binaries itself", p.SBOM)
	}
	if on && !placed {
		return false, errors.New("--sbom: daemons and docker archives have no place for it: add --push, or -o type=oci,dest=FILE")
	}
	return on, nil
}

// writeFiles writes --metadata-file, with the keys of docker buildx.
func (p *packCmd) writeFiles(root string, names []string) error {
	if p.MetadataFile == "" {
		return nil
	}
	raw, err := json.MarshalIndent(map[string]string{"containerimage.digest": root, "image.name": strings.Join(names, ",")}, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(p.MetadataFile, append(raw, '\n')); err != nil {
		return &fileError{"--metadata-file", p.MetadataFile, err}
	}
	return nil
}
