package buildkit

import (
	"context"
	"net/http"
	"reflect"
	"regexp"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/util/progress"
	"github.com/moby/buildkit/util/resolver"
	"github.com/moby/buildkit/util/resolver/config"
	"google.golang.org/grpc"

	"github.com/lighter-oci/lighter/internal/event"
)

// registries is what the last build found configured of registries.
type registries struct {
	read func() (map[string]config.RegistryConfig, error)

	mu    sync.Mutex
	found map[string]config.RegistryConfig
	hosts docker.RegistryHosts
}

func newRegistries(read func() (map[string]config.RegistryConfig, error)) *registries {
	return &registries{read: read, hosts: resolver.NewRegistryConfig(nil)}
}

// of implements docker.RegistryHosts.
func (r *registries) of(host string) ([]docker.RegistryHost, error) {
	r.mu.Lock()
	hosts := r.hosts
	r.mu.Unlock()
	return hosts(host)
}

// unary reads the configuration before a build. Where it is another than
// before, BuildKit forgets what it knows of registries.
func (r *registries) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if info.FullMethod == controlapi.Control_Solve_FullMethodName && r.read != nil {
		found, err := r.read()
		if err != nil {
			return nil, err
		}
		r.mu.Lock()
		if !reflect.DeepEqual(found, r.found) {
			r.found, r.hosts = found, resolver.NewRegistryConfig(found)
			resolver.DefaultPool.Clear()
		}
		r.mu.Unlock()
	}
	return handle(ctx, req)
}

// wayThrough is the way to registries through lighter's transports: what becomes
// of each pushed blob is reported (pushWatcher), a manifest that was refused for a
// blob on its way is sent again (manifestTransport), and no registry is asked too
// often or waited for without end (patientTransport).
func wayThrough(hosts docker.RegistryHosts, stall time.Duration) docker.RegistryHosts {
	if stall == 0 {
		stall = defaultStall
	}
	limits := &rateLimits{}
	return func(name string) ([]docker.RegistryHost, error) {
		found, err := hosts(name)
		if err != nil {
			return nil, err
		}
		for i := range found {
			client := http.DefaultClient
			if found[i].Client != nil {
				client = found[i].Client
			}
			through := *client
			next := through.Transport
			if next == nil {
				next = http.DefaultTransport
			}
			patient := &patientTransport{next: next, limits: limits, stall: stall}
			through.Transport = &pushWatcher{next: &manifestTransport{next: patient, waits: manifestWaits}}
			found[i].Client = &through
		}
		return found, nil
	}
}

// pushWatcher is a transport that reads the distribution API's requests as they
// pass. It changes none of them.
type pushWatcher struct{ next http.RoundTripper }

var (
	blobPath   = regexp.MustCompile(`^/v2/(.+)/blobs/(sha256:[0-9a-f]{64})$`)
	uploadPath = regexp.MustCompile(`^/v2/(.+)/blobs/uploads/`)
)

func (w *pushWatcher) RoundTrip(req *http.Request) (*http.Response, error) {
	started := time.Now()
	resp, err := w.next.RoundTrip(req)
	if err != nil {
		return resp, err
	}
	if l := pushedLayer(req, resp); l != nil {
		if pw, ok, _ := progress.NewFromContext(req.Context()); ok {
			writeLayerStatus(pw, *l, started, time.Now())
			pw.Close()
		}
	}
	return resp, nil
}

// pushedLayer tells what a request did to a blob, nil where it ended nothing:
// a HEAD that finds it, a POST that mounts it, a PUT that completes it.
func pushedLayer(req *http.Request, resp *http.Response) *event.Layer {
	switch {
	case req.Method == http.MethodHead && resp.StatusCode == http.StatusOK:
		if m := blobPath.FindStringSubmatch(req.URL.Path); m != nil {
			return &event.Layer{Action: event.LayerExists, Digest: m[2], Where: req.URL.Host + "/" + m[1], Out: resp.ContentLength}
		}
	case req.Method == http.MethodPost && resp.StatusCode == http.StatusCreated:
		if m := uploadPath.FindStringSubmatch(req.URL.Path); m != nil && req.URL.Query().Get("mount") != "" {
			return &event.Layer{Action: event.LayerMounted, Digest: req.URL.Query().Get("mount"), Where: req.URL.Host + "/" + m[1]}
		}
	case req.Method == http.MethodPut && resp.StatusCode/100 == 2: // not all registries answer 201
		if m := uploadPath.FindStringSubmatch(req.URL.Path); m != nil && req.URL.Query().Get("digest") != "" {
			return &event.Layer{Action: event.LayerPushed, Digest: req.URL.Query().Get("digest"), Where: req.URL.Host + "/" + m[1], Out: max(req.ContentLength, 0)}
		}
	}
	return nil
}
