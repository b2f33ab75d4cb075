package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/lighter-oci/lighter/internal/report"
)

// packs compares lighter pack with docker build's way to the same image, a
// Dockerfile of two stages on lighter's own engine, and with ko: nothing there
// yet, one line changed, and nothing changed.
func packs(ctx context.Context, opt options) error {
	var missed error
	for project := range strings.SplitSeq(opt.projects, ",") {
		prepare, ok := map[string]func(context.Context, options) (*packBench, error){"go": goPacks, "rust": rustPacks}[project]
		if !ok {
			return fmt.Errorf("-projects %s: want go or rust", project)
		}
		figures, err := onePacks(ctx, opt, prepare)
		if err != nil {
			return fmt.Errorf("%s: %w", project, err)
		}
		missed = errors.Join(missed, judge(figures))
	}
	return missed
}

func onePacks(ctx context.Context, opt options, prepare func(context.Context, options) (*packBench, error)) ([]figure, error) {
	b, err := prepare(ctx, opt)
	if err != nil {
		return nil, err
	}
	reg, err := startRegistry(ctx, b.dir)
	if err != nil {
		return nil, err
	}
	defer reg.stop()
	if b.reg, err = countBytes(reg.addr); err != nil {
		return nil, err
	}
	defer b.reg.Close()
	if err := b.sameCompiler(ctx); err != nil {
		return nil, err
	}
	for _, w := range b.ways {
		stop, err := b.ready(ctx, w)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		defer stop()
	}
	return b.compare(ctx)
}

// packBench is a project and the ways to an image of it.
type packBench struct {
	opt     options
	name    string
	dir     string // of everything below
	project string // as hack/projects.sh made it
	source  string // the file that changes
	text    string // in it, that is replaced
	line    string // by this, with a number
	env     []string
	ways    []*way

	compiler []string // that says its version
	reg      *counter
}

// way is one way from the project to a pushed image.
type way struct {
	name       string
	dockerfile string // "" for none
	contexts   map[string]string
	args       []string // without a Dockerfile
	env        []string
	project    string // its lighter.toml, "" for none
	plain      bool   // ours as it is without that: told, not judged
	before     func(ref string) error

	src, ref              string
	run                   []string
	cold, warm, unchanged []packed
	size                  int64
}

// packed is what one run came to.
type packed struct {
	seconds float64
	cpu     float64 // seconds of the command and all that it ran, but for an engine
	pushed  int64
}

func seconds(p packed) float64 { return p.seconds }
func pushed(p packed) float64  { return float64(p.pushed) }

// ready gives a way a copy of the project, a place to push to, and, where it
// needs one, an engine that has the base images and nothing else.
func (b *packBench) ready(ctx context.Context, w *way) (stop func(), err error) {
	name := strings.NewReplacer(" ", "-", ",", "").Replace(w.name)
	here := filepath.Join(b.dir, name)
	w.src, w.ref = filepath.Join(here, "src"), fmt.Sprintf("%s/%s:latest", b.reg.addr, name)
	if err := os.CopyFS(w.src, os.DirFS(filepath.Join(b.project, "src"))); err != nil {
		return nil, err
	}
	if w.project != "" {
		if err := os.WriteFile(filepath.Join(w.src, "lighter.toml"), []byte(w.project), 0o644); err != nil {
			return nil, err
		}
	}
	for i := range w.env {
		w.env[i] = strings.ReplaceAll(w.env[i], "HERE", here)
	}
	w.env = append(slices.Clone(b.env), w.env...)
	if w.before != nil {
		if err := w.before(w.ref); err != nil {
			return nil, err
		}
	}
	if w.dockerfile == "" {
		w.run = replaced(w.args, "REF", w.ref)
		return func() {}, nil
	}
	state := filepath.Join(here, "state")
	engine, err := startEngine(ctx, name, state, lighterCommand(b.opt))
	if err != nil {
		return nil, err
	}
	build := []string{b.opt.lighter, "--state", state, "build", "-q", "--compression", b.opt.compression}
	warm := ""
	for name, layout := range w.contexts {
		build = append(build, "--build-context", name+"="+layout)
		if strings.HasPrefix(layout, "oci-layout:") {
			warm += "FROM " + name + "\nRUN true\n"
		}
	}
	file := filepath.Join(here, "Dockerfile")
	if err := os.WriteFile(file+".warm", []byte(warm+"FROM scratch\nCOPY --from=0 /etc/passwd /0\nCOPY --from=1 /etc/passwd /1\n"), 0o644); err != nil {
		return engine.stop, err
	}
	if err := os.WriteFile(file, []byte(w.dockerfile), 0o644); err != nil {
		return engine.stop, err
	}
	w.run = slices.Concat(build, []string{"-f", file, "-t", w.ref, "--push", "."})
	_, err = b.step(ctx, w, slices.Concat(build, []string{"-f", file + ".warm", "."}))
	return engine.stop, err
}

