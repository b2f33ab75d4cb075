package main

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// interrupt sends Ctrl-C and wants exit code 130, with one line.
func (c *command) interrupt() {
	c.s.t.Helper()
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		c.s.t.Fatal(err)
	}
	if line := c.failed(exitInterrupted); !strings.Contains(line, "interrupted") {
		c.s.t.Errorf("after Ctrl-C: %q", line)
	}
}

// TestInterrupt presses Ctrl-C in every phase of a build, of one user, with
// one engine, one after the other. After each, nothing is left running or
// half-written, and the next build works.
func TestInterrupt(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	proxy := registrytest.NewFaulty(t, reg)
	s := newSite(t)
	s.write("base/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
	s.ok("build", "-q", "--push", "-t", reg.Ref("base:1"), "base")
	s.ok("cache", "prune", "--all") // or there would be nothing to pull

	phases := []struct {
		name  string
		reach func(*site, *registrytest.Faulty, string) *command
	}{
		{"context", (*site).inContext},
		{"stdin", (*site).inStdin},
		{"tar", (*site).inTar},
		{"pull", (*site).inPull},
		{"run", (*site).inRun},
		{"export", (*site).inExport},
		{"push", (*site).inPush},
		{"manifest", (*site).inManifest},
		{"mounts", (*site).inMounts},
		{"proof", (*site).inProof},
	}
	pid := s.enginePID()
	for _, p := range phases {
		s.sub(p.name, func(t *testing.T) {
			name := "interrupted/" + p.name + ":1"
			c := p.reach(s, proxy, name)
			c.interrupt()
			proxy.Set(nil)
			pushed := p.name == "proof"
			if left := entries(t, filepath.Join(s.dir, "out")); len(left) > 0 && !pushed {
				t.Errorf("left in the output directory: %q", left)
			}
			if got := tagged(t, reg, name); got != pushed {
				t.Errorf("%s in the registry: %v", name, got)
			}
			eventually(t, "no process of the step runs", func() bool { return len(running(s.asleep)) == 0 })
			s.next(reg, name)
		})
	}
	if now := s.enginePID(); now != pid {
		t.Errorf("engine %d is now %d", pid, now)
	}
}
