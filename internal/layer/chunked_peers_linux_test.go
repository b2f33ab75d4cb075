package layer_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
	"github.com/lighter-oci/lighter/internal/layer"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// podman5 runs the newer podman that hack/peers.sh installs, on a store of its
// own where layers may be pulled by parts, and answers what it logged.
type podman5 struct {
	t   *testing.T
	dir string
	env []string
}

func newPodman5(t *testing.T, parts bool) *podman5 {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		must(t, os.WriteFile(file, []byte(text), 0o644))
		return file
	}
	must(t, os.Mkdir(filepath.Join(dir, "tmp"), 0o755))
	p := &podman5{t: t, dir: dir, env: append(os.Environ(),
		"CONTAINERS_STORAGE_CONF="+write("storage.conf", "[storage]\ndriver = \"overlay\"\ngraphroot = \""+dir+"/root\"\nrunroot = \""+dir+"/run\"\n"+
			"[storage.options]\npull_options = {enable_partial_images = \""+strconv.FormatBool(parts)+"\", use_hard_links = \"false\", convert_images = \"false\"}\n"),
		"CONTAINERS_CONF="+write("containers.conf", "[engine]\nimage_copy_tmp_dir = \""+dir+"/tmp\"\nevents_logger = \"file\"\n"))}
	t.Cleanup(func() { p.run("podman", "system", "reset", "--force") }) // its mounts end with the command
	return p
}

func (p *podman5) run(args ...string) (stdout, log string) {
	p.t.Helper()
	cmd := exec.Command("../../hack/in-peers.sh", append([]string{"-b", p.dir}, args...)...)
	cmd.Env = p.env
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	if e := cmd.Run(); e != nil {
		p.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), e, err.Bytes()[max(0, err.Len()-3000):])
	}
	return out.String(), err.String()
}

// files lists all that the mounted image has, with all that ls and sha256sum see,
// but for what podman leaves out when it pulls by parts: devices, pipes and
// the times of directories, and the mode of the root.
func (p *podman5) files(ref string) string {
	out, _ := p.run("sh", "-c", `cd "$(podman image mount "$1")" && find . -mindepth 1 ! -type c ! -type b ! -type p -printf '%p %y %m %U:%G %n %l\n' | sort &&
		find . -type f -printf '%p %TY-%Tm-%Td %TT\n' | sort &&
		find . -type f -exec sha256sum {} + | sort && podman image unmount "$1" >/dev/null`, "sh", ref)
	return out
}

// publish pushes an image whose layers are the tars, each chunked.
func publish(t *testing.T, s *registrytest.Server, p *codec.Pool, tag string, tars ...[]byte) (sent int64, layers []layer.Chunked) {
	t.Helper()
	var f imagetest.Fixture
	f.Tag = tag
	var ls []imagetest.Layer
	for _, in := range tars {
		blob, res := chunked(t, p, in, layer.ChunkedOptions{})
		desc := f.Add(ocispec.MediaTypeImageLayerZstd, blob)
		desc.Annotations = res.Annotations
		ls = append(ls, imagetest.Layer{Descriptor: desc, DiffID: res.DiffID})
		sent += desc.Size
		layers = append(layers, res)
	}
	f.AddImage(t, ocispec.Platform{OS: "linux", Architecture: "amd64"}, ls...)
	s.Push(t, "chunked", &f)
	return sent, layers
}

