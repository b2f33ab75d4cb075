package registry_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// seed makes TestRandomCopyFaults draw what a run before drew; with
// -run 'TestRandomCopyFaults/017$' one schedule of it.
var seed = flag.Uint64("seed", 0, "seed of the random schedules of copies (0: another one each time)")

// copyInChild is the variable by which a test gives a copy to a process of its
// own, as JSON.
const copyInChild = "LIGHTER_TEST_COPY"

// trip is one copy, gzip to zstd, with a client that has little patience.
type trip struct {
	From, To  string // references
	Journal   string // a directory
	PatchSize int64
}

// impatience is how long a trip waits for a body that brings nothing.
const impatience = 400 * time.Millisecond

func (tr trip) run(ctx context.Context, pool *codec.Pool) (digest.Digest, error) {
	c := registry.New(registry.Options{Idle: impatience, Backoff: time.Millisecond, PatchSize: tr.PatchSize})
	defer c.Close()
	var repos [2]*registry.Repository
	var names [2]string
	for i, ref := range []string{tr.From, tr.To} {
		parsed, err := image.ParseReference(ref)
		if err != nil {
			return "", err
		}
		if repos[i], err = c.Repository(parsed); err != nil {
			return "", err
		}
		names[i] = parsed.Identifier()
	}
	got, err := image.Copy(ctx, repos[0], names[0], repos[1], names[1:], image.CopyOptions{
		Variants: []codec.Compression{{Codec: codec.Zstd, Level: 3}}, Pool: pool, Journal: image.OpenJournal(tr.Journal),
	})
	if err != nil {
		return "", err
	}
	return got.Root.Digest, nil
}

// childCopies is the main function of a process that copies: what run answers
// goes to standard output, or to standard error.
func childCopies(spec string) int {
	log.SetOutput(io.Discard) // as lighter does: net/http says there what it makes of lies
	pool := codec.NewPool(1)
	defer pool.Close()
	var tr trip
	err := json.Unmarshal([]byte(spec), &tr)
	if err == nil {
		var d digest.Digest
		if d, err = tr.run(context.Background(), pool); err == nil {
			fmt.Print(d)
			return 0
		}
	}
	fmt.Fprint(os.Stderr, err)
	return 1
}

var errKilled = errors.New("killed")

// apart is run in a process that m may kill.
func (tr trip) apart(ctx context.Context, m *mishaps) (digest.Digest, error) {
	spec, err := json.Marshal(tr)
	if err != nil {
		return "", err
	}
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), copyInChild+"="+string(spec))
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return "", err
	}
	m.killing(func() { cmd.Process.Kill() })
	err = cmd.Wait()
	m.killing(nil)
	switch {
	case err == nil:
		return digest.Parse(stdout.String())
	case cmd.ProcessState.ExitCode() < 0:
		return "", errKilled
	}
	return "", errors.New(stderr.String())
}

// cargo is an image to copy, and what an undisturbed copy makes of it.
type cargo struct {
	name  string
	root  digest.Digest
	whole []ocispec.Descriptor // all of it
}

