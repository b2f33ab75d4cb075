// Command chunked compares what zstd:chunked layers of one tar cost, made by
// lighter and by Buildah. Each is a process of its own, in turn, and the CPU
// seconds are what the kernel counted for it. hack/chunked.sh runs it.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/layer"
)

// sample is what one layer cost.
type sample struct {
	cpu, wall float64 // seconds
	size      int64
}

// subject makes a layer into a file or a directory, whose largest file it is.
type subject struct {
	name string
	make func(out string) *exec.Cmd
}

func main() {
	rounds := flag.Int("rounds", 3, "how often each is measured; the medians are printed")
	levels := flag.String("levels", "3,5", "lighter's levels")
	theirs := flag.String("buildah", "0,3", "Buildah's levels; 0 is its default")
	one := flag.Int("one", 0, "write one layer at this level to the second argument, and nothing else")
	flag.Parse()
	run := func() error {
		return compare(flag.Arg(0), *rounds, strings.Split(*levels, ","), strings.Split(*theirs, ","))
	}
	if *one > 0 {
		run = func() error { return write(flag.Arg(0), flag.Arg(1), *one) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "chunked:", err)
		os.Exit(1)
	}
}

// write is the process that is measured: tar to blob, with both digests, as an
// exporter makes it.
func write(tarball, out string, level int) error {
	in, err := os.Open(tarball)
	if err != nil {
		return err
	}
	defer in.Close()
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	sum := sha256.New()
	w := bufio.NewWriterSize(io.MultiWriter(f, sum), 1<<20)
	res, err := layer.WriteChunked(context.Background(), w, in, codec.NewPool(0), layer.ChunkedOptions{Compression: codec.Compression{Level: level}})
	if err != nil {
		return err
	}
	if res.Plain != "" {
		return fmt.Errorf("%s has no table of contents: %s", tarball, res.Plain)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

func compare(tarball string, rounds int, levels, theirs []string) error {
	dir, err := os.MkdirTemp("", "chunked")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var all []subject
	for _, l := range levels {
		all = append(all, subject{"lighter zstd:" + l, func(out string) *exec.Cmd { return exec.Command(self, "-one", l, tarball, out) }})
	}
	image, err := buildahImage(dir, tarball)
	if err != nil {
		return err
	}
	for _, l := range theirs {
		name := "Buildah, level " + l
		args := []string{"push", "-q", "--force-compression", "--compression-format", "zstd:chunked"}
		if n, err := strconv.Atoi(l); err != nil {
			return err
		} else if n > 0 {
			args = append(args, "--compression-level", l)
		} else {
			name = "Buildah"
		}
		all = append(all, subject{name, func(out string) *exec.Cmd { return buildah(dir, append(args, image, "oci:"+out)...) }})
	}
	samples := make([][]sample, len(all))
	for range rounds {
		for i, s := range all {
			m, err := measure(s, filepath.Join(dir, "out"))
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			samples[i] = append(samples[i], m)
		}
	}
	fmt.Printf("%-20s %8s %8s %12s\n", "", "CPU s", "wall s", "bytes")
	for i, s := range all {
		m := samples[i]
		fmt.Printf("%-20s %8.2f %8.2f %12d\n", s.name, median(m, func(s sample) float64 { return s.cpu }),
			median(m, func(s sample) float64 { return s.wall }), m[0].size)
	}
	return nil
}

func measure(s subject, out string) (sample, error) {
	defer os.RemoveAll(out)
	cmd := s.make(out)
	cmd.Stderr = os.Stderr
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return sample{}, err
	}
	m := sample{wall: time.Since(start).Seconds(), cpu: (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()}
	return m, filepath.Walk(out, func(_ string, fi os.FileInfo, err error) error {
		if err == nil {
			m.size = max(m.size, fi.Size())
		}
		return err
	})
}

// buildah runs the newer one that hack/peers.sh installs, on a store in dir.
func buildah(dir string, args ...string) *exec.Cmd {
	return exec.Command("hack/in-peers.sh", append([]string{"-b", dir, "buildah", "--root", dir + "/root", "--runroot", dir + "/run",
		"--storage-driver", "vfs"}, args...)...)
}

// buildahImage puts the tar into Buildah's store as an image of one layer.
func buildahImage(dir, tarball string) (string, error) {
	local := filepath.Join(dir, "layer.tar") // seen at this path in there
	if out, err := exec.Command("cp", "--reflink=auto", tarball, local).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	id, err := buildah(dir, "from", "scratch").Output()
	if err != nil {
		return "", fmt.Errorf("buildah from: %w", err)
	}
	container := strings.TrimSpace(string(id))
	for _, args := range [][]string{{"add", container, local, "/"}, {"commit", "-q", "--disable-compression", container, "measured"}} {
		if out, err := buildah(dir, args...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("buildah %s: %w: %s", args[0], err, out)
		}
	}
	return "measured", nil
}

func median(samples []sample, of func(sample) float64) float64 {
	var v []float64
	for _, s := range samples {
		v = append(v, of(s))
	}
	slices.Sort(v)
	return v[len(v)/2]
}