// sameCompiler tells which compiler everybody uses, or that not everybody uses one.
func (b *packBench) sameCompiler(ctx context.Context) error {
	want, err := os.ReadFile(filepath.Join(b.project, "version"))
	if err != nil {
		return fmt.Errorf("%w: make it anew with hack/projects.sh", err)
	}
	out, err := exec.CommandContext(ctx, b.compiler[0], b.compiler[1:]...).Output()
	if err != nil {
		return err
	}
	in, here := strings.TrimSpace(string(want)), strings.TrimSpace(string(out))
	if !strings.Contains(here+" ", in+" ") {
		return fmt.Errorf("the builder image has %s, this machine %s: the ratios would be the compilers'", in, here)
	}
	fmt.Printf("%s: %s here and in the builder image; images are %s, base images gzip as they come;\n  the Dockerfiles' alpine is made of Debian's packages, of what Alpine's has (hack/base-images.sh)\n", b.name, here, b.opt.compression)
	return nil
}

func replaced(args []string, from, to string) []string {
	out := slices.Clone(args)
	for i := range out {
		out[i] = strings.ReplaceAll(out[i], from, to)
	}
	return out
}

// step runs one way's command in its copy of the project.
func (b *packBench) step(ctx context.Context, w *way, run []string) (packed, error) {
	syscall.Sync()
	if err := touchMemory(); err != nil {
		return packed{}, err
	}
	cmd := exec.CommandContext(ctx, run[0], run[1:]...)
	cmd.Dir, cmd.Env = w.src, append(os.Environ(), w.env...)
	before, started := b.reg.bytes.Load(), time.Now()
	out, err := cmd.CombinedOutput()
	took := packed{seconds: time.Since(started).Seconds(), pushed: b.reg.bytes.Load() - before}
	if s := cmd.ProcessState; s != nil {
		took.cpu = (s.UserTime() + s.SystemTime()).Seconds()
	}
	if err != nil {
		return took, fmt.Errorf("%s: %w: %s", strings.Join(run, " "), err, out[max(0, len(out)-3000):])
	}
	return took, nil
}