// podman takes our layers by parts: of an image of which it has another
// version, only what changed. That what it puts together is the tar, it proves
// itself by the diffID.
func TestChunkedPodman(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	front := registrytest.NewFaulty(t, s)
	var fetched atomic.Int64
	front.Rewrite(func(resp *http.Response) error {
		if strings.Contains(resp.Request.URL.Path, "/blobs/") && resp.Body != nil {
			resp.Body = counted{resp.Body, &fetched}
		}
		return nil
	})
	version := func(changed string) []byte {
		b := newTarball(t)
		b.dirs("opt/")
		for i := range 40 {
			b.add(tar.Header{Name: fmt.Sprintf("opt/file%d", i)}, noise(uint64(i), 100_000))
		}
		b.add(tar.Header{Name: "opt/changed"}, []byte(changed))
		b.add(tar.Header{Name: "opt/large"}, noise(99, 9*mib))
		return b.end()
	}
	dirs := newTarball(t)
	dirs.dirs("only/directories/")
	onlyDirs := dirs.end()
	p := newPool(t, 2)
	podman, whole := newPodman5(t, true), newPodman5(t, false)
	missing := regexp.MustCompile(`Missing (\d+) bytes out of (\d+)`)
	for _, tt := range []struct {
		tag  string
		tars [][]byte
		most int64 // bytes fetched
	}{
		{"1", [][]byte{version("one"), everything(t), onlyDirs}, 1 << 40},
		{"2", [][]byte{version("two, and more"), everything(t), onlyDirs}, 20_000},
	} {
		size, layers := publish(t, s, p, tt.tag, tt.tars...)
		if layers[0].Plain != "" || layers[1].Plain != "" || layers[2].Plain == "" {
			t.Fatalf("%+v", layers)
		}
		fetched.Store(0)
		_, log := podman.run("podman", "--log-level=debug", "pull", "-q", "--tls-verify=false", front.Ref("chunked:"+tt.tag))
		if n := strings.Count(log, "Created zstd:chunked differ"); n < 1 {
			t.Errorf("version %s: %d layers by parts\n%s", tt.tag, n, log[max(0, len(log)-4000):])
		}
		for _, m := range missing.FindAllStringSubmatch(log, -1) {
			t.Logf("version %s: podman: %s", tt.tag, m[0])
		}
		t.Logf("version %s: %d bytes of blobs of %d fetched", tt.tag, fetched.Load(), size)
		if fetched.Load() > tt.most {
			t.Errorf("more than %d", tt.most)
		}
		whole.run("podman", "pull", "-q", "--tls-verify=false", front.Ref("chunked:"+tt.tag))
		if parts, all := podman.files(front.Ref("chunked:"+tt.tag)), whole.files(front.Ref("chunked:"+tt.tag)); parts != all || len(all) < 10_000 {
			t.Errorf("version %s: by parts %d bytes of listing, as a whole %d", tt.tag, len(parts), len(all))
		}
		ids, _ := podman.run("podman", "image", "inspect", "--format", "{{range .RootFS.Layers}}{{.}} {{end}}", front.Ref("chunked:"+tt.tag))
		for j, l := range layers {
			if !strings.Contains(ids, l.DiffID.String()) {
				t.Errorf("version %s: layer %d is %s, podman has %s", tt.tag, j, l.DiffID, ids)
			}
		}
	}
}

type counted struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// Clients that take a layer as a whole see a zstd layer like any other:
// skopeo, podman 4.3 and those in Docker and containerd, whose pulls fail where a
// layer is not what its diffID says.
func TestChunkedWhole(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	p := newPool(t, 2)
	_, layers := publish(t, s, p, "1", everything(t), func() []byte {
		b := newTarball(t)
		b.add(tar.Header{Name: "no/directory/has/an/entry"}, text(1, 900_000))
		return b.end()
	}())
	ref := s.Ref("chunked:1")
	peers := newPodman5(t, false)

	t.Run("skopeo", func(t *testing.T) {
		for i, run := range []func(args ...string) (string, string){peers.run, local(t)} {
			dir := filepath.Join(peers.dir, fmt.Sprint("skopeo", i))
			run("skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", "--dest-decompress", "docker://"+ref, "dir:"+dir)
			for _, l := range layers {
				if st, err := os.Stat(filepath.Join(dir, l.DiffID.Encoded())); err != nil || st.Size() != l.TarSize {
					t.Errorf("no layer %s: %v", l.DiffID, err)
				}
			}
		}
	})
	t.Run("podman of Debian", func(t *testing.T) {
		root := []string{"podman", "--root", peers.dir + "/old", "--runroot", peers.dir + "/oldrun", "--storage-driver", "vfs"}
		local(t)(append(root, "pull", "-q", "--tls-verify=false", ref)...)
	})
	for name, args := range map[string][]string{"docker": nil, "docker with containerd's store": {"--containerd"}} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "lc")
			must(t, err)
			t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
			docker := exec.Command("../../hack/dockerd.sh", append(args, dir)...)
			var log bytes.Buffer
			docker.Stdout, docker.Stderr = &log, &log
			docker.WaitDelay = time.Second
			docker.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
			must(t, docker.Start())
			t.Cleanup(func() {
				_ = docker.Process.Signal(syscall.SIGTERM)
				_ = docker.Wait()
			})
			socket := filepath.Join(dir, "docker.sock")
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
				if _, err := os.Stat(socket); err == nil {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("dockerd does not listen: %s", log.Bytes()[max(0, log.Len()-2000):])
				}
			}
			cmd := exec.Command("../../hack/in-peers.sh", "-b", dir, "docker", "--host", "unix://"+socket, "pull", "-q", ref)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// local runs commands of this machine.
func local(t *testing.T) func(args ...string) (string, string) {
	return func(args ...string) (string, string) {
		t.Helper()
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out), ""
	}
}
