package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/report"
)

// conversions compares lighter convert with skopeo: the same gzip image of one
// layer, and of eight, from a registry to the same registry as zstd:3.
func conversions(ctx context.Context, opt options) error {
	reg, err := startRegistry(ctx, opt.dir)
	if err != nil {
		return err
	}
	defer reg.stop()
	if err := pushImages(ctx, opt, reg); err != nil {
		return err
	}
	var figures []figure
	for _, layers := range []int{1, 8} {
		converters := []*converter{lighterConvert(opt, reg, layers), skopeoCopy(opt, reg, layers)}
		for round := 1; round <= opt.rounds; round++ {
			for i := range converters {
				c := converters[(i+round)%len(converters)]
				if err := c.run(ctx, reg, round); err != nil {
					return fmt.Errorf("%s, round %d: %w", c.name, round, err)
				}
			}
		}
		ours, theirs := converters[0], converters[1]
		faster := map[int]float64{1: 1.5, 8: 1.3}[layers]
		what := fmt.Sprintf("%d layers: ", layers)
		if layers == 1 {
			what = "1 layer: "
		}
		figures = append(figures,
			atLeast(what+"times faster than skopeo", theirs.median(wall)/ours.median(wall), faster),
			atMost(what+"CPU time as a share of skopeo's", ours.median(cpu)/theirs.median(cpu), 0.7),
			atMost(what+"size as a share of skopeo's", ours.median(size)/theirs.median(size), 1),
			atMost(what+"peak memory, MB", ours.median(memory)/1e6, 400))
	}
	return judge(figures)
}

// converter is one way to convert, and what it took.
type converter struct {
	name    string
	command func(ctx context.Context, to string) *exec.Cmd
	to      string
	taken   []taken
}

type taken struct{ wall, cpu, memory, size float64 } // s, s, bytes, bytes

func wall(t taken) float64   { return t.wall }
func cpu(t taken) float64    { return t.cpu }
func memory(t taken) float64 { return t.memory }
func size(t taken) float64   { return t.size }

func (c *converter) median(f func(taken) float64) float64 {
	var v []float64
	for _, t := range c.taken {
		v = append(v, f(t))
	}
	return medianOf(v)
}

func source(reg *registryProcess, layers int) string {
	return fmt.Sprintf("%s/convert/gzip:%d", reg.addr, layers)
}

func lighterConvert(opt options, reg *registryProcess, layers int) *converter {
	return &converter{name: fmt.Sprintf("lighter, %d layers", layers), to: fmt.Sprintf("%s/convert/lighter-%d", reg.addr, layers),
		command: func(ctx context.Context, to string) *exec.Cmd {
			cmd := exec.CommandContext(ctx, opt.lighter, "convert", "-q", source(reg, layers), to)
			cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+filepath.Join(opt.dir, "no-journal", to))
			return cmd
		}}
}

func skopeoCopy(opt options, reg *registryProcess, layers int) *converter {
	return &converter{name: fmt.Sprintf("skopeo, %d layers", layers), to: fmt.Sprintf("%s/convert/skopeo-%d", reg.addr, layers),
		command: func(ctx context.Context, to string) *exec.Cmd {
			return exec.CommandContext(ctx, "hack/in-peers.sh", "skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false",
				"--dest-compress-format", "zstd", "--dest-compress-level", "3", "--dest-force-compress-format", "--insecure-policy",
				"docker://"+source(reg, layers), "docker://"+to)
		}}
}

