// Command mkbase turns a tar of a root file system into a base image: an OCI
// layout that a build names with --build-context NAME=oci-layout://DIR. It is
// for machines that reach no public registry.
//
//	go run ./hack/mkbase [-gzip] [-cmd sh] ROOTFS.tar DIR
//
// DIR must not exist. The bytes depend on the tar only.
package main

import (
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func main() {
	asGzip := flag.Bool("gzip", false, "compress the layer as public base images are (slow: one core)")
	cmd := flag.String("cmd", "sh", "default command of the image, split at blanks")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: mkbase [-gzip] [-cmd sh] ROOTFS.tar DIR")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), flag.Arg(1), *asGzip, strings.Fields(*cmd)); err != nil {
		fmt.Fprintln(os.Stderr, "mkbase:", err)
		os.Exit(1)
	}
}

func run(tarPath, dir string, asGzip bool, cmd []string) error {
	layer, err := layerOf(tarPath, asGzip)
	if err != nil {
		return fmt.Errorf("reading %s: %w", tarPath, err)
	}
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), layer)
	if err != nil {
		return err
	}
	platform := &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	cfg, err := img.ConfigFile()
	if err != nil {
		return err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = platform.OS, platform.Architecture
	cfg.Config.Cmd = cmd
	cfg.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		return err
	}
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)

	// A layout that is there is whole: it is written beside its place and renamed.
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s exists already: remove it first", dir)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".mkbase-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }() // gone after the rename
	path, err := layout.Write(tmp, empty.Index)
	if err != nil {
		return err
	}
	err = path.AppendImage(img, layout.WithPlatform(*platform),
		layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "latest"}))
	if err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	return os.Rename(tmp, dir)
}

func layerOf(tarPath string, asGzip bool) (v1.Layer, error) {
	if asGzip {
		return tarball.LayerFromFile(tarPath, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.DefaultCompression))
	}
	return newTarLayer(tarPath)
}

// tarLayer is a layer that is not compressed: fast to make and to unpack, for
// stages that are never shipped. go-containerregistry's own tar layers are
// always compressed.
type tarLayer struct {
	path   string
	digest v1.Hash
	size   int64
}

func newTarLayer(path string) (v1.Layer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	digest, size, err := v1.SHA256(f)
	if err != nil {
		return nil, err
	}
	return &tarLayer{path: path, digest: digest, size: size}, nil
}

func (l *tarLayer) Digest() (v1.Hash, error)             { return l.digest, nil }
func (l *tarLayer) DiffID() (v1.Hash, error)             { return l.digest, nil }
func (l *tarLayer) Size() (int64, error)                 { return l.size, nil }
func (l *tarLayer) MediaType() (types.MediaType, error)  { return types.OCIUncompressedLayer, nil }
func (l *tarLayer) Compressed() (io.ReadCloser, error)   { return os.Open(l.path) }
func (l *tarLayer) Uncompressed() (io.ReadCloser, error) { return os.Open(l.path) }
