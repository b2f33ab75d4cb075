package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/lighter-oci/lighter/internal/cachemount"
	"github.com/lighter-oci/lighter/internal/engine/buildkit"
	"github.com/lighter-oci/lighter/internal/engine/process"
	"github.com/lighter-oci/lighter/internal/project"
	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
)

// engineFlags say which engine every verb talks to.
type engineFlags struct {
	EngineAddr string `group:"Engine" name:"engine" env:"LIGHTER_ENGINE" placeholder:"ADDRESS" help:"inprocess, or a BuildKit: tcp://, unix://, docker-container://, kube-pod://, ssh:// (default: the embedded engine, started on demand)."`
	State      string `group:"Engine" env:"LIGHTER_STATE" placeholder:"DIR" help:"State directory of the embedded engine."`
	CacheLimit string `group:"Engine" env:"LIGHTER_CACHE_LIMIT" placeholder:"SIZE" help:"Build cache that the embedded engine keeps, as 20GB; read when it starts (default: a share of the disk)."`
}

const engineInProcess = "inprocess"

// embedded tells whether the engine is lighter's own.
func (f *engineFlags) embedded() bool {
	return f.EngineAddr == "" || f.EngineAddr == engineInProcess
}

// open connects to the engine that the flags name, starting it where it is ours.
func (f *engineFlags) open(ctx context.Context, opt buildkit.Options) (*openEngine, error) {
	if _, err := f.cacheLimit(); err != nil {
		return nil, err
	}
	opt.Embedded, opt.Agent = f.embedded(), mountAgent()
	switch f.EngineAddr {
	case "":
		return f.openShared(ctx, opt)
	case engineInProcess:
		return f.openInProcess(ctx, opt)
	}
	client, err := buildkit.Connect(ctx, f.EngineAddr, opt)
	if err != nil {
		return nil, err
	}
	return &openEngine{Client: client, cache: f.EngineAddr}, nil
}

// openEngine is a client and what must end with it.
type openEngine struct {
	*buildkit.Client
	cache string // whose build cache it has: a state directory, or an address
	after []func() error
}

// Close ends the connection and gives the engine back.
func (e *openEngine) Close() error {
	errs := []error{e.Client.Close()}
	for _, f := range e.after {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// isEngine tells an engine by its command line, as openShared makes it: who ends all
// that a build started leaves it alone.
func isEngine(args []string) bool { return len(args) > 2 && args[1] == "engine" && args[2] == "run" }

// openShared finds or starts the engine process of the state directory.
func (f *engineFlags) openShared(ctx context.Context, opt buildkit.Options) (*openEngine, error) {
	state, err := process.StateDir(f.State)
	if err != nil {
		return nil, err
	}
	args := []string{"engine", "run", "--state", state}
	if f.CacheLimit != "" {
		args = append(args, "--cache-limit", f.CacheLimit)
	}
	lease, err := process.Connect(ctx, process.Options{State: state, Args: args, Version: version()})
	if err != nil {
		return nil, startError(state, err)
	}
	opt.Log = lease.Info.Log
	client, err := buildkit.Connect(ctx, lease.Addr, opt)
	if err != nil {
		lease.Close()
		return nil, err
	}
	return &openEngine{Client: client, cache: state, after: []func() error{lease.Close}}, nil
}

// startError names the disk where an engine could not start for want of space,
// whether it said so itself or only its log does.
func startError(state string, err error) error {
	if strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		return fullStateError{state, err}
	}
	return err
}

type fullStateError struct {
	state string
	err   error
}

func (e fullStateError) Error() string {
	return fmt.Sprintf("the engine cannot start, its state %s: %v", e.state, syscall.ENOSPC)
}
func (e fullStateError) Unwrap() error { return e.err }

// Hint is the next step.
func (e fullStateError) Hint() string {
	return "free some disk there, or use another with --state"
}

// openInProcess runs the engine in this process; nobody else can use it.
func (f *engineFlags) openInProcess(ctx context.Context, opt buildkit.Options) (*openEngine, error) {
	if process.NeedsUserNamespace() {
		code, err := process.ReexecInUserNamespace(os.Args[1:])
		if err != nil {
			return nil, err
		}
		return nil, codeError{code: code}
	}
	state, err := process.StateDir(f.State)
	if err != nil {
		return nil, err
	}
	lock, err := process.Acquire(state, process.LockOptions{Version: version()})
	if err != nil {
		return nil, startError(state, err)
	}
	undo := []func() error{lock.Release}
	fail := func(err error) (*openEngine, error) {
		for i := len(undo) - 1; i >= 0; i-- {
			_ = undo[i]()
		}
		return nil, startError(state, err)
	}
	// Before the server, which moves temporary files into the state: a socket's
	// path has to be short.
	dir, err := os.MkdirTemp("", "lighter-engine-")
	if err != nil {
		return fail(err)
	}
	undo = append(undo, func() error { return os.RemoveAll(dir) })
	server, err := f.server(state, "error") // its log would be on the user's terminal
	if err != nil {
		return fail(err)
	}
	undo = append(undo, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return server.Stop(ctx)
	})
	l, err := net.Listen("unix", filepath.Join(dir, "engine.sock"))
	if err != nil {
		return fail(err)
	}
	go func() { _ = server.Serve(l) }()
	client, err := buildkit.Connect(ctx, "unix://"+l.Addr().String(), opt)
	if err != nil {
		return fail(err)
	}
	e := &openEngine{Client: client, cache: state}
	for i := len(undo) - 1; i >= 0; i-- {
		e.after = append(e.after, undo[i])
	}
	return e, nil
}