// run converts into a repository that the registry has not seen.
func (c *converter) run(ctx context.Context, reg *registryProcess, round int) error {
	to := fmt.Sprintf("%s-%d:1", c.to, round)
	syscall.Sync()
	if err := touchMemory(); err != nil {
		return err
	}
	cmd := c.command(ctx, to)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	started := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	peak := watchMemory(cmd.Process.Pid)
	err := cmd.Wait()
	most := peak()
	if err != nil {
		return fmt.Errorf("%w: %s", err, said.String())
	}
	t := taken{memory: float64(most), wall: time.Since(started).Seconds(), cpu: (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()}
	img, err := readBack(ctx, to)
	if err != nil {
		return err
	}
	for _, l := range img.Manifests[0].Layers {
		t.size += float64(l.Descriptor.Size)
		if l.Codec != codec.Zstd {
			return fmt.Errorf("a layer is %s", l.Codec)
		}
	}
	c.taken = append(c.taken, t)
	fmt.Printf("round %d  %-18s %6.2f s  CPU %6.2f s  %4.0f MB of memory  %s\n", round, c.name, t.wall, t.cpu, t.memory/1e6, report.Bytes(int64(t.size)))
	return os.RemoveAll(filepath.Join(reg.data, "docker/registry/v2/repositories/convert", strings.Split(filepath.Base(to), ":")[0]))
}

// watchMemory looks at a process's peak memory until the function it answers is
// called, which answers the last that was seen, bytes.
func watchMemory(pid int) func() int64 {
	ended, peak := make(chan struct{}), make(chan int64)
	go func() {
		most := int64(0)
		for {
			select {
			case <-ended:
				peak <- most
				return
			case <-time.After(50 * time.Millisecond):
				if now, err := peakMemory(pid); err == nil {
					most = max(most, now)
				}
			}
		}
	}()
	return func() int64 {
		close(ended)
		return <-peak
	}
}

func readBack(ctx context.Context, name string) (*image.Image, error) {
	client := registry.New(registry.Options{})
	defer client.Close()
	ref, err := image.ParseReference(name)
	if err != nil {
		return nil, err
	}
	repo, err := client.Repository(ref)
	if err != nil {
		return nil, err
	}
	return image.Read(ctx, repo, ref.Identifier(), image.ReadOptions{})
}

// pushImages builds the images to convert: the root file system as one layer,
// and cut into eight of about the same size, as gzip:6.
func pushImages(ctx context.Context, opt options, reg *registryProcess) error {
	e, err := startEngine(ctx, "convert", filepath.Join(opt.dir, "convert-engine"), lighterCommand(opt))
	if err != nil {
		return err
	}
	defer e.stop()
	dir := filepath.Join(opt.dir, "convert-context")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, layers := range []int{1, 8} {
		if err := cut(opt.rootfs, dir, layers); err != nil {
			return err
		}
		df := "FROM scratch\n"
		for i := range layers {
			df += fmt.Sprintf("ADD part-%d-%d.tar /\n", layers, i)
		}
		if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(df), 0o644); err != nil {
			return err
		}
		attrs := map[string]string{"name": source(reg, layers), "push": "true", "compression": "gzip", "compression-level": "6"}
		req := engine.Request{Context: dir, Outputs: []engine.Output{{Entry: engine.Entry{Type: "image", Attrs: maps.Clone(attrs)}}}}
		if _, err := e.Build(ctx, req, func(event.Event) {}); err != nil {
			return fmt.Errorf("image of %d layers: %w", layers, err)
		}
	}
	return os.RemoveAll(dir)
}

// cut writes a tar's entries into n tars, in order, of about the same size.
func cut(file, dir string, n int) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	tr := tar.NewReader(in)
	var out *os.File
	var tw *tar.Writer
	for i, read := -1, int64(0); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return errors.Join(tw.Close(), out.Close())
		}
		if err != nil {
			return err
		}
		if part := int(read * int64(n) / info.Size()); part > i && h.Typeflag != tar.TypeLink {
			if tw != nil {
				if err := errors.Join(tw.Close(), out.Close()); err != nil {
					return err
				}
			}
			i++
			if out, err = os.Create(filepath.Join(dir, fmt.Sprintf("part-%d-%d.tar", n, i))); err != nil {
				return err
			}
			tw = tar.NewWriter(out)
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(tw, tr); err != nil {
			return err
		}
		read += h.Size + 512
	}
}

// judge prints the promises and fails where one is not kept.
func judge(figures []figure) error {
	var failed []string
	fmt.Println()
	for _, f := range figures {
		verdict := "ok"
		if !f.Holds {
			verdict = "MISSED"
			failed = append(failed, f.Name)
		}
		fmt.Printf("  %-48s %8.3f   (%s)  %s\n", f.Name, f.Got, f.Want, verdict)
	}
	if len(failed) > 0 {
		return errors.New("missed: " + strings.Join(slices.Compact(failed), "; "))
	}
	return nil
}
