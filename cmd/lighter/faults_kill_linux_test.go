package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// killed are the phases in which something of a build is half done.
var killed = []struct {
	name  string
	reach func(*site, *registrytest.Faulty, string) *command
}{
	{"run", (*site).inRun},
	{"export", (*site).inExport},
	{"push", (*site).inPush},
}

// TestKillEngine kills the engine in the middle of a build. Its client says so
// in one line; the next command starts another engine, which puts away what
// the dead one left.
func TestKillEngine(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	proxy := registrytest.NewFaulty(t, reg)
	s := newSite(t)
	for _, k := range killed {
		s.sub(k.name, func(t *testing.T) {
			name := "engine/" + k.name + ":1"
			c := k.reach(s, proxy, name)
			pid := s.enginePID()
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			line := c.failed(exitFailed)
			if !strings.Contains(line, "engine") || !strings.Contains(line, filepath.Join(s.state, "engine.log")) {
				t.Errorf("the engine was killed, and all that is said is %q", line)
			}
			proxy.Set(nil)
			if left := entries(t, filepath.Join(s.dir, "out")); len(left) > 0 {
				t.Errorf("left in the output directory: %q", left)
			}
			if tagged(t, reg, name) {
				t.Errorf("%s is in the registry", name)
			}
			s.next(reg, name)
			if now := s.enginePID(); now == pid || now == 0 {
				t.Errorf("engine %d is now %d", pid, now)
			}
			s.nothingLeft()
		})
	}
}

// TestKillClient kills the command in the middle of a build. The engine gives
// the build up and serves the next one.
func TestKillClient(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	proxy := registrytest.NewFaulty(t, reg)
	s := newSite(t)
	for _, k := range killed {
		s.sub(k.name, func(t *testing.T) {
			name := "client/" + k.name + ":1"
			c := k.reach(s, proxy, name)
			pid := s.enginePID()
			if err := c.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			<-c.done
			if left := entries(t, filepath.Join(s.dir, "out")); len(left) > 0 {
				t.Errorf("left in the output directory: %q", left)
			}
			eventually(t, "no process of the step runs", func() bool { return len(running(s.asleep)) == 0 })
			proxy.Set(nil)
			if tagged(t, reg, name) {
				t.Errorf("%s is in the registry", name)
			}
			s.next(reg, name)
			if now := s.enginePID(); now != pid {
				t.Errorf("engine %d is now %d", pid, now)
			}
			s.nothingLeft()
		})
	}
}

// nothingLeft wants no process, no mount, no container and no half-written
// blob of any earlier build, while the engine has nothing to do.
func (s *site) nothingLeft() {
	s.t.Helper()
	eventually(s.t, "no process of a step runs", func() bool { return len(running(s.asleep)) == 0 })
	eventually(s.t, "nothing is mounted", func() bool { return len(mountsUnder(s.t, s.state+"/")) == 0 })
	root := filepath.Join(s.state, "buildkit", "runc-overlayfs")
	eventually(s.t, "no blob is half-written", func() bool { return len(entries(s.t, filepath.Join(root, "content", "ingest"))) == 0 })
	for _, name := range entries(s.t, filepath.Join(root, "executor")) {
		if info, err := os.Stat(filepath.Join(root, "executor", name)); err == nil && info.IsDir() {
			s.t.Errorf("container %s is left", name)
		}
	}
	for _, name := range entries(s.t, filepath.Join(s.state, "buildkit", "tmp")) {
		s.t.Errorf("temporary %s is left", name)
	}
}
