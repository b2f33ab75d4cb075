package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lighter-oci/lighter/internal/engine/buildkit"
)

// engineProcess is an engine that runs for the whole of the benchmark.
type engineProcess struct {
	*buildkit.Client
	cmd *exec.Cmd
}

// command says how to start an engine on a state directory.
type command func(ctx context.Context, state string) (cmd *exec.Cmd, addr string)

func lighterCommand(opt options) command {
	return func(ctx context.Context, state string) (*exec.Cmd, string) {
		cmd := exec.CommandContext(ctx, opt.lighter, "engine", "run", "--state", state)
		return cmd, "unix://" + filepath.Join(state, "engine.sock")
	}
}

func stockCommand(opt options) command {
	return func(ctx context.Context, state string) (*exec.Cmd, string) {
		addr := "unix://" + filepath.Join(state, "stock.sock")
		// The shipped binary, its defaults: overlayfs, the OCI worker, its own
		// garbage collector.
		cmd := exec.CommandContext(ctx, filepath.Join(opt.stock, "buildkitd"), "--root", filepath.Join(state, "root"), "--addr", addr,
			"--otel-socket-path", filepath.Join(state, "otel.sock"))
		return cmd, addr
	}
}

func startEngine(ctx context.Context, name, state string, how command) (*engineProcess, error) {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, err
	}
	cmd, addr := how(ctx, state)
	log, err := os.Create(filepath.Join(filepath.Dir(state), name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "LIGHTER_ENGINE_IDLE=0")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s engine: %w", name, err)
	}
	e := &engineProcess{cmd: cmd}
	for range 150 {
		if e.Client, err = buildkit.Connect(ctx, addr, buildkit.Options{}); err == nil {
			return e, nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	e.stop()
	return nil, fmt.Errorf("%s engine does not answer: %w; see %s", name, err, log.Name())
}

func (e *engineProcess) stop() {
	if e.Client != nil {
		e.Client.Close()
	}
	e.cmd.Process.Signal(syscall.SIGTERM)
	_ = e.cmd.Wait()
}

// peakMemory is the highest resident set of a process so far, in bytes. What
// wait4 says of it counts the process that started it, too.
func peakMemory(pid int) (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("no VmHWM in /proc: is this Linux?")
}

// registryProcess is Debian's docker-registry on loopback.
type registryProcess struct {
	addr, data string
	cmd        *exec.Cmd
}

func startRegistry(ctx context.Context, dir string) (*registryProcess, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	l.Close()
	r := &registryProcess{addr: addr, data: filepath.Join(dir, "registry")}
	cfg := filepath.Join(dir, "registry.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %s}\n", r.data, addr)
	if err := os.WriteFile(cfg, []byte(text), 0o600); err != nil {
		return nil, err
	}
	r.cmd = exec.CommandContext(ctx, "docker-registry", "serve", cfg)
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: install docker-registry", err)
	}
	for range 100 {
		resp, err := http.Get("http://" + addr + "/v2/")
		if err == nil {
			resp.Body.Close()
			return r, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.stop()
	return nil, errors.New("the registry does not answer")
}

func (r *registryProcess) stop() {
	r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

// clear drops what was pushed, to make room for the next round.
func (r *registryProcess) clear() error {
	return os.RemoveAll(filepath.Join(r.data, "docker"))
}
