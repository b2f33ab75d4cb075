package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/tune"
)

// tuned is what a level is looked for: a directory or an image.
type tuned struct {
	dir   string
	image image.Location
}

// parseTuned understands dir:PATH, the path of a directory, and image
// locations. A directory that is there wins over an image of the same name, as
// a build context does; what the result is of is always printed.
func parseTuned(s string) (tuned, error) {
	if dir, ok := strings.CutPrefix(s, "dir:"); ok {
		if dir == "" {
			return tuned{}, errors.New("dir: wants a path, as dir:PATH")
		}
		return tuned{dir: dir}, nil
	}
	if info, err := os.Stat(s); err == nil && info.IsDir() {
		if _, err := os.Stat(filepath.Join(s, ocispec.ImageLayoutFile)); err == nil {
			return tuned{image: image.Location{Transport: image.InLayout, Path: s}}, nil
		}
		return tuned{dir: s}, nil
	}
	l, err := image.ParseLocation(s)
	return tuned{image: l}, err
}

func (t tuned) String() string {
	if t.dir != "" {
		return "dir:" + t.dir
	}
	return t.image.String()
}

func (t tuned) short() string {
	if t.dir != "" {
		return t.String()
	}
	return t.image.Short()
}

// tuning is what was measured in the words of package report, brought up from
// the sample to the whole.
func tuning(s *tune.Sample, r *tune.Result) *report.Tuning {
	t := &report.Tuning{
		Cores: runtime.GOMAXPROCS(0), Tar: s.Tar, Entries: s.Entries, Sample: s.Bytes,
		Layers: []report.TunedLayer{}, Levels: []report.Level{}, LeftOut: []string{}, Notes: []string{},
	}
	for _, p := range s.Parts {
		t.Layers = append(t.Layers, report.TunedLayer{Name: p.Name, Blob: p.Blob, Tar: p.Tar, Sample: p.Sampled()})
	}
	scale := float64(s.Tar) / float64(s.Bytes)
	t.Hash = report.TimingOf(r.Hash).Times(float64(s.Tar) / float64(max(r.HashBytes, 1)))
	var writes []time.Duration
	for _, w := range r.Writes {
		entry := float64(w.EntriesTook) / float64(w.Entries)
		b := float64(w.BytesTook) / float64(max(w.Bytes, 1))
		writes = append(writes, time.Duration(entry*float64(s.Entries)+b*float64(s.Tar)))
	}
	t.Write = report.TimingOf(writes)
	for _, trial := range r.Trials {
		t.Levels = append(t.Levels, tunedLevel(trial, s, scale))
	}
	for _, c := range r.LeftOut {
		t.LeftOut = append(t.LeftOut, c.String())
	}
	return t
}

func tunedLevel(t tune.Trial, s *tune.Sample, scale float64) report.Level {
	times := func(of func(tune.Round) time.Duration) report.Timing {
		var list []time.Duration
		for _, r := range t.Rounds {
			list = append(list, of(r))
		}
		return report.TimingOf(list).Times(scale)
	}
	l := report.Level{
		Name: t.Compression.String(), Codec: string(t.Compression.Codec), Encoder: codec.Encoder(t.Compression), Rounds: len(t.Rounds),
		Size: int64(float64(t.Out) * scale), Ratio: float64(s.Bytes) / float64(max(t.Out, 1)),
		Compress: times(func(r tune.Round) time.Duration { return r.Compress }),
		CPU:      times(func(r tune.Round) time.Duration { return r.CPU }),
		Decode:   times(func(r tune.Round) time.Duration { return r.Decode }),
	}
	if t.Rounds[0].Parallel > 0 {
		p := times(func(r tune.Round) time.Duration { return r.Parallel })
		l.Parallel = &p
	}
	return l
}
