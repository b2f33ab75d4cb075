package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// Each of these starts a build that writes a file and pushes, and returns in
// the middle of the phase that it is named after. What has to stand still
// stands still until it is ended; the others take much longer than any test
// needs to get at them.

// build starts a build with the outputs that faults must not leave behind.
func (s *site) build(proxy *registrytest.Faulty, name, context string, more ...string) *command {
	s.t.Helper()
	return s.start(append([]string{"build", "-o", "type=oci,dest=out/image.tar", "--push", "-t", proxy.Ref(name), context}, more...)...)
}

// simple is a context whose one layer is like no other.
func (s *site) simple(name string) string {
	s.t.Helper()
	dir := strings.NewReplacer("/", "-", ":", "-").Replace(name)
	s.write(dir+"/Dockerfile", "FROM scratch\nCOPY Dockerfile /"+dir+"\n")
	return dir
}

// inContext sends a context of 64 GiB, which takes no room on the disk.
func (s *site) inContext(proxy *registrytest.Faulty, name string) *command {
	s.t.Helper()
	s.write("big/Dockerfile", "FROM scratch\nCOPY . /\n")
	zeros := s.write("big/zeros", "")
	if err := os.Truncate(zeros, 64<<30); err != nil {
		s.t.Fatal(err)
	}
	c := s.build(proxy, name, "big")
	c.until(`transferring context: [1-9][0-9.]*[MG]B`)
	return c
}

// inStdin waits for the rest of a Dockerfile.
func (s *site) inStdin(proxy *registrytest.Faulty, name string) *command {
	s.t.Helper()
	c := s.build(proxy, name, "-")
	// More than fits into the pipe, so that this returns when it is read.
	c.feed([]byte("FROM scratch\n" + strings.Repeat("# and so on\n", 1<<16)))
	return c
}

// inTar waits for the rest of a context.
func (s *site) inTar(proxy *registrytest.Faulty, name string) *command {
	s.t.Helper()
	c := s.build(proxy, name, "-")
	c.feed(tarOf(s.t, "Dockerfile", []byte("FROM scratch\nCOPY . /\n"), "zeros", make([]byte, 1<<20)))
	c.until(`load remote build context`)
	return c
}

// inPull waits for a layer of the base image.
func (s *site) inPull(proxy *registrytest.Faulty, name string) *command {
	s.t.Helper()
	st := stall(s.t, proxy, http.MethodGet, "/blobs/")
	s.write("pull/Dockerfile", "FROM "+proxy.Ref("base:1")+"\nCOPY Dockerfile /two\n")
	return st.wait(s.build(proxy, name, "pull"))
}

// inRun sleeps in a RUN step that has a secret mounted.
func (s *site) inRun(proxy *registrytest.Faulty, name string) *command {
	s.t.Helper()
	s.write("secret", "hidden")
	dir := s.shell("run", "RUN --mount=type=secret,id=s echo "+name+" is asleep; exec "+s.asleep)
	c := s.build(proxy, name, dir, "--secret", "id=s,src=secret")
	c.until(`^#\d+ [0-9.]+ .* is asleep$`)
	return c
}

// inExport compresses 8 frames that take 3 s of CPU each.
func (s *site) inExport(proxy *registrytest.Faulty, name string) *command {
	s.t.Helper()
	c := s.build(proxy, name, s.shell("export", "RUN echo "+name+"; dd if=/dev/urandom of=/data bs=1M count=64"), "--compression=zstd:19")
	c.until(`exporting layers`)
	return c
}

// inPush waits for the registry to take a layer.
func (s *site) inPush(proxy *registrytest.Faulty, name string) *command {
	s.t.Helper()
	st := stall(s.t, proxy, http.MethodPut, "/blobs/uploads/")
	return st.wait(s.build(proxy, name, s.simple(name)))
}

// inManifest waits for the registry to take the manifest.
func (s *site) inManifest(proxy *registrytest.Faulty, name string) *command {
	s.t.Helper()
	st := stall(s.t, proxy, http.MethodPut, "/manifests/")
	return st.wait(s.build(proxy, name, s.simple(name)))
}

// inMounts waits for the registry to take what a cache mount holds, after a build
// without outputs.
func (s *site) inMounts(proxy *registrytest.Faulty, name string) *command {
	s.t.Helper()
	st := stall(s.t, proxy, http.MethodPut, "/v2/kept/blobs/uploads/")
	dir := s.shell("mounts", "RUN --mount=type=cache,target=/c echo "+name+" >/c/f")
	return st.wait(s.start("build", dir, "--cache-mounts-to", proxy.Ref("kept:m")))
}

// inProof waits for the registry to give the manifest back.
func (s *site) inProof(proxy *registrytest.Faulty, name string) *command {
	s.t.Helper()
	st := stall(s.t, proxy, http.MethodGet, "/manifests/")
	return st.wait(s.build(proxy, name, s.simple(name)))
}

// next builds, with a step and a base image, pushes to name and lets another
// tool pull what was pushed: the build that has to work after a fault.
func (s *site) next(reg *registrytest.Server, name string) {
	s.t.Helper()
	s.ok("build", "--push", "-t", reg.Ref(name), s.shell("next", fmt.Sprintf("RUN echo %s >/next", name)))
	pulls(s.t, reg, name)
	if err := os.RemoveAll(filepath.Join(s.dir, "out")); err != nil {
		s.t.Fatal(err)
	}
}
