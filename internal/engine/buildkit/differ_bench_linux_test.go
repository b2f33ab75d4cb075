//go:build cgo

package buildkit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/DataDog/zstd"
	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/layer"
)

// TestDifferShareOfLimit measures what part of the limit the differ reaches on
// the tree named by LIGHTER_BENCH_TREE, which stands for an upperdir. The limit
// is the CPU time of sha256 over the tar and the blob and of libzstd -3, one
// plain stream, over the tar, divided by the cores. Everything is in memory or
// in the page cache. Rounds are interleaved, because the machines are noisy;
// where others use the cores as well, the CPU efficiency (limit by CPU time
// spent) says more than the share (limit by wall time).
func TestDifferShareOfLimit(t *testing.T) {
	tree := os.Getenv("LIGHTER_BENCH_TREE")
	if tree == "" {
		t.Skip("LIGHTER_BENCH_TREE names no tree")
	}
	tar, blob := benchInputs(t, tree)
	cores := float64(runtime.GOMAXPROCS(0))
	benchCompare(t, tree) // warms up
	var rounds []benchRound
	for range 5 {
		var r benchRound
		r.limit = benchLimit(t, tar, blob)
		r.usage = benchCompare(t, tree)
		r.share = r.limit / cores / r.usage.wall
		r.efficiency = r.limit / r.usage.cpu()
		rounds = append(rounds, r)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	defer w.Flush()
	fmt.Printf("%s: tar %d MB, blob %d MB, %v cores\n", tree, len(tar)/1e6, len(blob)/1e6, cores)
	fmt.Fprintln(w, "round\tlimit s\twall s\tshare\tlimit CPU s\tuser\tsys\tCPU efficiency\tcores busy\t")
	row := func(name string, r benchRound) {
		fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%.0f %%\t%.2f\t%.2f\t%.2f\t%.0f %%\t%.0f %%\t\n", name, r.limit/cores, r.usage.wall, 100*r.share,
			r.limit, r.usage.user, r.usage.sys, 100*r.efficiency, 100*r.usage.cpu()/r.usage.wall/cores)
	}
	for i, r := range rounds {
		row(fmt.Sprint(i+1), r)
	}
	row("median", medianRound(rounds))
}

type benchRound struct {
	limit             float64 // CPU seconds
	usage             usage
	share, efficiency float64
}

func medianRound(rounds []benchRound) benchRound {
	mid := func(f func(benchRound) float64) float64 {
		var all []float64
		for _, r := range rounds {
			all = append(all, f(r))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	return benchRound{
		limit:      mid(func(r benchRound) float64 { return r.limit }),
		share:      mid(func(r benchRound) float64 { return r.share }),
		efficiency: mid(func(r benchRound) float64 { return r.efficiency }),
		usage: usage{
			wall: mid(func(r benchRound) float64 { return r.usage.wall }),
			user: mid(func(r benchRound) float64 { return r.usage.user }),
			sys:  mid(func(r benchRound) float64 { return r.usage.sys }),
		},
	}
}

// usage is in seconds.
type usage struct{ wall, user, sys float64 }

func (u usage) cpu() float64 { return u.user + u.sys }

func measure(t *testing.T, f func() error) usage {
	t.Helper()
	runtime.GC()
	var before, after unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &before)
	start := time.Now()
	if err := f(); err != nil {
		t.Fatal(err)
	}
	wall := time.Since(start)
	_ = unix.Getrusage(unix.RUSAGE_SELF, &after)
	sec := func(a, b unix.Timeval) float64 { return float64(b.Nano()-a.Nano()) / 1e9 }
	return usage{wall.Seconds(), sec(before.Utime, after.Utime), sec(before.Stime, after.Stime)}
}

// benchInputs are the tar and the blob of the tree.
func benchInputs(t *testing.T, tree string) (tar, blob []byte) {
	var in, out bytes.Buffer
	if _, err := layer.WriteChanges(context.Background(), &in, layer.ChangeSet{Upper: tree}); err != nil {
		t.Fatal(err)
	}
	pool := codec.NewPool(0)
	defer pool.Close()
	w, err := pool.NewWriter(&out, codec.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(in.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return in.Bytes(), out.Bytes()
}

// benchLimit is in CPU seconds.
func benchLimit(t *testing.T, tar, blob []byte) float64 {
	hash := func(b []byte) float64 {
		return measure(t, func() error { sha256.Sum256(b); return nil }).cpu()
	}
	stream := measure(t, func() error {
		w := zstd.NewWriterLevel(io.Discard, 3)
		for p := tar; len(p) > 0; p = p[min(len(p), 1<<20):] {
			if _, err := w.Write(p[:min(len(p), 1<<20)]); err != nil {
				return err
			}
		}
		return w.Close()
	})
	return hash(tar) + stream.cpu() + hash(blob)
}

// benchCompare makes the blob of tree once, in a store of its own.
func benchCompare(t *testing.T, tree string) usage {
	r := newDifferRig(t)
	empty := filepath.Join(r.dir, "empty")
	noError(t, os.Mkdir(empty, 0o755))
	upper := []mount.Mount{{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=" + tree + ":" + empty}}}
	unix.Sync()
	u := measure(t, func() error {
		_, err := r.compare(context.Background(), bind(empty), upper)
		return err
	})
	os.RemoveAll(r.dir)
	return u
}
