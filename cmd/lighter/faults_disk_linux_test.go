package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// TestFullState runs out of disk in the state directory, in every phase that
// writes there. The line says which disk it is; when there is room again, the
// next build works, on the same state and with the same engine.
func TestFullState(t *testing.T) {
	const size = 48 << 20
	reg := registrytest.Start(t, registrytest.Options{})
	s := newSite(t)
	s.disk("state", size)
	full := func(t *testing.T, line string) {
		t.Helper()
		if want := s.state + ": no space left on device"; !strings.Contains(line, want) || !strings.Contains(line, "lighter cache prune --all") {
			t.Errorf("not %q, or no way out, in %q", want, line)
		}
	}
	s.next(reg, "full:0")
	pid := s.enginePID()

	s.sub("run", func(t *testing.T) {
		line := s.fails("build", s.shell("run", "RUN dd if=/dev/zero of=/data bs=1M count=100"))
		if !strings.Contains(line, "ran out of disk") {
			t.Errorf("a step filled the disk: %q", line)
		}
		s.next(reg, "full:1") // at once: what the step wrote is given up
	})
	s.sub("export", func(t *testing.T) {
		s.ok("cache", "prune", "--all")
		eventually(t, "there is room for a layer", func() bool { return free(t, s.state) > 40<<20 })
		full(t, s.fails("build", "-o", "type=oci,dest=out/x.tar", s.shell("export", "RUN dd if=/dev/urandom of=/data bs=1M count=26")))
		if left := entries(t, filepath.Join(s.dir, "out")); len(left) > 0 {
			t.Errorf("left in the output directory: %q", left)
		}
		s.nothingLeft()
		s.next(reg, "full:2")
	})
	s.sub("context", func(t *testing.T) {
		s.write("big/Dockerfile", "FROM scratch\nCOPY . /\n")
		if err := os.Truncate(s.write("big/zeros", ""), 100<<20); err != nil {
			t.Fatal(err)
		}
		full(t, s.fails("build", "big"))
		s.ok("cache", "prune", "--all") // the way out that the line names
		eventually(t, "the disk is free again", func() bool { return free(t, s.state) > 40<<20 })
		s.next(reg, "full:3")
	})
	s.sub("somebody else", func(t *testing.T) {
		undo := fill(t, s.state)
		full(t, s.fails("build", s.shell("other", "RUN echo other")))
		undo()
		s.next(reg, "full:4")
	})
	if now := s.enginePID(); now != pid {
		t.Errorf("engine %d is now %d", pid, now)
	}
	s.sub("no engine", func(t *testing.T) {
		s.ok("engine", "stop")
		undo := fill(t, s.state)
		line := s.fails("build", s.shell("started", "RUN echo started"))
		if want := s.state + ": no space left on device"; !strings.Contains(line, want) {
			t.Errorf("no %q in %q", want, line)
		}
		undo()
		s.next(reg, "full:5")
	})
}

// TestFullOutput has no room for what comes out. The line names the output,
// and nothing half-written stays there.
func TestFullOutput(t *testing.T) {
	s := newSite(t)
	out := s.disk("out", 4<<20)
	if err := os.WriteFile(filepath.Join(out, "mine"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	large := s.shell("large", "RUN dd if=/dev/urandom of=/data bs=1M count=8")
	for _, o := range []struct{ output, named string }{
		{"type=oci,dest=out/x.tar", "out/x.tar"},
		{"type=docker,dest=out/x.tar", "out/x.tar"},
		{"type=tar,dest=out/x.tar", "out/x.tar"},
		{"type=local,dest=out/files", "out/files"},
		{"type=local,dest=out", "out"},
		{"type=oci,tar=false,dest=out/layout", "out/layout"},
		{"type=tar,dest=/dev/full", "/dev/full"},
	} {
		line := s.fails("build", "-o", o.output, large)
		if want := "output " + o.named + ": no space left on device"; !strings.Contains(line, want) {
			t.Errorf("%s: no %q in %q", o.output, want, line)
		}
		if left := entries(t, out); len(left) != 1 {
			t.Errorf("%s: left %q", o.output, left)
		}
	}
	undo := fill(t, out)
	small := s.simple("small")
	for _, flag := range []string{"--metadata-file", "--iidfile"} {
		line := s.fails("build", "-o", "type=image", flag, "out/file", small)
		if want := flag + " out/file: no space left on device"; !strings.Contains(line, want) {
			t.Errorf("no %q in %q", want, line)
		}
		if left := entries(t, out); len(left) != 2 {
			t.Errorf("%s: left %q", flag, left)
		}
	}
	undo()
	s.ok("build", "-o", "type=oci,dest=out/x.tar", "--metadata-file", "out/meta.json", small)
	if got := entries(t, out); strings.Join(got, " ") != "meta.json mine x.tar" {
		t.Errorf("written: %q", got)
	}
}
