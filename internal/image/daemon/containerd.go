package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	versionapi "github.com/containerd/containerd/api/services/version/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/content"
	contentproxy "github.com/containerd/containerd/v2/core/content/proxy"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	leasesproxy "github.com/containerd/containerd/v2/core/leases/proxy"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/lighter-oci/lighter/internal/event"
)

// leaseLife is how long containerd keeps what a killed lighter has written.
const leaseLife = time.Hour

// cleanupTime is what is left for cleaning up after Ctrl-C.
const cleanupTime = 5 * time.Second

// containerd is a containerd that answered; it is dialled again for a load.
type containerd struct {
	socket, namespace, name string
}

func findContainerd(ctx context.Context, opts Options) (Target, error) {
	socket := strings.TrimPrefix(opts.Getenv("CONTAINERD_ADDRESS"), "unix://")
	if socket == "" {
		socket = "/run/containerd/containerd.sock"
	}
	ns := opts.Namespace
	if ns == "" {
		ns = opts.Getenv("CONTAINERD_NAMESPACE")
	}
	if ns == "" {
		ns = namespaces.Default
	}
	c, err := dialContainerd(ctx, socket, ns)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", socket, err)
	}
	defer c.close()
	v, err := versionapi.NewVersionClient(c.conn).Version(ctx, &emptypb.Empty{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", socket, plainError(err))
	}
	return &containerd{socket, ns, fmt.Sprintf("containerd %s (unix://%s, namespace %s)", v.Version, socket, ns)}, nil
}

func (c *containerd) Name() string { return c.name }

func (c *containerd) Platform() (ocispec.Platform, bool) { return ocispec.Platform{}, false }

// Load takes the whole index. It does not unpack: whoever runs the image does.
func (c *containerd) Load(ctx context.Context, src content.Provider, root ocispec.Descriptor, names []string, report func(event.Layer)) (*Loaded, error) {
	full, err := fullNames(names)
	if err != nil {
		return nil, err
	}
	if len(full) == 0 {
		return nil, &hinted{errors.New("containerd keeps no image that has no name"), "give it one with -t NAME"}
	}
	blobs, err := graph(ctx, src, root)
	if err != nil {
		return nil, err
	}
	loaded := &Loaded{Digest: root.Digest, Names: full}
	conn, err := dialContainerd(ctx, c.socket, c.namespace)
	if err == nil {
		defer conn.close()
		loaded.Sent, err = conn.load(ctx, c.name, src, root, blobs, full, report)
	}
	if err != nil && ctx.Err() != nil {
		err = ctx.Err() // which gRPC puts into its own words
	}
	return loaded.orError(c.name, err)
}

// containerdConn is a connection to one namespace of a containerd.
type containerdConn struct {
	conn      *grpc.ClientConn
	namespace string
	content   content.Store
	leases    leases.Manager
	images    imagesapi.ImagesClient
}

// dialContainerd connects to a socket that somebody listens on.
func dialContainerd(ctx context.Context, socket, namespace string) (*containerdConn, error) {
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	// gRPC dials in the background and tells of a failure late and at length.
	probe, err := dial(ctx, "")
	if err != nil {
		return nil, err
	}
	probe.Close()
	conn, err := grpc.NewClient("passthrough:///containerd", grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return &containerdConn{
		conn:      conn,
		namespace: namespace,
		content:   contentproxy.NewContentStore(contentapi.NewContentClient(conn)),
		leases:    leasesproxy.NewLeaseManager(leasesapi.NewLeasesClient(conn)),
		images:    imagesapi.NewImagesClient(conn),
	}, nil
}

func (c *containerdConn) close() { c.conn.Close() }

// lease returns a context in which nothing that is read or written is garbage
// collected before release is called.
func (c *containerdConn) lease(ctx context.Context) (held context.Context, release func(), err error) {
	ctx = namespaces.WithNamespace(ctx, c.namespace)
	l, err := c.leases.Create(ctx, leases.WithRandomID(), leases.WithExpiration(leaseLife))
	if err != nil {
		return nil, nil, fmt.Errorf("create lease: %w", plainError(err))
	}
	return leases.WithLease(ctx, l.ID), func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
		defer cancel()
		_ = c.leases.Delete(ctx, l) // it expires
	}, nil
}

