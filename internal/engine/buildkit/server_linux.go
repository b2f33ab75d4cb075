package buildkit

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/defaults"
	"github.com/moby/buildkit/cache/remotecache"
	"github.com/moby/buildkit/cache/remotecache/azblob"
	"github.com/moby/buildkit/cache/remotecache/gha"
	inlineremotecache "github.com/moby/buildkit/cache/remotecache/inline"
	localremotecache "github.com/moby/buildkit/cache/remotecache/local"
	registryremotecache "github.com/moby/buildkit/cache/remotecache/registry"
	s3remotecache "github.com/moby/buildkit/cache/remotecache/s3"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/frontend"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	dockerfileversion "github.com/moby/buildkit/frontend/dockerfile/version"
	"github.com/moby/buildkit/frontend/gateway"
	"github.com/moby/buildkit/frontend/gateway/forwarder"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/bboltcachestorage"
	"github.com/moby/buildkit/util/db/boltutil"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/moby/buildkit/util/tracing"
	"github.com/moby/buildkit/util/tracing/detect"
	"github.com/moby/buildkit/version"
	"github.com/moby/buildkit/worker"
	"github.com/sirupsen/logrus"
	bolt "go.etcd.io/bbolt"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
)

// Server is the embedded engine: BuildKit's controller on one worker.
type Server struct {
	grpc       *grpc.Server
	controller *control.Controller
	pool       *codec.Pool
	room       *reserve
	stopping   context.CancelFunc
}

// NewServer opens the state directory, which nothing else may have open: bolt
// waits for its lock without end, and BuildKit's executor cleans up the files
// of a live one. The caller holds the state's lock.
func NewServer(cfg Config) (_ *Server, err error) {
	if err := prepareProcess(cfg); err != nil {
		return nil, err
	}
	sessions, err := session.NewManager()
	if err != nil {
		return nil, err
	}
	pool := codec.NewPool(cfg.Workers)
	defer func() {
		if err != nil {
			pool.Close()
		}
	}()
	configured := newRegistries(cfg.Registries)
	hosts := wayThrough(configured.of, cfg.RegistryTimeout)
	room := openReserve(cfg.State)
	defer func() {
		if err != nil {
			room.close()
		}
	}()
	w, err := newWorker(cfg, pool, hosts, room)
	if err != nil {
		return nil, fmt.Errorf("open engine state %s: %w", cfg.State, err)
	}
	stopping, stop := context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			stop()
		}
	}()
	ctl, err := newController(stopping, cfg, sessions, w, hosts, pool)
	if err != nil {
		return nil, fmt.Errorf("open engine state %s: %w", cfg.State, err)
	}
	s := &Server{grpc: newGRPC(room, configured), controller: ctl, pool: pool, room: room, stopping: stop}
	healthv1.RegisterHealthServer(s.grpc, health.NewServer())
	ctl.Register(s.grpc)
	if cfg.Mounts != nil {
		w.mounts.register(s.grpc)
	}
	reflection.Register(s.grpc)
	return s, nil
}

// Serve answers on l until Stop.
func (s *Server) Serve(l net.Listener) error { return s.grpc.Serve(l) }

// Stop ends the server after the builds that run, or at once when ctx ends.
func (s *Server) Stop(ctx context.Context) error {
	s.stopping() // ends listeners to the history, which would be waited for
	done := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
	}
	err := s.controller.Close()
	s.pool.Close()
	s.room.close()
	return err
}

var processOnce sync.Once // BuildKit keeps these settings in globals of its own

// prepareProcess sets what BuildKit reads from process-wide places.
func prepareProcess(cfg Config) error {
	level := logrus.WarnLevel
	if cfg.LogLevel != "" {
		l, err := logrus.ParseLevel(cfg.LogLevel)
		if err != nil {
			return fmt.Errorf("log level %q: %w", cfg.LogLevel, err)
		}
		level = l
	}
	logrus.SetLevel(level)
	processOnce.Do(func() {
		// Build history stores traces through this recorder and fails without.
		detect.Recorder = detect.NewTraceRecorder()
		// BuildKit's cache then asks the worker's differ, which is lighter's
		// (moby/buildkit cache/blobs.go, computeBlobChain).
		os.Setenv("BUILDKIT_DEBUG_FORCE_OVERLAY_DIFF", "false")
		// Its release process stamps the daemon with the linker; clients and
		// provenance ask for it.
		version.Version = Version
	})
	return os.MkdirAll(cfg.State, 0o700)
}