// compare goes all ways: cold once, then round by round, each first with another.
func (b *packBench) compare(ctx context.Context) ([]figure, error) {
	pristine, err := os.ReadFile(filepath.Join(b.project, "src", b.source))
	if err != nil {
		return nil, err
	}
	if !strings.Contains(string(pristine), b.text) {
		return nil, fmt.Errorf("%s has no %q to change", b.source, b.text)
	}
	for round := range b.opt.rounds + 1 {
		changed := strings.Replace(string(pristine), b.text, fmt.Sprintf(b.line, round), 1)
		for i := range b.ways {
			w := b.ways[(i+round)%len(b.ways)]
			if err := os.WriteFile(filepath.Join(w.src, b.source), []byte(changed), 0o644); err != nil {
				return nil, err
			}
			got, err := b.step(ctx, w, w.run)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", w.name, err)
			}
			if round == 0 {
				w.cold = append(w.cold, got)
				fmt.Printf("%-5s cold     %-39s %7.2f s  pushed %s\n", b.name, w.name, got.seconds, report.Bytes(got.pushed))
				continue
			}
			w.warm = append(w.warm, got)
			again, err := b.step(ctx, w, w.run)
			if err != nil {
				return nil, fmt.Errorf("%s, unchanged: %w", w.name, err)
			}
			w.unchanged = append(w.unchanged, again)
			fmt.Printf("%-5s round %-2d %-39s %7.2f s  pushed %s; unchanged %5.2f s, pushed %s\n", b.name, round, w.name,
				got.seconds, report.Bytes(got.pushed), again.seconds, report.Bytes(again.pushed))
		}
	}
	for _, w := range b.ways {
		if w.size, err = imageSize(w.ref); err != nil {
			return nil, err
		}
	}
	figures := b.figures()
	return figures, b.levels(ctx, string(pristine))
}

// middle is the median of a list.
func middle(list []packed, f func(packed) float64) float64 {
	v := make([]float64, 0, len(list))
	for _, p := range list {
		v = append(v, f(p))
	}
	return medianOf(v)
}

// times is the median, over the rounds, of how many times more than ours theirs
// took: other work on the machine is then on both.
func times(theirs, ours []packed, f func(packed) float64) float64 {
	var v []float64
	for i := range ours {
		v = append(v, f(theirs[i])/f(ours[i]))
	}
	return medianOf(v)
}

// figures prints the table, and answers the promises: the first way is ours, the
// second the Dockerfile as it is usually written.
func (b *packBench) figures() []figure {
	fmt.Printf("\n%s, medians of %d rounds on %d cores\n  %-39s %10s %10s %10s %12s %12s\n", b.name, b.opt.rounds, runtime.NumCPU(),
		"", "cold", "one line", "unchanged", "then pushed", "image")
	for _, w := range b.ways {
		fmt.Printf("  %-39s %8.2f s %8.2f s %8.2f s %12s %12s\n", w.name, middle(w.cold, seconds), middle(w.warm, seconds), middle(w.unchanged, seconds),
			report.Bytes(int64(middle(w.warm, pushed))), report.Bytes(w.size))
	}
	us, usual := b.ways[0], b.ways[1]
	figures := []figure{
		atLeast("one line, times faster than "+usual.name, times(usual.warm, us.warm, seconds), 10),
		atLeast("image, times smaller than "+usual.name+"'s", float64(usual.size)/float64(us.size), 2.5),
		atMost("unchanged, seconds", middle(us.unchanged, seconds), 1),
		atMost("unchanged, bytes pushed", middle(us.unchanged, pushed), 0),
	}
	for _, w := range b.ways[1:] {
		if w.plain {
			b.told(w)
			continue
		}
		if w != usual {
			figures = append(figures, atLeast("one line, times faster than "+w.name, times(w.warm, us.warm, seconds), 1))
		}
		if w.dockerfile == "" { // which could do the same
			figures = append(figures,
				atLeast("unchanged, times faster than "+w.name, times(w.unchanged, us.unchanged, seconds), 1),
				atMost("image, share of "+w.name+"'s", float64(us.size)/float64(w.size), 1))
		}
		figures = append(figures, atMost("one line, bytes pushed, share of "+w.name+"'s", 1/times(w.warm, us.warm, pushed), 1))
	}
	return figures
}

// told prints what our way is worth without what makes it quick.
func (b *packBench) told(w *way) {
	for _, other := range b.ways {
		if other.dockerfile != "" {
			fmt.Printf("  %s, not judged: one line, times faster than %s: %.2f\n", w.name, other.name, times(other.warm, w.warm, seconds))
		}
	}
}
