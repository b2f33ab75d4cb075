//go:build linux

package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// running are the processes whose command line contains part.
func running(part string) []string {
	var found []string
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		b, err := os.ReadFile(f)
		line := strings.ReplaceAll(string(b), "\x00", " ")
		if err == nil && strings.Contains(line, part) {
			found = append(found, filepath.Base(filepath.Dir(f))+" "+line)
		}
	}
	return found
}

// mountsUnder are the mount points that start with prefix, innermost first.
func mountsUnder(t *testing.T, prefix string) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], prefix) {
			found = append([]string{f[4]}, found...)
		}
	}
	return found
}

// disk mounts a file system of size bytes at a directory below the site's. It
// is unmounted when the engine has ended.
func (s *site) disk(name string, size int64) string {
	s.t.Helper()
	dir := filepath.Join(s.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := syscall.Mount("lighter-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size)); err != nil {
		s.t.Fatalf("mount a small disk: %v", err)
	}
	return dir
}

// free is how many bytes of dir's file system are not in use.
func free(t *testing.T, dir string) int64 {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bfree) * st.Bsize
}

// fill writes a file until the disk is full. The answer removes it.
func fill(t *testing.T, dir string) (undo func()) {
	t.Helper()
	path := filepath.Join(dir, "somebody-else's")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 64<<10); len(chunk) > 0; {
		if n, err := f.Write(chunk); err != nil {
			chunk = chunk[n/2 : n/2+len(chunk)/2-n/2] // towards the last byte
			if errors.Is(err, syscall.ENOSPC) {
				continue
			}
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// entries are the names in a directory, hidden ones included; none where there
// is no such directory.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// tagged reports whether the registry has a manifest under NAME:TAG.
func tagged(t *testing.T, reg *registrytest.Server, ref string) bool {
	t.Helper()
	name, tag, _ := strings.Cut(ref, ":")
	req, err := http.NewRequest(http.MethodHead, fmt.Sprintf("%s/v2/%s/manifests/%s", reg.URL(), name, tag), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// pulls lets skopeo fetch an image and compare every digest.
func pulls(t *testing.T, reg *registrytest.Server, ref string) {
	t.Helper()
	out, err := exec.Command("skopeo", "copy", "--src-tls-verify=false", "docker://"+reg.Ref(ref), "dir:"+t.TempDir()).CombinedOutput()
	if err != nil {
		t.Fatalf("skopeo copy %s: %v: %s", ref, err, out)
	}
}

// stalling is a fault that takes a request and never answers it.
type stalling struct {
	t       *testing.T
	reached chan struct{} // closed by the first request that stalls
	release chan struct{}
	once    sync.Once
}

// stall makes requests of a method hang whose path contains part, until the
// test ends or the proxy gets another fault.
func stall(t *testing.T, proxy *registrytest.Faulty, method, part string) *stalling {
	t.Helper()
	st := &stalling{t: t, reached: make(chan struct{}), release: make(chan struct{})}
	t.Cleanup(func() { close(st.release) })
	proxy.Set(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != method || !strings.Contains(r.URL.Path, part) {
			return false
		}
		st.once.Do(func() { close(st.reached) })
		select {
		case <-st.release:
		case <-r.Context().Done():
		}
		registrytest.Reset(w)
		return true
	})
	return st
}

// wait waits until a request of the command hangs.
func (st *stalling) wait(c *command) *command {
	st.t.Helper()
	select {
	case <-st.reached:
	case <-c.done:
		st.t.Fatalf("%v ended before it asked the registry", c.Args)
	case <-time.After(patience):
		st.t.Fatalf("%v did not ask the registry", c.Args)
	}
	return c
}

// tarOf is the beginning of a tar of files, names and contents in turn.
func tarOf(t *testing.T, pairs ...any) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		content := pairs[i+1].([]byte)
		if err := w.WriteHeader(&tar.Header{Name: pairs[i].(string), Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}