// cargoes puts images of two platforms and an attestation into a registry, and
// copies each to the other: one of small layers, one of a layer that is many
// PATCHes, one of a layer that is three frames.
func cargoes(t *testing.T, from, to *registrytest.Server, pool *codec.Pool) []cargo {
	t.Helper()
	var out []cargo
	for i, sizes := range [][]int{{3000, 60_000, 200_000}, {1000, 900_000, 0}, {17 << 20, 70_000, 1000}} {
		f := &imagetest.Fixture{Tag: "1"}
		base := f.AddForeignGzip(t, sparse(t, sizes[0], i))
		own := f.AddForeignGzip(t, imagetest.Tar(t, uint64(10+i), sizes[1]))
		amd := f.AddImage(t, ocispec.Platform{OS: "linux", Architecture: "amd64"}, base, own)
		arm := f.AddImage(t, ocispec.Platform{OS: "linux", Architecture: "arm64"}, base, f.AddForeignGzip(t, imagetest.Tar(t, uint64(20+i), sizes[2])), own)
		f.AddIndex(t, amd, arm, f.AddAttestation(t, amd.Digest))
		c := cargo{name: fmt.Sprintf("cargo%d:1", i)}
		from.Push(t, fmt.Sprintf("cargo%d", i), f)
		root, err := trip{From: from.Ref(c.name), To: to.Ref("undisturbed" + c.name), Journal: t.TempDir()}.run(t.Context(), pool)
		if err != nil {
			t.Fatal(err)
		}
		c.root = root
		repo, _ := repository(t, client(t, registry.Options{}), to.Ref("undisturbed"+c.name))
		img, err := image.Read(t.Context(), repo, root.String(), image.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		c.whole = img.Indexes
		for _, m := range img.Manifests {
			c.whole = append(c.whole, m.Descriptor, m.ConfigDescriptor)
			for _, l := range m.Layers {
				c.whole = append(c.whole, l.Descriptor)
			}
		}
		out = append(out, c)
	}
	return out
}

// sparse is a tar with a file of which a part in 64 is no zeros.
func sparse(t *testing.T, size, seed int) []byte {
	t.Helper()
	data := make([]byte, size)
	source := rand.NewChaCha8([32]byte{byte(seed)})
	for i := 0; i+4096 <= size; i += 64 * 4096 {
		_, _ = source.Read(data[i : i+4096])
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "sparse", Mode: 0o644, Size: int64(size)}); err != nil {
		t.Fatal(err)
	}
	_, err := w.Write(data)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Whole copies, from registry to registry, with faults on both sides, and some
// in a process that is killed: the image that arrives is the one that an
// undisturbed copy makes, or else an error says so in one line and the tag is
// what it was. The next copy, without faults, succeeds.
func TestRandomCopyFaults(t *testing.T) {
	drawn := *seed
	if drawn == 0 {
		drawn = rand.Uint64()
	}
	t.Logf("again by -seed=%d", drawn)
	from, to := registrytest.Start(t, registrytest.Options{}), registrytest.Start(t, registrytest.Options{})
	pool := codec.NewPool(2)
	defer pool.Close()
	cargo := cargoes(t, from, to, pool)
	old := &imagetest.Fixture{Tag: "1"}
	old.AddImage(t, ocispec.Platform{OS: "linux", Architecture: "amd64"}, old.AddForeignGzip(t, imagetest.Tar(t, 99, 100)))
	var runs, done, killed atomic.Int64
	var g errgroup.Group
	g.SetLimit(16)
	for i := range uint64(200) {
		g.Go(func() error {
			t.Run(fmt.Sprintf("%03d", i), func(t *testing.T) {
				runs.Add(1)
				random := rand.New(rand.NewPCG(drawn, i))
				c := cargo[random.IntN(2)]
				if i%32 == 0 {
					c = cargo[2]
				}
				m := newMishaps(random, 2*impatience)
				s := &sail{t: t, cargo: c, mishaps: m, pool: pool, was: "absent"}
				name := fmt.Sprintf("copy%03d", i)
				if random.IntN(2) == 0 {
					to.Push(t, name, old)
					s.was = old.Root.Digest.String()
				}
				source, target := registrytest.NewFaulty(t, from), registrytest.NewFaulty(t, to)
				if random.IntN(2) == 0 {
					target.KeepSessions()
				}
				source.Set(m.strike)
				target.Set(m.strike)
				s.trip = trip{source.Ref(c.name), target.Ref(name + ":1"), t.TempDir(), []int64{0, 400_000}[random.IntN(2)]}
				s.direct, _ = repository(t, client(t, registry.Options{}), to.Ref(name+":1"))
				d, k := s.sail(random.IntN(4) == 0)
				done.Add(d)
				killed.Add(k)
			})
			return nil
		})
	}
	_ = g.Wait()
	t.Logf("%d of %d copies arrived in spite of it, %d processes were killed", done.Load(), runs.Load(), killed.Load())
	if runs.Load() == 200 && (done.Load() < 50 || killed.Load() < 10) {
		t.Error("that are too few to say anything")
	}
	intact(t, to)
}

// sail is a trip with its faults.
type sail struct {
	t       *testing.T
	trip    trip
	cargo   cargo
	mishaps *mishaps
	pool    *codec.Pool
	was     string               // what the tag stood for: a digest, or "absent"
	direct  *registry.Repository // the destination, without faults
}

// sail copies until that ends in another way than by a kill, and then once
// more without faults where it failed.
func (s *sail) sail(apart bool) (done, killed int64) {
	for {
		var got digest.Digest
		var err error
		if apart {
			got, err = s.trip.apart(s.t.Context(), s.mishaps)
		} else {
			got, err = s.trip.run(s.t.Context(), s.pool)
		}
		s.check(got, err)
		if errors.Is(err, errKilled) {
			killed++
			continue
		}
		if err == nil {
			done++
			break
		}
		s.t.Log(err)
		s.mishaps.none()
		got, err = s.trip.run(s.t.Context(), s.pool)
		if s.check(got, err); err != nil {
			s.t.Errorf("without faults: %v", err)
		}
		break
	}
	if s.t.Failed() {
		s.t.Logf("it met %s", s.mishaps)
	}
	return done, killed
}

// check holds the destination against what a copy answered.
func (s *sail) check(got digest.Digest, err error) {
	s.t.Helper()
	if err != nil && (strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "_state")) {
		s.t.Errorf("more than one line, or too much in it: %q", err)
	}
	stands := "absent"
	if desc, err := s.direct.Resolve(s.t.Context(), "1"); err == nil {
		stands = desc.Digest.String()
	} else if !errors.Is(err, image.ErrNotFound) {
		s.t.Error(err)
	}
	if err == nil && got != s.cargo.root {
		s.t.Errorf("it made %s of it, want %s", got, s.cargo.root)
	}
	if stands != s.cargo.root.String() {
		if err == nil || stands != s.was {
			s.t.Errorf("the tag stands for %s; %v; it was %s", stands, err, s.was)
		}
		return
	}
	for _, desc := range s.cargo.whole {
		if there, err := s.direct.Has(s.t.Context(), desc); err != nil || !there {
			s.t.Errorf("tagged without %s %s: %v", desc.MediaType, desc.Digest, err)
		}
	}
}

// intact reads every blob that a registry has.
func intact(t *testing.T, s *registrytest.Server) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(filepath.Join(s.Dir, "docker/registry/v2/blobs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "data" {
			return err
		}
		b, err := os.ReadFile(path)
		if want := filepath.Base(filepath.Dir(path)); digest.FromBytes(b).Encoded() != want {
			t.Errorf("blob %s is another", want)
		}
		n++
		return err
	})
	if err != nil || n < 10 {
		t.Errorf("%d blobs, %v", n, err)
	}
}