// cacheLimit is --cache-limit in bytes; 0 where it is not given.
func (f *engineFlags) cacheLimit() (int64, error) {
	if f.CacheLimit == "" {
		return 0, nil
	}
	limit, err := project.ParseSize(f.CacheLimit)
	if err != nil {
		return 0, usageError{fmt.Errorf("--cache-limit %q: %w", f.CacheLimit, err)}
	}
	return limit, nil
}

// server opens the embedded engine on a state directory whose lock is held.
func (f *engineFlags) server(state, logLevel string) (*buildkit.Server, error) {
	cfg := buildkit.Config{State: filepath.Join(state, "buildkit"), LogLevel: logLevel, Registries: configuredHosts, Mounts: cachemount.EngineAgent}
	if level := os.Getenv("LIGHTER_LOG_LEVEL"); level != "" {
		cfg.LogLevel = level
	}
	if v := os.Getenv("LIGHTER_REGISTRY_TIMEOUT"); v != "" {
		d, err := project.ParseAge(v)
		if err != nil {
			return nil, usageError{fmt.Errorf("LIGHTER_REGISTRY_TIMEOUT=%q: %w", v, err)}
		}
		cfg.RegistryTimeout = d
	}
	var err error
	if cfg.CacheLimit, err = f.cacheLimit(); err != nil {
		return nil, err
	}
	if err := buildkit.UseTempDir(cfg.State); err != nil {
		return nil, err
	}
	return buildkit.NewServer(cfg)
}

// configuredHosts is what the user has configured of registries, for the engine.
func configuredHosts() (map[string]registry.HostConfig, error) {
	configs, err := registry.Hosts{}.Read()
	return configs.Hosts, err
}

// engineCmd looks after the embedded engine.
type engineCmd struct {
	Status engineStatusCmd `cmd:"" default:"1" help:"Show the embedded engine, or the one that --engine names."`
	Stop   engineStopCmd   `cmd:"" help:"Stop the embedded engine; it starts again on demand."`
	Run    engineRunCmd    `cmd:"" help:"Run the embedded engine in the foreground."`
	Env    engineEnvCmd    `cmd:"" help:"Print the address for buildctl and docker buildx, starting the engine."`
}

type engineRunCmd struct{}

// Run serves until nobody has used the engine for a while.
func (engineRunCmd) Run(ctx context.Context, flags *engineFlags) error {
	if process.NeedsUserNamespace() {
		code, err := process.ReexecInUserNamespace(os.Args[1:])
		if err != nil {
			return err
		}
		return codeError{code: code}
	}
	state, err := process.StateDir(flags.State)
	if err != nil {
		return err
	}
	lock, err := process.Acquire(state, process.LockOptions{Serve: true, Version: version()})
	var locked *process.LockedError
	if errors.As(err, &locked) {
		return codeError{code: process.ExitLocked, err: err}
	}
	if err != nil {
		return err
	}
	defer func() { _ = lock.Release() }()
	server, err := flags.server(state, "warning")
	if err != nil {
		return err
	}
	return process.Serve(ctx, lock, process.ServeOptions{}, func(ctx context.Context, l net.Listener) error {
		return serve(ctx, server, l)
	})
}

