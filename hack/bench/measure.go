package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/engine/buildkit"
	"github.com/lighter-oci/lighter/internal/event"
)

// measure makes the layer's snapshot without exporting it, then exports and
// pushes it with everything else cached. The path in the layer changes with
// the round, so that no exporter finds a blob from before.
func measure(ctx context.Context, s *subject, opt options, reg *registryProcess, round int) (sample, error) {
	dir, err := contextDir(opt, round)
	if err != nil {
		return sample{}, err
	}
	req := engine.Request{Context: dir}
	if _, err := s.engine.Build(ctx, req, func(event.Event) {}); err != nil {
		return sample{}, fmt.Errorf("prepare: %w", err)
	}
	syscall.Sync() // the snapshot's own writeback is not the exporter's
	if err := touchMemory(); err != nil {
		return sample{}, err
	}
	attrs := maps.Clone(s.attrs)
	attrs["name"] = s.ref(reg, round)
	attrs["push"] = "true"
	attrs["oci-mediatypes"] = "true"
	req.Outputs = []engine.Output{{Entry: engine.Entry{Type: "image", Attrs: attrs}}}
	var spans spans
	resp, err := s.engine.Build(ctx, req, spans.add)
	if err != nil {
		return sample{}, err
	}
	out := sample{Export: spans.layers.seconds(), Total: spans.export.seconds()}
	layer, err := s.layer(ctx, resp.Digest)
	if err != nil {
		return out, err
	}
	out.Bytes = layer.Size
	if s.name != "lighter zstd:3" {
		return out, s.prune(ctx)
	}
	return out, nil // pruned after the limit is measured on its layer
}

// touched is more than an export and a push need of new memory, page cache
// included, bytes.
const touched = 2 << 30

// touchMemory uses memory and gives it back. A virtual machine with free page
// reporting hands what nobody uses to its host, and the next to touch a page
// waits until the host has found another: 1.7 s a GB where it was measured, up
// to a fifth of an export, and never twice the same. Everything that is
// measured starts behind this. It happens in a process of its own, whose memory
// is gone as a whole when it ends.
func touchMemory() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if out, err := exec.Command(self, "-touch").CombinedOutput(); err != nil {
		return fmt.Errorf("touch memory: %w: %s", err, out)
	}
	return nil
}

func touchPages() error {
	b, err := unix.Mmap(-1, 0, touched, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("touch %d bytes of memory: %w", touched, err)
	}
	for i := 0; i < len(b); i += os.Getpagesize() {
		b[i] = 1
	}
	return unix.Munmap(b)
}

func (s *subject) ref(reg *registryProcess, round int) string {
	return fmt.Sprintf("%s/bench/%s:%d", reg.addr, strings.NewReplacer(" ", "-", ":", "-").Replace(s.name), round)
}

func (s *subject) prune(ctx context.Context) error {
	return s.engine.Prune(ctx, buildkit.PruneOptions{All: true}, func(buildkit.CacheRecord) {})
}

// layer is the descriptor of the only layer of an image in the engine.
func (s *subject) layer(ctx context.Context, dgst string) (ocispec.Descriptor, error) {
	var m ocispec.Manifest
	if err := readJSON(ctx, s.engine.Content(), dgst, &m); err != nil {
		return ocispec.Descriptor{}, err
	}
	if len(m.Layers) != 1 {
		return ocispec.Descriptor{}, fmt.Errorf("%d layers, want 1", len(m.Layers))
	}
	return m.Layers[0], nil
}

// contextDir holds the Dockerfile of a round and the root file system.
func contextDir(opt options, round int) (string, error) {
	dir := filepath.Join(opt.dir, "context")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	tar := filepath.Join(dir, "rootfs.tar")
	if _, err := os.Stat(tar); err != nil {
		abs, err := filepath.Abs(opt.rootfs)
		if err != nil {
			return "", err
		}
		if err := os.Link(abs, tar); err != nil {
			if err := copyFile(abs, tar); err != nil {
				return "", err
			}
		}
	}
	df := fmt.Sprintf("FROM scratch\nADD rootfs.tar /%d/\n", round)
	return dir, os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(df), 0o644)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// spans reads BuildKit's own clock for the phases of an export.
