package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lighter-oci/lighter/internal/report"
)

// levels tells what other levels cost and save: one line is changed for each, and
// ours compiled and packed anew. The Dockerfile's image is nothing but exported at
// the same level, because only its size is of interest.
func (b *packBench) levels(ctx context.Context, pristine string) error {
	if b.opt.levels == "" {
		return nil
	}
	us, usual := b.ways[0], b.ways[1]
	fmt.Printf("  at other levels %18s %10s %12s %28s\n", "one line", "of CPU", "image", usual.name+"'s, times larger")
	number := b.opt.rounds
	for i, level := range slices.Concat([]string{b.opt.compression}, strings.Split(b.opt.levels, ",")) {
		if i > 0 && level == b.opt.compression {
			continue
		}
		number++
		changed := strings.Replace(pristine, b.text, fmt.Sprintf(b.line, number), 1)
		if err := os.WriteFile(filepath.Join(us.src, b.source), []byte(changed), 0o644); err != nil {
			return err
		}
		ours, got, err := b.at(ctx, us, level)
		if err != nil {
			return err
		}
		theirs, _, err := b.at(ctx, usual, level)
		if err != nil {
			return err
		}
		fmt.Printf("  %-15s %16.2f s %8.2f s %12s %16s, %8.2f\n", level, got.seconds, got.cpu, report.Bytes(ours), report.Bytes(theirs), float64(theirs)/float64(ours))
	}
	return nil
}

// at runs a way once, with layers of another level.
func (b *packBench) at(ctx context.Context, w *way, level string) (size int64, got packed, err error) {
	run := slices.Clone(w.run)
	run[slices.Index(run, "--compression")+1] = level
	if got, err = b.step(ctx, w, run); err != nil {
		return 0, got, fmt.Errorf("%s at %s: %w", w.name, level, err)
	}
	size, err = imageSize(w.ref)
	return size, got, err
}
