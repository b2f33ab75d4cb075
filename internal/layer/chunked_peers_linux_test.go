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
	"strings"
	"sync/atomic"
	"testing"

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

func newPodman5(t *testing.T) *podman5 {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		must(t, os.WriteFile(file, []byte(text), 0o644))
		return file
	}
	must(t, os.Mkdir(filepath.Join(dir, "tmp"), 0o755))
	p := &podman5{t: t, dir: dir, env: append(os.Environ(),
		"CONTAINERS_STORAGE_CONF="+write("storage.conf", "[storage]\ndriver = \"overlay\"\ngraphroot = \""+dir+"/root\"\nrunroot = \""+dir+"/run\"\n"+
			"[storage.options]\npull_options = {enable_partial_images = \"true\", use_hard_links = \"false\", convert_images = \"false\"}\n"),
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
	podman := newPodman5(t)
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
