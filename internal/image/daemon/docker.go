package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/event"
)

// zstdAPI is the version of Docker's API since which `docker load` reads zstd:
// that of Docker 23. Docker 20.10 answers "archive/tar: invalid tar header".
const zstdAPI = "1.42"

// docker speaks Docker's API: to Docker, or to a podman that offers it.
type docker struct {
	http  *http.Client
	base  string // URL that paths are appended to
	name  string
	kind  store
	zstd  bool // layers may be zstd
	pool  *codec.Pool
	runs  ocispec.Platform
	below containerdInfo // where kind is storeContainerd
}

// store is how the daemon keeps layers, which decides what may be left out.
type store int

const (
	storeClassic    store = iota // Docker's own: unpacked layers, by chainID
	storeContainerd              // Docker on containerd's: blobs, by digest
	storePodman                  // containers/storage: unpacked layers that remember the digest of their blob
)

// containerdInfo is Docker's word on the containerd below it.
type containerdInfo struct {
	Address    string
	Namespaces struct{ Containers string }
}

func findDocker(ctx context.Context, opts Options) (Target, error) {
	places, err := dockerEndpoints(opts)
	if err != nil {
		return nil, err
	}
	var failed []string
	for _, e := range places {
		t, err := dialDocker(ctx, e, opts)
		if err == nil {
			return t, nil
		}
		failed = append(failed, e.host+": "+err.Error())
	}
	return nil, errors.New(strings.Join(failed, ", "))
}

// dialDocker asks the daemon at e what it is.
func dialDocker(ctx context.Context, e endpoint, opts Options) (*docker, error) {
	client, base, err := e.client()
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	d := &docker{http: client, base: base, pool: opts.Pool}
	var version struct {
		Version, APIVersion, Os, Arch string
		Components                    []struct{ Name, Version string }
	}
	if err := d.get(ctx, "/version", &version); err != nil {
		return nil, err
	}
	d.base += "/v" + version.APIVersion
	d.runs = ocispec.Platform{OS: version.Os, Architecture: version.Arch}
	d.zstd = !olderAPI(version.APIVersion, zstdAPI)
	d.name = fmt.Sprintf("docker %s (%s)", version.Version, e.host)
	for _, c := range version.Components {
		if c.Name == "Podman Engine" {
			d.name = fmt.Sprintf("podman %s (%s)", c.Version, e.host)
			d.kind, d.zstd = storePodman, true
			return d, nil
		}
	}
	var info struct {
		DriverStatus [][2]string
		Containerd   containerdInfo
	}
	if err := d.get(ctx, "/info", &info); err != nil {
		return nil, err
	}
	if slices.Contains(info.DriverStatus, [2]string{"driver-type", "io.containerd.snapshotter.v1"}) {
		d.kind, d.below = storeContainerd, info.Containerd
	}
	return d, nil
}

// olderAPI tells whether version a of Docker's API came before b.
func olderAPI(a, b string) bool {
	part := func(s string) (int, int) {
		major, minor, _ := strings.Cut(s, ".")
		x, _ := strconv.Atoi(major) // a version that is no number is an old one
		y, _ := strconv.Atoi(minor)
		return x, y
	}
	ax, ay := part(a)
	bx, by := part(b)
	return ax < bx || ax == bx && ay < by
}

func (d *docker) Name() string { return d.name }

func (d *docker) Platform() (ocispec.Platform, bool) { return d.runs, d.kind != storeContainerd }

func (d *docker) Load(ctx context.Context, src content.Provider, root ocispec.Descriptor, names []string, report func(event.Layer)) (*Loaded, error) {
	defer d.http.CloseIdleConnections()
	full, err := fullNames(names)
	if err != nil {
		return nil, err
	}
	a := &archive{src: src, where: d.name, report: report, pool: d.pool, plain: !d.zstd}
	if a.plain && a.pool == nil {
		a.pool = codec.NewPool(0)
		defer a.pool.Close()
	}
	loaded := &Loaded{Digest: root.Digest, Names: full}
	var load func(context.Context, *archive, *choice, []string) (int64, error)
	switch d.kind {
	case storeContainerd:
		loaded.Sent, err = d.loadGraph(ctx, a, root, full)
		return loaded.orError(d.name, err)
	case storePodman:
		load = d.loadPodman
	default:
		load = d.loadClassic
	}
	c, err := choose(ctx, src, root, d.runs)
	if err != nil {
		return nil, err
	}
	loaded.Digest, loaded.Platform, loaded.Left = c.desc.Digest, c.platform, c.left
	loaded.Sent, err = load(ctx, a, c, full)
	loaded.Decoded = a.decoded
	return loaded.orError(d.name, err)
}

