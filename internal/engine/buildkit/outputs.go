package buildkit

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"

	"github.com/lighter-oci/lighter/internal/engine"
)

// outputs are the ways out of one build. What goes into a file or a directory
// is written beside it and takes its name only when the build has succeeded.
type outputs struct {
	cleanup func()
	mu      sync.Mutex // exporters ask for their files at the same time
	pending []pending
}

// add translates the requested outputs.
func (o *outputs) add(req engine.Request, opt *client.SolveOpt) error {
	for _, out := range req.Outputs {
		entry, err := o.export(req, out)
		if err != nil {
			return err
		}
		opt.Exports = append(opt.Exports, entry)
	}
	return nil
}

func (o *outputs) export(req engine.Request, out engine.Output) (client.ExportEntry, error) {
	entry := client.ExportEntry{Type: out.Type, Attrs: maps.Clone(out.Attrs)}
	if entry.Attrs == nil {
		entry.Attrs = map[string]string{}
	}
	if err := checkOutputKeys(out.Type, out.Attrs); err != nil {
		return entry, err
	}
	setVariants(entry.Attrs, req.AddCompression)
	if err := checkVariants(out.Type, entry.Attrs); err != nil {
		return entry, err
	}
	switch out.Type {
	case client.ExporterImage, client.ExporterOCI, client.ExporterDocker:
		if err := setCompression(entry.Attrs, engine.Layers{Compression: req.Compression, Force: req.Force}); err != nil {
			return entry, err
		}
		if err := addAnnotations(req.Annotations, entry.Attrs); err != nil {
			return entry, err
		}
		// The engine would say the same, but only after five seconds in which
		// the client waits for a build that never starts.
		if _, _, err := parseLayerAttrs(entry.Attrs); err != nil {
			return entry, fmt.Errorf("output type=%s: %w", out.Type, err)
		}
	}
	switch out.Type {
	case client.ExporterImage:
		return entry, nil
	case client.ExporterLocal:
		if out.Dest == "" {
			return entry, errors.New("output type=local needs dest=DIRECTORY")
		}
		if info, err := os.Stat(out.Dest); err == nil && !info.IsDir() {
			return entry, &hintError{
				err:  fmt.Errorf("output dest=%s is a file, and type=local writes a directory", out.Dest),
				hint: "write -o type=tar,dest=FILE, or name a directory",
			}
		}
		return entry, o.local(&entry, out.Dest)
	case client.ExporterOCI, client.ExporterDocker:
		if asTar, err := strconv.ParseBool(cmp.Or(entry.Attrs[attrTar], "true")); err == nil && !asTar {
			if out.Dest == "" {
				return entry, fmt.Errorf("output type=%s,tar=false needs dest=DIRECTORY", out.Type)
			}
			entry.OutputDir = out.Dest
			o.pending = append(o.pending, newPendingLayout(out.Dest))
			return entry, nil
		}
	case client.ExporterTar:
	default:
		return entry, fmt.Errorf("output type %q: want image, oci, docker, local or tar", out.Type)
	}
	if out.File != nil {
		entry.Output = out.File
		return entry, nil
	}
	file, err := o.file(out)
	entry.Output = file
	return entry, err
}

// local receives a tree of files. One that shall replace what is in its
// destination, file by file, has to be received there.
func (o *outputs) local(entry *client.ExportEntry, dest string) error {
	entry.OutputDir = dest
	if entry.Attrs["mode"] == string(client.LocalExporterModeDelete) {
		return nil
	}
	dir := newPendingDir(dest)
	if err := dir.try(); err != nil {
		return fmt.Errorf("output dest=%s: %w", dest, err)
	}
	entry.OutputDir = dir.stage
	o.pending = append(o.pending, dir)
	return nil
}

// file opens the destination of a type that writes one stream.
func (o *outputs) file(out engine.Output) (func(map[string]string) (io.WriteCloser, error), error) {
	if out.Dest == "" || out.Dest == "-" {
		return nil, fmt.Errorf("output type=%s needs dest=FILE", out.Type)
	}
	info, err := os.Stat(out.Dest)
	switch {
	case err == nil && info.IsDir():
		return nil, fmt.Errorf("output dest=%s is a directory: name a file, or add tar=false", out.Dest)
	case err == nil && !info.Mode().IsRegular(): // /dev/null, a FIFO: there to be written to, not to be replaced
		return func(map[string]string) (io.WriteCloser, error) {
			return os.OpenFile(out.Dest, os.O_WRONLY, 0)
		}, nil
	}
	if err := os.MkdirAll(filepath.Dir(out.Dest), 0o755); err != nil {
		return nil, fmt.Errorf("output: %w", err)
	}
	return func(map[string]string) (io.WriteCloser, error) {
		f, err := createPending(out.Dest)
		if err != nil {
			return nil, err
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.pending = slices.DeleteFunc(o.pending, func(p pending) bool { // a build that began anew
			old, ok := p.(*pendingFile)
			again := ok && old.dest == f.dest
			if again {
				old.abort()
			}
			return again
		})
		o.pending = append(o.pending, f)
		return f, nil
	}, nil
}

// commit gives the finished files their names.
func (o *outputs) commit() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.pending) > 0 {
		if err := o.pending[0].commit(); err != nil {
			return err
		}
		o.pending = o.pending[1:]
	}
	return nil
}

// abort removes what was not committed, and the temporary inputs.
func (o *outputs) abort() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, f := range o.pending {
		f.abort()
	}
	o.pending = nil
	o.cleanup()
}

// addAnnotations turns [TYPE[PLATFORM],…:]KEY=VALUE into exporter attributes.
func addAnnotations(in []string, attrs map[string]string) error {
	for _, a := range in {
		name, value, ok := strings.Cut(a, "=")
		if !ok {
			return fmt.Errorf("--annotation %q: want [TYPE:]KEY=VALUE", a)
		}
		kinds, key, typed := strings.Cut(name, ":")
		if !typed {
			kinds, key = exptypes.AnnotationManifest, name
		}
		for kind := range strings.SplitSeq(kinds, ",") {
			k, err := annotationKey(kind, key)
			if err != nil {
				return fmt.Errorf("--annotation %q: %w", a, err)
			}
			attrs[k.String()] = value
		}
	}
	return nil
}

func annotationKey(kind, key string) (exptypes.AnnotationKey, error) {
	base, platform, has := strings.Cut(strings.TrimSuffix(kind, "]"), "[")
	out := exptypes.AnnotationKey{Type: base, Key: key}
	switch base {
	case exptypes.AnnotationManifest, exptypes.AnnotationManifestDescriptor,
		exptypes.AnnotationIndex, exptypes.AnnotationIndexDescriptor:
	default:
		return out, fmt.Errorf("unknown type %q: want manifest, index, manifest-descriptor or index-descriptor", base)
	}
	if has {
		p, err := platforms.Parse(platform)
		if err != nil {
			return out, err
		}
		out.Platform = &p
	}
	return out, nil
}