// serve answers until ctx ends, then lets running builds finish for a while.
func serve(ctx context.Context, server *buildkit.Server, l net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(err, server.Stop(stop))
}

type engineStatusCmd struct {
	Format string `enum:"text,json" default:"text" help:"text or json."`
}

// engineStatus is what `lighter engine status --format json` prints.
type engineStatus struct {
	process.Info
	Address string         `json:"address,omitempty"` // of a remote engine
	Engine  *buildkit.Info `json:"engine,omitempty"`  // nil where none runs
}

// Run shows the engine without starting one.
func (c engineStatusCmd) Run(ctx context.Context, out *term.Output, flags *engineFlags) error {
	var st engineStatus
	if flags.EngineAddr != "" && flags.EngineAddr != engineInProcess {
		st.Address, st.Running = flags.EngineAddr, true
	} else {
		state, err := process.StateDir(flags.State)
		if err != nil {
			return err
		}
		if st.Info, err = process.Status(state); err != nil {
			return err
		}
		if st.Running && st.Serves && st.Socket != "" {
			st.Address = "unix://" + st.Socket
		}
	}
	if st.Address != "" {
		client, err := buildkit.Connect(ctx, st.Address, buildkit.Options{})
		if err != nil {
			return err
		}
		defer client.Close()
		info, err := client.Info(ctx)
		if err != nil {
			return err
		}
		st.Engine = &info
	}
	if c.Format == "json" {
		return out.Encode(st)
	}
	printStatus(out, st)
	return nil
}

func printStatus(out *term.Output, st engineStatus) {
	switch {
	case !st.Running:
		fmt.Fprintf(out.Out, "not running; starts on demand in %s\n", st.State)
	case st.PID != 0:
		fmt.Fprintf(out.Out, "running, pid %d, since %s, %s of memory\n", st.PID, st.Started.Format(time.DateTime), report.Bytes(st.RSS))
		fmt.Fprintf(out.Out, "state   %s\n", st.State)
	default:
		fmt.Fprintln(out.Out, "running")
	}
	if st.Address != "" {
		fmt.Fprintf(out.Out, "address %s\n", st.Address)
	}
	if st.Engine != nil {
		fmt.Fprintf(out.Out, "engine  BuildKit %s, snapshotter %s\n", report.Clean(st.Engine.BuildKit), report.Clean(st.Engine.Labels["org.mobyproject.buildkit.worker.snapshotter"]))
	}
	if st.Log != "" {
		fmt.Fprintf(out.Out, "log     %s\n", st.Log)
	}
	for _, p := range process.Check() {
		fmt.Fprintf(out.Out, "problem %s: %s\n", p.Text, p.Fix)
	}
}

type engineStopCmd struct {
	Force bool `help:"Kill it when it is not gone after 30 seconds."`
}

// Run stops the engine of the state directory.
func (c engineStopCmd) Run(ctx context.Context, out *term.Output, flags *engineFlags) error {
	if flags.EngineAddr != "" {
		return usageError{fmt.Errorf("engine stop is for the embedded engine, not for --engine=%s", flags.EngineAddr)}
	}
	state, err := process.StateDir(flags.State)
	if err != nil {
		return err
	}
	info, err := process.Stop(ctx, state, process.StopOptions{Force: c.Force})
	if err != nil {
		return err
	}
	if info.PID == 0 {
		fmt.Fprintln(out.Err, "no engine was running")
		return nil
	}
	fmt.Fprintf(out.Err, "stopped the engine, pid %d\n", info.PID)
	return nil
}

type engineEnvCmd struct{}

// Run prints what other BuildKit clients need to use this engine.
func (engineEnvCmd) Run(ctx context.Context, out *term.Output, flags *engineFlags) error {
	if flags.EngineAddr == engineInProcess {
		return usageError{errors.New("an engine in this process ends with it, so that it has no address to give")}
	}
	e, err := flags.open(ctx, buildkit.Options{})
	if err != nil {
		return err
	}
	defer e.Close()
	fmt.Fprintf(out.Out, "export BUILDKIT_HOST=%s\n", e.Addr())
	return nil
}
