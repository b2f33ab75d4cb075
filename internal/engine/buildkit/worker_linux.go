package buildkit

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	ctdsnapshot "github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/snapshots/native"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay/overlayutils"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/cmd/buildkitd/config"
	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/executor/oci"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	dockerfileversion "github.com/moby/buildkit/frontend/dockerfile/version"
	"github.com/moby/buildkit/util/disk"
	"github.com/moby/buildkit/util/network/netproviders"
	"github.com/moby/buildkit/version"
	"github.com/moby/buildkit/worker/base"
	"github.com/moby/buildkit/worker/runc"
	"github.com/moby/sys/userns"

	"github.com/lighter-oci/lighter/internal/codec"
)

// newWorker makes BuildKit's OCI worker with lighter's differ and exporters.
func newWorker(cfg Config, pool *codec.Pool, hosts docker.RegistryHosts, room *reserve) (*layerWorker, error) {
	rootless := userns.RunningInUserNS() || os.Geteuid() != 0
	net := netproviders.Opt{Mode: "auto"}
	if rootless {
		net.Mode = "host" // no right to make bridges
	}
	binary, missing := findRunc()
	runcPath := binary
	if missing {
		runcPath = ""
	}
	if err := putAway(context.Background(), cfg.State, runcPath); err != nil {
		return nil, err
	}
	labels := map[string]string{labelVariants: "true"}
	if cfg.Mounts != nil {
		labels[labelMounts] = "true"
	}
	opt, err := runc.NewWorkerOpt(cfg.State, snapshotter(cfg.State), rootless, oci.ProcessSandbox,
		labels, nil, net, nil, binary, "", false, nil, "", "", nil)
	if err != nil {
		return nil, err
	}
	if missing {
		opt.Executor = noRunc{}
	}
	opt.Executor = thriftyExecutor{opt.Executor, room}
	opt.GCPolicy = gcPolicy(cfg)
	opt.RegistryHosts = hosts
	opt.BuildkitVersion = client.BuildkitVersion{
		Package: version.Package, Version: version.Version, Revision: version.Revision,
		DockerfileVersion: dockerfileversion.Version(),
	}
	differ := newDiffer(opt.ContentStore, opt.Differ)
	differ.Failed = room.failed
	differ.Ingest = filepath.Join(opt.Root, "content", "ingest")
	opt.Differ = differ
	w, err := base.NewWorker(context.Background(), opt)
	if err != nil {
		return nil, err
	}
	travel := &mountTravel{cache: w.CacheMgr, records: filepath.Join(cfg.State, "mounts")}
	if cfg.Mounts != nil {
		travel.agent = cfg.Mounts(pool)
	}
	if err := os.MkdirAll(travel.records, 0o700); err != nil {
		return nil, err
	}
	w.Platforms(true) // adds what binfmt_misc can run
	return &layerWorker{Worker: w, pool: pool, differ: differ, mounts: travel}, nil
}

const overlaySnapshotter = "overlayfs"

// snapshotter is overlayfs where the kernel and the file system allow it; the
// native one copies every layer whole, about six times slower.
func snapshotter(state string) runc.SnapshotterFactory {
	if err := overlayutils.Supported(state); err != nil {
		return runc.SnapshotterFactory{Name: "native", New: native.NewSnapshotter}
	}
	return runc.SnapshotterFactory{Name: overlaySnapshotter, New: func(root string) (ctdsnapshot.Snapshotter, error) {
		return overlay.NewSnapshotter(root, overlay.AsynchronousRemove)
	}}
}

// findRunc looks for an OCI runtime that BuildKit can drive. crun is not one:
// it lacks the --keep that BuildKit passes (crun 1.8). Where there is none, the
// answer is a path that exists, because the worker insists on one.
func findRunc() (path string, missing bool) {
	for _, name := range []string{"buildkit-runc", "runc"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, false
		}
	}
	self, err := os.Executable()
	if err != nil {
		self = "/proc/self/exe"
	}
	return self, true
}

// noRunc stands in for the executor where runc is missing: builds without a
// RUN work, others get told what to install.
type noRunc struct{}

var errNoRunc = errors.New("this build has a RUN step and runc is not installed: install it (Debian and Ubuntu: apt install runc; Fedora: dnf install runc), then run `lighter engine stop` and build again")

func (noRunc) Run(context.Context, string, executor.Mount, []executor.Mount, executor.ProcessInfo, chan<- struct{}) (resourcestypes.Recorder, error) {
	return nil, errNoRunc
}

func (noRunc) Exec(context.Context, string, executor.ProcessInfo) error { return errNoRunc }

// gcPolicy is BuildKit's default one, with the limit that was asked for.
func gcPolicy(cfg Config) []client.PruneInfo {
	stat, _ := disk.GetDiskStat(cfg.State)
	limits := config.DetectDefaultGCCap(stat)
	if cfg.CacheLimit > 0 {
		limits = config.GCConfig{
			GCMaxUsedSpace:  config.DiskSpace{Bytes: cfg.CacheLimit},
			GCReservedSpace: config.DiskSpace{Bytes: cfg.CacheLimit / 10},
		}
	}
	var out []client.PruneInfo
	for _, rule := range config.DefaultGCPolicy(limits, stat) {
		out = append(out, client.PruneInfo{
			Filter:        rule.Filters,
			All:           rule.All,
			KeepDuration:  rule.KeepDuration.Duration,
			ReservedSpace: rule.ReservedSpace.AsBytes(stat),
			MaxUsedSpace:  rule.MaxUsedSpace.AsBytes(stat),
			MinFreeSpace:  rule.MinFreeSpace.AsBytes(stat),
		})
	}
	return out
}
