package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/project"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
	"github.com/lighter-oci/lighter/internal/tune"
)

// tuneCmd finds the level that pays for one image, by trying.
type tuneCmd struct {
	Source string `arg:"" name:"image|dir" help:"Image (NAME in a registry, oci:DIR, oci-archive:FILE, docker-archive:FILE, docker-daemon:NAME, containerd:NAME) or directory (dir:PATH, or a path)."`

	Levels        string        `placeholder:"LEVELS" help:"What to try (default zstd:1,3,6,9,12,15,19,gzip:6)."`
	Bandwidth     string        `default:"1gbit" help:"Between registry and clients: 100mbit, 1gbit, 100MB/s."`
	PullsPerBuild int           `default:"20" help:"How often an image is pulled for each time that it is built."`
	Sample        string        `default:"256MB" help:"How much of the layers to measure, spread over all of them, or all."`
	Rounds        int           `default:"3" help:"How often to measure each level; medians count."`
	TimeLimit     time.Duration `default:"2m" help:"For measuring; 0 is none. Slow levels get fewer rounds, or none."`
	Platform      string        `predictor:"platform" placeholder:"OS/ARCH" help:"Of an image that has several (default: this machine's)."`
	Format        string        `enum:"text,json" default:"text" help:"Result as text on standard error or json on standard output."`
	SVG           string        `name:"svg" type:"path" placeholder:"FILE" help:"Write a picture: size against speed."`
	HTML          string        `name:"html" type:"path" placeholder:"FILE" help:"Write a report of one file: picture, figures, how they were made."`
}

// Help is what `lighter tune --help` says below the flags.
func (tuneCmd) Help() string {
	return "Recommended is the level with the least of compressing + pushing + N pulls. " +
		"A path that is a directory is one, or an OCI layout if it holds a file oci-layout, even where an image has the same name: " +
		"docker://NAME means the image, dir:PATH the directory. The sample is held in memory, twice at most."
}

// tuneOptions are the flags, understood.
type tuneOptions struct {
	levels    []codec.Compression
	bandwidth report.Bandwidth
	sample    int64
	platform  string
}

// minSample is the least that is worth measuring, bytes.
const minSample = 1 << 20

func (c *tuneCmd) options() (o tuneOptions, err error) {
	if o.levels, err = tune.ParseLevels(c.Levels); err != nil {
		return o, fmt.Errorf("--levels: %w", err)
	}
	if o.bandwidth, err = report.ParseBandwidth(c.Bandwidth); err != nil {
		return o, fmt.Errorf("--bandwidth: %w", err)
	}
	switch {
	case c.PullsPerBuild < 0 || c.PullsPerBuild > 1_000_000:
		return o, fmt.Errorf("--pulls-per-build %d: use 0 to 1000000", c.PullsPerBuild)
	case c.Rounds < 1 || c.Rounds > 100:
		return o, fmt.Errorf("--rounds %d: use 1 to 100", c.Rounds)
	case c.TimeLimit < 0:
		return o, fmt.Errorf("--time-limit %v: use 0 for none", c.TimeLimit)
	}
	if c.Sample != "all" {
		if o.sample, err = project.ParseSize(c.Sample); err != nil || o.sample < minSample {
			return o, fmt.Errorf("--sample %q: use at least 2MB, or all", c.Sample)
		}
	}
	if c.Platform != "" {
		p, err := platforms.Parse(c.Platform)
		if err != nil {
			return o, fmt.Errorf("--platform %q: use linux/amd64, linux/arm64 and so on", c.Platform)
		}
		o.platform = platforms.Format(p)
	}
	return o, c.checkFiles()
}

// checkFiles finds out before minutes of measuring what would fail after them.
func (c *tuneCmd) checkFiles() error {
	for flag, path := range map[string]string{"--svg": c.SVG, "--html": c.HTML} {
		if path == "" {
			continue
		}
		if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
			return fmt.Errorf("%s %s: there is no directory %s", flag, path, filepath.Dir(path))
		}
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return fmt.Errorf("%s %s: it is a directory: name a file", flag, path)
		}
	}
	return nil
}