type spans struct{ layers, export span }

type span struct{ from, to time.Time }

func (s *span) cover(from, to *time.Time) {
	if from != nil && (s.from.IsZero() || from.Before(s.from)) {
		s.from = *from
	}
	if to != nil && to.After(s.to) {
		s.to = *to
	}
}

func (s span) seconds() float64 { return s.to.Sub(s.from).Seconds() }

func (s *spans) add(e event.Event) {
	if e.Progress != nil && strings.Contains(e.Progress.ID, "exporting layers") {
		s.layers.cover(e.Progress.Started, e.Progress.Completed)
	}
	if e.Step != nil && e.Step.Name == "exporting to image" {
		s.export.cover(e.Step.Started, e.Step.Completed)
	}
}

// limit is the CPU time that no exporter can avoid.
type limit struct {
	tar, zstd, blob []float64 // CPU seconds of each round
	cores           int
}

func (l *limit) add(m limit) {
	l.tar, l.zstd, l.blob = append(l.tar, m.tar...), append(l.zstd, m.zstd...), append(l.blob, m.blob...)
	l.cores = m.cores
}

func (l *limit) seconds() float64 {
	return (medianOf(l.tar) + medianOf(l.zstd) + medianOf(l.blob)) / float64(l.cores)
}

// measureLimit takes the layer that was just exported apart and does the bare
// work on it: sha256 of the tar, libzstd -3 over the tar, sha256 of the blob,
// each on one core, all data in memory.
func measureLimit(ctx context.Context, s *subject, reg *registryProcess, round int) (limit, error) {
	tar, blob, err := s.layerBytes(ctx, round, reg)
	if err != nil {
		return limit{}, err
	}
	pool := codec.NewPool(1)
	defer pool.Close()
	out := limit{cores: runtime.NumCPU()}
	out.tar = []float64{cpuSeconds(func() { sha256.Sum256(tar) })}
	out.zstd = []float64{cpuSeconds(func() {
		w, werr := pool.NewWriter(io.Discard, codec.Options{Compression: codec.Compression{Codec: codec.Zstd, Level: 3}})
		if werr != nil {
			err = werr
			return
		}
		if _, err = w.Write(tar); err == nil {
			err = w.Close()
		}
	})}
	out.blob = []float64{cpuSeconds(func() { sha256.Sum256(blob) })}
	if err != nil {
		return out, err
	}
	return out, s.prune(ctx)
}

// layerBytes is the layer of a round as a tar and as a blob.
func (s *subject) layerBytes(ctx context.Context, round int, reg *registryProcess) (tar, blob []byte, err error) {
	var resp *engine.Response
	dir := filepath.Join(filepath.Dir(reg.data), "context")
	resp, err = s.engine.Build(ctx, engine.Request{Context: dir, Outputs: []engine.Output{{Entry: engine.Entry{Type: "image", Attrs: maps.Clone(s.attrs)}}}}, func(event.Event) {})
	if err != nil {
		return nil, nil, err
	}
	desc, err := s.layer(ctx, resp.Digest)
	if err != nil {
		return nil, nil, err
	}
	if blob, err = content.ReadBlob(ctx, s.engine.Content(), desc); err != nil {
		return nil, nil, err
	}
	pool := codec.NewPool(0)
	defer pool.Close()
	r, err := pool.NewParallelReader(bytes.NewReader(blob), int64(len(blob)))
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	tar, err = io.ReadAll(r)
	return tar, blob, err
}

// cpuSeconds is the CPU time, user and system, that f costs this process.
func cpuSeconds(f func()) float64 {
	before := cpuTime()
	f()
	return (cpuTime() - before).Seconds()
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // fails only for an unknown argument
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func readJSON(ctx context.Context, store content.Provider, dgst string, into any) error {
	raw, err := content.ReadBlob(ctx, store, ocispec.Descriptor{Digest: digest.Digest(dgst)})
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}