// load writes the blobs that are missing, children first, then the names.
func (c *containerdConn) load(ctx context.Context, where string, src content.Provider, root ocispec.Descriptor, blobs []blob, names []string, report func(event.Layer)) (int64, error) {
	ctx, release, err := c.lease(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	var sent int64
	for _, b := range blobs {
		e, n, err := c.put(ctx, src, b, where)
		sent += n
		if err != nil {
			return sent, err
		}
		if b.layer && report != nil {
			report(e)
		}
	}
	// Garbage collection goes from names along these labels. A parent that was
	// there before may have been without its children.
	children := func(_ context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		i := slices.IndexFunc(blobs, func(b blob) bool { return b.desc.Digest == desc.Digest })
		return blobs[i].children, nil
	}
	label := images.SetChildrenLabels(c.content, children)
	for _, b := range blobs {
		if len(b.children) == 0 {
			continue
		}
		if _, err := label(ctx, b.desc); err != nil {
			return sent, fmt.Errorf("label %s: %w", b.desc.Digest, plainError(err))
		}
	}
	for _, name := range names {
		if err := c.name(ctx, name, root); err != nil {
			return sent, fmt.Errorf("name %s: %w", name, plainError(err))
		}
	}
	return sent, nil
}

// held are the layers that the namespace has and, from now on, keeps as long
// as ctx's lease.
func (c *containerdConn) held(ctx context.Context, blobs []blob) map[digest.Digest]bool {
	has := map[digest.Digest]bool{}
	for _, b := range blobs {
		if b.layer && c.hold(ctx, b.desc) {
			has[b.desc.Digest] = true
		}
	}
	return has
}

// hold leases the blob first and looks second, so that it cannot go between.
func (c *containerdConn) hold(ctx context.Context, desc ocispec.Descriptor) bool {
	id, _ := leases.FromContext(ctx)
	err := c.leases.AddResource(ctx, leases.Lease{ID: id}, leases.Resource{ID: desc.Digest.String(), Type: "content"})
	if err != nil {
		return false
	}
	info, err := c.content.Info(ctx, desc.Digest)
	return err == nil && info.Size == desc.Size
}

// put writes one blob, unless this or another namespace has it.
func (c *containerdConn) put(ctx context.Context, src content.Provider, b blob, where string) (event.Layer, int64, error) {
	exists := layerEvent(event.LayerExists, b, nil, where)
	if c.hold(ctx, b.desc) {
		return exists, 0, nil
	}
	ra, err := src.ReaderAt(ctx, b.desc)
	if err != nil {
		return exists, 0, &sourceError{b.desc.Digest, err}
	}
	defer ra.Close()
	ref := "lighter-" + b.desc.Digest.String()
	w, err := content.OpenWriter(ctx, c.content, content.WithRef(ref), content.WithDescriptor(b.desc))
	if errdefs.IsAlreadyExists(err) {
		return exists, 0, nil
	}
	if err != nil {
		return exists, 0, fmt.Errorf("write %s: %w", b.desc.Digest, plainError(err))
	}
	started := time.Now()
	n, err := c.copy(ctx, w, ra, b.desc)
	w.Close()
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
		defer cancel()
		_ = c.content.Abort(ctx, ref) // goes with the lease otherwise
		return exists, n, err
	}
	if n == 0 && b.desc.Size > 0 {
		return exists, 0, nil // another namespace has it, and the offset to write from was its end
	}
	loaded := layerEvent(event.LayerLoaded, b, ra, where)
	loaded.Took = time.Since(started)
	return loaded, n, nil
}

func (c *containerdConn) copy(ctx context.Context, w content.Writer, ra content.ReaderAt, desc ocispec.Descriptor) (int64, error) {
	r := &sourceReader{ctx: ctx, SectionReader: io.NewSectionReader(ra, 0, ra.Size())}
	err := content.Copy(ctx, w, r, desc.Size, desc.Digest)
	switch {
	case errdefs.IsAlreadyExists(err):
		err = nil
	case r.err != nil:
		err = &sourceError{desc.Digest, r.err}
	case err != nil:
		err = fmt.Errorf("write %s: %w", desc.Digest, plainError(err))
	}
	return r.n, err
}

// name makes name stand for root.
func (c *containerdConn) name(ctx context.Context, name string, root ocispec.Descriptor) error {
	img := &imagesapi.Image{Name: name, Target: &types.Descriptor{
		MediaType: root.MediaType, Digest: root.Digest.String(), Size: root.Size, Annotations: maps.Clone(root.Annotations)}}
	_, err := c.images.Create(ctx, &imagesapi.CreateImageRequest{Image: img})
	if errdefs.IsAlreadyExists(errgrpc.ToNative(err)) {
		_, err = c.images.Update(ctx, &imagesapi.UpdateImageRequest{Image: img, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"target"}}})
	}
	return err
}

// plainError is a gRPC error without its wrapping.
func plainError(err error) error {
	return errors.New(oneLine(errgrpc.ToNative(err).Error()))
}

// sourceReader reads until ctx ends, and tells its own errors from those of
// whom it is copied to. It can seek, to where an earlier write has stopped.
type sourceReader struct {
	*io.SectionReader
	ctx context.Context
	n   int64
	err error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.SectionReader.Read(p)
	s.n += int64(n)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}