func newGRPC(room *reserve, configured *registries) *grpc.Server {
	tp := sdktrace.NewTracerProvider(sdktrace.WithResource(detect.Resource()), sdktrace.WithSyncer(detect.Recorder))
	return grpc.NewServer(
		grpc.StatsHandler(tracing.ServerStatsHandler(otelgrpc.WithTracerProvider(tp))),
		grpc.ChainUnaryInterceptor(grpcerrors.UnaryServerInterceptor, configured.unary, room.unary),
		grpc.ChainStreamInterceptor(grpcerrors.StreamServerInterceptor, room.stream),
		grpc.MaxRecvMsgSize(defaults.DefaultMaxRecvMsgSize),
		grpc.MaxSendMsgSize(defaults.DefaultMaxSendMsgSize),
	)
}

func newController(stopping context.Context, cfg Config, sessions *session.Manager, w *layerWorker, hosts docker.RegistryHosts, pool *codec.Pool) (*control.Controller, error) {
	workers := &worker.Controller{}
	if err := workers.Add(w); err != nil {
		return nil, err
	}
	gw, err := gateway.NewGatewayFrontend(workers.Infos(), nil)
	if err != nil {
		return nil, err
	}
	cacheDB, err := bboltcachestorage.NewStore(filepath.Join(cfg.State, "cache.db"))
	if err != nil {
		return nil, err
	}
	historyDB, err := boltutil.SafeOpen(filepath.Join(cfg.State, "history.db"), 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	exporters := map[string]remotecache.ResolveCacheExporterFunc{
		"registry": registryremotecache.ResolveCacheExporterFunc(sessions, hosts),
		"local":    localremotecache.ResolveCacheExporterFunc(sessions),
		"inline":   inlineremotecache.ResolveCacheExporterFunc(),
		"gha":      gha.ResolveCacheExporterFunc(nil, nil),
		"s3":       s3remotecache.ResolveCacheExporterFunc(),
		"azblob":   azblob.ResolveCacheExporterFunc(),
	}
	for name, resolve := range exporters {
		if name != "inline" { // it takes its codec from the image export
			exporters[name] = layerCacheExporter(pool, resolve)
		}
	}
	own := forwarder.NewGatewayForwarder(workers.Infos(), dockerfile.Build)
	return control.NewController(control.Opt{
		SessionManager:   sessions,
		WorkerController: workers,
		Frontends: map[string]frontend.Frontend{
			"dockerfile.v0": clearedMounts{own, w.mounts},
			"gateway.v0":    clearedMounts{builtinSyntax{Frontend: gw, dockerfile: own, version: dockerfileversion.Version()}, w.mounts},
		},
		ResolveCacheExporterFuncs: exporters,
		ResolveCacheImporterFuncs: map[string]remotecache.ResolveCacheImporterFunc{
			"registry": hastyImporter(engine.CacheAnswer, registryremotecache.ResolveCacheImporterFunc(sessions, w.ContentStore(), hosts)),
			"local":    localremotecache.ResolveCacheImporterFunc(sessions),
			"gha":      gha.ResolveCacheImporterFunc(nil, nil),
			"s3":       s3remotecache.ResolveCacheImporterFunc(),
			"azblob":   azblob.ResolveCacheImporterFunc(),
		},
		CacheManager:   solver.NewCacheManager(context.Background(), "local", cacheDB, worker.NewCacheResultStorage(workers)),
		Entitlements:   []string{"network.host", "security.insecure", "device"},
		TraceCollector: detect.Recorder,
		MeterProvider:  sdkmetric.NewMeterProvider(),
		HistoryDB:      historyDB,
		CacheStore:     cacheDB,
		LeaseManager:   w.LeaseManager(),
		ContentStore:   w.ContentStore(),
		GarbageCollect: w.GarbageCollect,
		GracefulStop:   stopping.Done(),
	})
}
