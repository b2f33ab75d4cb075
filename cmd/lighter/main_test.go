package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lighter-oci/lighter/internal/engine/process"
	"github.com/lighter-oci/lighter/internal/group"
	"github.com/lighter-oci/lighter/internal/registry/gha/ghatest"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

func TestMain(m *testing.M) {
	process.Enter()
	group.Enter(isEngine)
	testscript.Main(m, map[string]func(){
		"lighter": func() { os.Exit(run(os.Args[1:])) },
	})
}

// TestScript runs testdata/script: each file is a session that a user could
// have had. $REGISTRY is a real registry, $LOCKED one that asks for a login
// (ann, secret), $KEEPING one that deletes nothing, $READONLY one that takes
// nothing, $RUST where a cargo is that compiles for two platforms, $ACTIONS GitHub's cache with
// the token of a branch and of a reader, $LIGHTER_STATE a state directory of the script's own.
func TestScript(t *testing.T) {
	open := registrytest.Start(t, registrytest.Options{})
	locked := registrytest.Start(t, registrytest.Options{Users: map[string]string{"ann": "secret"}})
	keeping := registrytest.Start(t, registrytest.Options{NoDelete: true})
	readOnly := registrytest.Start(t, registrytest.Options{ReadOnly: true})
	actions := ghatest.Start(t)
	hack, err := filepath.Abs("../../hack")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := benchCache() // scripts have another HOME
	if err != nil {
		t.Fatal(err)
	}
	compiled, rust := goCache(t), crossRust()
	testscript.Run(t, testscript.Params{
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"waitfor": waitFor},
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("REGISTRY", open.Addr)
			env.Setenv("LOCKED", locked.Addr)
			env.Setenv("KEEPING", keeping.Addr)
			env.Setenv("READONLY", readOnly.Addr)
			env.Setenv("ACTIONS", actions.URL)
			env.Setenv("ACTIONS_TOKEN", ghatest.Token("refs/heads/main"))
			env.Setenv("ACTIONS_READER", ghatest.Token("read:refs/pull/1/merge", "read:refs/heads/main"))
			env.Setenv("LIGHTER_STATE", filepath.Join(env.WorkDir, "state"))
			env.Setenv("DOCKER_CONFIG", filepath.Join(env.WorkDir, "docker"))
			env.Setenv("XDG_RUNTIME_DIR", filepath.Join(env.WorkDir, "run"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("HACK", hack)
			env.Setenv("LIGHTER_CACHE", cache)
			env.Setenv("GOCACHE", compiled)
			env.Setenv("RUST", rust)
			env.Setenv("NO_COLOR", "1")
			env.Setenv("BUILDKIT_PROGRESS", "plain")
			for _, dir := range []string{"run", "docker"} {
				if err := os.Mkdir(filepath.Join(env.WorkDir, dir), 0o700); err != nil {
					return err
				}
			}
			if err := os.WriteFile(filepath.Join(env.WorkDir, "docker", "config.json"), []byte("{}"), 0o600); err != nil {
				return err
			}
			env.Defer(func() { stopEngine(env) })
			return copyBusybox(filepath.Join(env.WorkDir, "busybox"))
		},
	})
}

// goCache is where Go keeps what it compiled: scripts compile the standard
// library once, and not each for itself.
func goCache(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// crossRust is the directory of a cargo that compiles for amd64 and arm64: the
// first in the path, or the distribution's.
func crossRust() string {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/bin") {
		out, err := exec.Command(filepath.Join(dir, "rustc"), "--print", "target-libdir", "--target", "aarch64-unknown-linux-gnu").Output()
		if err != nil {
			continue
		}
		if std, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "libstd-*.rlib")); len(std) > 0 {
			return dir
		}
	}
	return "/no-rust-for-arm64-here:-see-.ci/run"
}

// stopEngine ends the engine that a script started, so that its directory can
// be removed.
func stopEngine(env *testscript.Env) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := process.Stop(ctx, env.Getenv("LIGHTER_STATE"), process.StopOptions{Force: true}); err != nil {
		env.T().Log("stop engine:", err)
	}
}

// copyBusybox gives each script a shell to put into images.
func copyBusybox(to string) error {
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return fmt.Errorf("%w: install busybox-static", err)
	}
	return os.WriteFile(to, data, 0o755)
}

// waitFor waits until every path that it is given exists: the socket of a
// daemon that the script has started.
func waitFor(ts *testscript.TestScript, neg bool, paths []string) {
	if neg || len(paths) == 0 {
		ts.Fatalf("usage: waitfor PATH...")
	}
	for _, p := range paths {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			if _, err := os.Stat(ts.MkAbs(p)); err == nil {
				break
			}
			if time.Now().After(deadline) {
				ts.Fatalf("%s is not there after a minute", p)
			}
		}
	}
}

// benchCache is where the scripts in hack keep what they make.
func benchCache() (string, error) {
	if dir := os.Getenv("LIGHTER_CACHE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "lighter-bench"), err
}