// orError is what Load returns.
func (l *Loaded) orError(where string, err error) (*Loaded, error) {
	if err != nil {
		return nil, fmt.Errorf("load into %s: %w", where, err)
	}
	return l, nil
}

// loadClassic leaves out the layers that Docker has unpacked on top of the
// same layers.
func (d *docker) loadClassic(ctx context.Context, a *archive, c *choice, names []string) (int64, error) {
	img, err := readImage(ctx, a.src, c.desc)
	if err != nil {
		return 0, err
	}
	if a.files, err = dockerArchive(img, names); err != nil {
		return 0, err
	}
	images, err := d.images(ctx)
	if err != nil {
		return 0, err
	}
	return a.load(ctx, hasChains(img, images), d.send)
}

// loadPodman leaves out the layers whose content podman has. It knows a layer
// again by the digest of its blob, which the API does not tell, so this is a
// guess that fails where the same tar came in another compression; podman then
// names the missing blob and all are sent.
func (d *docker) loadPodman(ctx context.Context, a *archive, c *choice, names []string) (int64, error) {
	blobs, err := graph(ctx, a.src, c.desc)
	if err != nil {
		return 0, err
	}
	if a.files, err = ociArchive(blobs, c.desc, names[:min(1, len(names))]); err != nil {
		return 0, err
	}
	images, err := d.images(ctx)
	if err != nil {
		return 0, err
	}
	sent, err := a.load(ctx, hasDiffIDs(blobs, images), d.send)
	for _, name := range names[min(1, len(names)):] {
		if err == nil {
			err = d.tag(ctx, names[0], name)
		}
	}
	return sent, err
}

// loadGraph loads the whole index into a Docker that keeps blobs. It leaves
// out what the containerd below it has, where we may ask that one. Guessing is
// no way here: Docker would take an image with a hole for a partial one. Nor
// does it mind bytes that are not the digest's: it names the image, fails to
// unpack it and says that all is well (28.5.2).
func (d *docker) loadGraph(ctx context.Context, a *archive, root ocispec.Descriptor, names []string) (int64, error) {
	a.verify = true
	blobs, err := graph(ctx, a.src, root)
	if err != nil {
		return 0, err
	}
	if a.files, err = ociArchive(blobs, root, names); err != nil {
		return 0, err
	}
	has := map[digest.Digest]bool{}
	if c, err := dialContainerd(ctx, d.below.Address, d.below.Namespaces.Containers); err == nil {
		defer c.close()
		held, release, err := c.lease(ctx)
		if err == nil {
			defer release()
			has = c.held(held, blobs)
		}
	}
	return a.load(ctx, has, d.send)
}

// hasChains are the layers of img that one of the images has with all layers
// below. A blob that is in img twice counts where both are there.
func hasChains(img *loadable, images [][]digest.Digest) map[digest.Digest]bool {
	known := map[digest.Digest]bool{}
	for _, diffIDs := range images {
		for _, chain := range identity.ChainIDs(slices.Clone(diffIDs)) {
			known[chain] = true
		}
	}
	has := map[digest.Digest]bool{}
	for i, l := range img.layers {
		if d := l.desc.Digest; known[img.chains[i]] {
			has[d] = true
		}
	}
	for i, l := range img.layers {
		if !known[img.chains[i]] {
			delete(has, l.desc.Digest)
		}
	}
	return has
}

// hasDiffIDs are the layers whose tar is in one of the images.
func hasDiffIDs(blobs []blob, images [][]digest.Digest) map[digest.Digest]bool {
	known := map[digest.Digest]bool{}
	for _, diffIDs := range images {
		for _, d := range diffIDs {
			known[d] = true
		}
	}
	has := map[digest.Digest]bool{}
	for _, b := range blobs {
		if b.layer && known[b.diffID] {
			has[b.desc.Digest] = true
		}
	}
	return has
}

// images are the diffIDs of every image that the daemon has.
func (d *docker) images(ctx context.Context) ([][]digest.Digest, error) {
	var list []struct{ ID string }
	if err := d.get(ctx, "/images/json?all=1", &list); err != nil {
		return nil, err
	}
	images := make([][]digest.Digest, len(list))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxConns)
	for i, img := range list {
		g.Go(func() error {
			var got struct {
				RootFS struct{ Layers []digest.Digest }
			}
			err := d.get(ctx, "/images/"+url.PathEscape(img.ID)+"/json", &got)
			images[i] = got.RootFS.Layers
			var status *statusError
			if errors.As(err, &status) {
				return nil // removed since it was listed, or broken: its layers are not counted on
			}
			return err
		})
	}
	return images, g.Wait()
}