// Run measures and recommends.
func (c *tuneCmd) Run(ctx context.Context, out *term.Output) (err error) {
	out.JSON = c.Format == "json"
	opts, err := c.options()
	if err != nil {
		return usageError{err}
	}
	where, err := parseTuned(c.Source)
	if err != nil {
		return usageError{err}
	}
	view := out.NewTrials(out.JSON)
	defer view.Close()
	started := time.Now()
	// The pool is not closed: frames at high levels, which take seconds, may
	// still be on their way when Ctrl-C or the time limit has ended the rest.
	pool := codec.NewPool(0)
	t, err := c.measure(ctx, where, opts, pool, view)
	view.Close()
	if errors.Is(context.Cause(ctx), errInterrupted) {
		return codeError{exitInterrupted, &tune.Problem{Err: errors.New("interrupted, nothing was written"), Next: "--time-limit and --sample make it shorter"}}
	}
	if err != nil {
		return orPath(c.Source, where.image, fmt.Errorf("tune %s: %w", where.short(), err))
	}
	t.Took = report.Seconds(time.Since(started))
	if err := c.write(t); err != nil {
		return err
	}
	return out.Tuning(t)
}

// measure reads the sample, tries all levels on it and concludes.
func (c *tuneCmd) measure(ctx context.Context, where tuned, o tuneOptions, pool *codec.Pool, view *term.Trials) (*report.Tuning, error) {
	sample, platform, err := readSample(ctx, where, o, pool, view)
	if err != nil {
		return nil, err
	}
	got, err := tune.Measure(ctx, sample, tune.Options{Pool: pool, Levels: o.levels, Rounds: c.Rounds, TimeLimit: c.TimeLimit, Report: view.Add})
	if err != nil {
		return nil, err
	}
	t := tuning(sample, got)
	t.Subject, t.Platform, t.Bandwidth, t.PullsPerBuild = where.String(), platform, o.bandwidth, c.PullsPerBuild
	t.Conclude()
	t.Notes = append(t.Notes, t.Doubts()...)
	return t, nil
}

// readSample opens an image or a directory and reads it once.
func readSample(ctx context.Context, where tuned, o tuneOptions, pool *codec.Pool, view *term.Trials) (s *tune.Sample, platform string, err error) {
	if where.dir != "" {
		layers, err := tune.DirLayers(where.dir)
		if err != nil {
			return nil, "", err
		}
		s, err = tune.ReadSample(ctx, layers, o.sample, view.Add)
		return s, "", err
	}
	places := newPlaces()
	defer func() { err = errors.Join(err, places.Close()) }()
	src, err := places.source(ctx, where.image)
	if err != nil {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	img, err := image.Read(ctx, src, src.ref, image.ReadOptions{})
	if err != nil {
		return nil, "", err
	}
	m, err := tune.Choose(img, o.platform, platforms.Format(platforms.Normalize(ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH})))
	if err != nil {
		return nil, "", err
	}
	layers, err := tune.ImageLayers(src, m, pool)
	if err != nil {
		return nil, "", err
	}
	s, err = tune.ReadSample(ctx, layers, o.sample, view.Add)
	return s, m.Platform, err
}

// write makes the files that were asked for.
func (c *tuneCmd) write(t *report.Tuning) error {
	if c.SVG != "" {
		if err := writeFile(c.SVG, []byte(t.SVG())); err != nil {
			return &fileError{"--svg", c.SVG, err}
		}
	}
	if c.HTML != "" {
		page, err := t.HTML()
		if err == nil {
			err = writeFile(c.HTML, page)
		}
		if err != nil {
			return &fileError{"--html", c.HTML, err}
		}
	}
	return nil
}
