// Command bench measures lighter against stock BuildKit on one machine, in one
// run: the same root file system, the same registry, in turn, round by round.
// It prints medians and ratios, and fails where a promise of the README is not
// kept.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/lighter-oci/lighter/internal/report"
)

func main() {
	var opt options
	flag.StringVar(&opt.rootfs, "rootfs", "", "tar of a root file system (hack/rootfs.sh)")
	flag.StringVar(&opt.stock, "stock", "", "directory with stock buildkitd (hack/stock.sh)")
	flag.StringVar(&opt.lighter, "lighter", "bin/lighter", "the binary to measure")
	flag.StringVar(&opt.dir, "dir", "", "scratch directory with 15 GB of room (default: a temporary one)")
	flag.IntVar(&opt.rounds, "rounds", 5, "rounds, each with every exporter once")
	flag.StringVar(&opt.what, "what", "export,convert", "what to measure, with commas between: export, convert, mounts, caches, pack, kitchen, log")
	flag.StringVar(&opt.projects, "projects", "go,rust", "what is packed, with -what pack: go, rust")
	flag.StringVar(&opt.compression, "compression", "zstd:3", "of images, with -what pack")
	flag.StringVar(&opt.levels, "levels", "zstd:6,zstd:9,zstd:12,zstd:19", "that packing is tried at besides, with -what pack")
	flag.IntVar(&opt.files, "files", 20000, "files of the cache mount, with -what mounts")
	flag.StringVar(&opt.json, "json", "", "write the figures to this file too")
	touch := flag.Bool("touch", false, "only touch memory, as is done before each measurement")
	mount := flag.String("mount", "", "only push or pull one directory, as is measured: -mount push DIR RECORD REF")
	flag.Parse()
	if *mount != "" {
		if err := oneMount(context.Background(), *mount, flag.Arg(0), flag.Arg(1), flag.Arg(2)); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if *touch {
		if err := touchPages(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, opt)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	rootfs, stock, lighter, dir, json, what string
	projects, compression, levels           string
	rounds, files                           int
}

// sample is one export and push of the layer.
type sample struct {
	Export float64 `json:"export"` // seconds that the layer took to make
	Total  float64 `json:"total"`  // seconds from the start of the export to the end of the push
	Bytes  int64   `json:"bytes"`  // of the layer blob
}

// subject is one exporter under measurement.
type subject struct {
	name    string
	engine  *engineProcess
	attrs   map[string]string
	samples []sample
}

func run(ctx context.Context, opt options) error {
	if opt.dir == "" {
		dir, err := os.MkdirTemp("", "lighter-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		opt.dir = dir
	}
	if strings.Contains(opt.what, "export") || strings.Contains(opt.what, "convert") {
		info, err := os.Stat(opt.rootfs)
		if err != nil {
			return fmt.Errorf("%w: make it with hack/rootfs.sh", err)
		}
		fmt.Printf("root file system: %s, %s\n", filepath.Base(opt.rootfs), report.Bytes(info.Size()))
	}
	var missed error
	for what := range strings.SplitSeq(opt.what, ",") {
		measure, ok := map[string]func(context.Context, options) error{"export": exports, "convert": conversions, "mounts": cacheMounts, "caches": caches, "pack": packs, "kitchen": kitchens, "log": logs}[what]
		if !ok {
			return fmt.Errorf("-what %s: want export, convert, mounts, caches, pack, kitchen or log", what)
		}
		fmt.Printf("\n%s\n", what)
		missed = errors.Join(missed, measure(ctx, opt))
	}
	return missed
}

// exports compares the exporter with stock BuildKit's.
func exports(ctx context.Context, opt options) error {
	reg, err := startRegistry(ctx, opt.dir)
	if err != nil {
		return err
	}
	defer reg.stop()
	ours, err := startEngine(ctx, "lighter", filepath.Join(opt.dir, "ours"), lighterCommand(opt))
	if err != nil {
		return err
	}
	defer ours.stop()
	stock, err := startEngine(ctx, "stock", filepath.Join(opt.dir, "stock"), stockCommand(opt))
	if err != nil {
		return err
	}
	defer stock.stop()

	subjects := []*subject{
		{name: "lighter zstd:3", engine: ours, attrs: map[string]string{"compression": "zstd", "compression-level": "3"}},
		{name: "stock zstd", engine: stock, attrs: map[string]string{"compression": "zstd"}},
		{name: "stock gzip", engine: stock, attrs: map[string]string{"compression": "gzip"}},
	}
	var bound limit
	for round := 1; round <= opt.rounds; round++ {
		// Every round starts with another one, so that none always follows the
		// heaviest.
		for i := range subjects {
			s := subjects[(i+round)%len(subjects)]
			got, err := measure(ctx, s, opt, reg, round)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", s.name, round, err)
			}
			s.samples = append(s.samples, got)
			fmt.Printf("round %d  %-15s export %6.2f s  export+push %6.2f s  %s\n", round, s.name, got.Export, got.Total, report.Bytes(got.Bytes))
			if s == subjects[0] {
				l, err := measureLimit(ctx, s, reg, round)
				if err != nil {
					return err
				}
				bound.add(l)
			}
		}
		if err := reg.clear(); err != nil {
			return err
		}
	}
	return conclude(opt, subjects, ours, &bound)
}

func median(samples []sample, f func(sample) float64) float64 {
	v := make([]float64, 0, len(samples))
	for _, s := range samples {
		v = append(v, f(s))
	}
	return medianOf(v)
}

func medianOf(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	if len(v)%2 == 1 {
		return v[len(v)/2]
	}
	return (v[len(v)/2-1] + v[len(v)/2]) / 2
}

// figure is one promise and what came of it.
type figure struct {
	Name  string  `json:"name"`
	Got   float64 `json:"got"`
	Want  string  `json:"want"`
	Holds bool    `json:"holds"`
}

// conclude prints the table and the promises.
func conclude(opt options, subjects []*subject, ours *engineProcess, bound *limit) error {
	export := func(s sample) float64 { return s.Export }
	total := func(s sample) float64 { return s.Total }
	bytes := func(s sample) float64 { return float64(s.Bytes) }
	fmt.Printf("\nmedians of %d rounds\n", opt.rounds)
	for _, s := range subjects {
		fmt.Printf("  %-15s export %6.2f s  export+push %6.2f s  %s\n", s.name,
			median(s.samples, export), median(s.samples, total), report.Bytes(int64(median(s.samples, bytes))))
	}
	us, zstd, gzip := subjects[0], subjects[1], subjects[2]
	peak, err := peakMemory(ours.cmd.Process.Pid)
	if err != nil {
		return err
	}
	limitSeconds := bound.seconds()
	fmt.Printf("  limit: (sha256 of tar %.2f + libzstd -3 %.2f + sha256 of blob %.2f CPU s) / %d cores = %.2f s\n",
		medianOf(bound.tar), medianOf(bound.zstd), medianOf(bound.blob), bound.cores, limitSeconds)
	figures := []figure{
		atLeast("export + push, times faster than stock gzip", median(gzip.samples, total)/median(us.samples, total), 6),
		atLeast("export + push, times faster than stock zstd", median(zstd.samples, total)/median(us.samples, total), 1.5),
		atMost("layer size as a share of stock gzip's", median(us.samples, bytes)/median(gzip.samples, bytes), 1),
		atLeast("share of the limit that the export reaches", limitSeconds/median(us.samples, export), 0.8),
		atMost("peak memory of the engine, MB", float64(peak)/1e6, 600),
	}
	if opt.json != "" {
		raw, err := json.MarshalIndent(map[string]any{"when": time.Now().UTC(), "figures": figures, "samples": map[string][]sample{
			us.name: us.samples, zstd.name: zstd.samples, gzip.name: gzip.samples,
		}}, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(opt.json, append(raw, '\n'), 0o644); err != nil {
			return err
		}
	}
	return judge(figures)
}

func atLeast(name string, got, want float64) figure {
	return figure{Name: name, Got: got, Want: fmt.Sprintf("at least %.1f", want), Holds: got >= want}
}

func atMost(name string, got, want float64) figure {
	return figure{Name: name, Got: got, Want: fmt.Sprintf("at most %g", want), Holds: got <= want}
}
