package buildkit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/executor"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	"github.com/moby/sys/userns"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
)

// reserve is disk space that the engine keeps for itself, as a file that it
// makes shorter when the disk is full. Without it a full disk stays full:
// giving up what a failed step wrote, or pruning the cache, takes a few pages
// of BuildKit's databases, which then cannot be written.
type reserve struct {
	path string

	mu     sync.Mutex
	size   int64       // of the file, bytes
	refill *time.Timer // nil where nothing is missing
	closed bool
}

const (
	// maxReserve is far more than a prune needs: the databases of 1000 records
	// are 3 MB, and few of their pages change at a time.
	maxReserve = 8 << 20
	// portions is how often it can be drawn on before it is gone. What a failed
	// step wrote is freed a second or two after the step, and until then the
	// next one may fill the disk again.
	portions = 4
	// refillAfter is when to look whether there is room again.
	refillAfter = 2 * time.Second
)

// openReserve looks after the reserve of a state directory. Where the file
// system cannot promise space there is none.
func openReserve(state string) *reserve {
	r := &reserve{path: filepath.Join(state, "reserve")}
	if fi, err := os.Lstat(r.path); err == nil {
		r.size = fi.Size()
	}
	r.fill()
	r.draw(nil) // or an engine could not even start
	return r
}

// close stops looking; the file stays.
func (r *reserve) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.refill != nil {
		r.refill.Stop()
	}
}

// fill makes the reserve whole where that leaves plenty of room.
func (r *reserve) fill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refill != nil {
		r.refill.Stop()
		r.refill = nil
	}
	whole, free, ok := r.room()
	if !ok || r.closed || r.size >= whole {
		return
	}
	if free < 4*whole {
		r.refill = time.AfterFunc(refillAfter, r.fill)
		return
	}
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, whole); err != nil {
		return
	}
	r.size = whole
}

// draw gives a portion away where the disk is full, or where err, which may be
// nil, says that it was.
func (r *reserve) draw(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	whole, free, ok := r.room()
	// A quota is not seen in what is free; what was freed meanwhile is.
	full := free < whole/portions || err != nil && isFull(err) && free > 4*whole
	if !ok || !full || r.closed || r.size == 0 {
		return
	}
	left := max(0, r.size-whole/portions)
	if err := os.Truncate(r.path, left); err != nil {
		logrus.Warnf("the disk is full, and so it stays: %v", err)
		return
	}
	r.size = left
	logrus.Warnf("the disk is full: %d bytes are left in %s", left, r.path)
	if r.refill == nil {
		r.refill = time.AfterFunc(refillAfter, r.fill)
	}
}

// failed draws on the reserve where a lack of space may be why something failed.
func (r *reserve) failed(err error) {
	if err == nil {
		return
	}
	r.draw(err)
	if isFull(err) {
		collect(3)
	}
}

// collect closes files that nobody has closed, now and then for a while. The
// receiver of a build context leaves one open that it could not write
// (fsutil's lazyFileWriter): it is removed, but its space is not free before.
func collect(times int) {
	time.AfterFunc(refillAfter, func() {
		runtime.GC()
		if times > 1 {
			collect(times - 1)
		}
	})
}

// room is how large the whole reserve is and how much of the disk is free,
// bytes.
func (r *reserve) room() (whole, free int64, ok bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(r.path), &st); err != nil {
		return 0, 0, false
	}
	blocks := st.Bavail
	if os.Geteuid() == 0 && !userns.RunningInUserNS() {
		blocks = st.Bfree // root may use what is kept for root
	}
	return min(maxReserve, int64(st.Blocks)*st.Bsize/16), int64(blocks) * st.Bsize, true
}

// isFull recognises a full disk, or a quota that is used up, also in an error
// that came as text.
func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) ||
		strings.Contains(err.Error(), unix.ENOSPC.Error()) || strings.Contains(err.Error(), unix.EDQUOT.Error())
}

// unary sees to the reserve before a build, and draws on it after one that
// failed for lack of space.
func (r *reserve) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if info.FullMethod != controlapi.Control_Solve_FullMethodName {
		return handle(ctx, req)
	}
	r.fill()
	resp, err := handle(ctx, req)
	r.failed(err)
	return resp, err
}

// stream draws on it before a prune, which needs space to make some.
func (r *reserve) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if info.FullMethod == controlapi.Control_Prune_FullMethodName {
		r.draw(nil)
	}
	return handle(srv, s)
}

// thriftyExecutor draws on the reserve as soon as a step has filled the disk,
// so that what the step wrote can be given up.
type thriftyExecutor struct {
	executor.Executor
	reserve *reserve
}

func (e thriftyExecutor) Run(ctx context.Context, id string, root executor.Mount, mounts []executor.Mount, process executor.ProcessInfo, started chan<- struct{}) (resourcestypes.Recorder, error) {
	rec, err := e.Executor.Run(ctx, id, root, mounts, process, started)
	e.reserve.failed(err)
	return rec, err
}
