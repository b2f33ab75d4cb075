package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// caches compares builds on machines that are empty, which are states here, with
// and without what earlier builds have left in a registry: the compile step of a
// Go project with modules and of a C project, by their cache mounts, and the
// multi-stage example as a whole.
func caches(ctx context.Context, opt options) error {
	reg, err := startRegistry(ctx, opt.dir)
	if err != nil {
		return err
	}
	defer reg.stop()
	b := &cacheBench{opt: opt, reg: reg.addr}
	var figures []figure
	for _, p := range []struct {
		name string
		make func(context.Context, string) (args, sources []string, err error)
		line string // of source, that makes another program
	}{{"Go", b.goProject, "func init() { flag.Int(\"change%d\", 0, \"\") }\n"}, {"C", b.cProject, "int change_%d(int x) { return x + 1; }\n"}} {
		dir := filepath.Join(opt.dir, "project-"+p.name)
		args, sources, err := p.make(ctx, dir)
		if err != nil {
			return fmt.Errorf("%s project: %w", p.name, err)
		}
		got, err := b.compile(ctx, p.name, dir, sources, p.line, args)
		if err != nil {
			return fmt.Errorf("%s project: %w", p.name, err)
		}
		figures = append(figures, got...)
	}
	got, err := b.stages(ctx)
	if err != nil {
		return fmt.Errorf("example: %w", err)
	}
	return judge(append(figures, got...))
}

// cacheBench is the state of the comparison.
type cacheBench struct {
	opt options
	reg string
	n   int // states so far
}

// machine is an engine's state that nobody has used.
func (b *cacheBench) machine() string {
	b.n++
	return filepath.Join(b.opt.dir, fmt.Sprint("machine", b.n))
}

// built is what one build took, in seconds.
type built struct {
	total   float64
	compile float64 // in the step that compiles
	restore float64 // before it, of the step's cache mounts
	cached  int     // steps
	steps   int
}

var (
	compiled = regexp.MustCompile(`COMPILED (\d+) ms`)
	restored = regexp.MustCompile(`restoring cache mount \S+ ([\d.]+)s done`)
)

func (b *cacheBench) build(ctx context.Context, state string, args ...string) (got built, err error) {
	args = append([]string{"--engine", "inprocess", "--state", state, "build", "--progress", "plain", "--format", "json"}, args...)
	cmd := exec.CommandContext(ctx, b.opt.lighter, args...)
	var said, report bytes.Buffer
	cmd.Stderr, cmd.Stdout = &said, &report
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return got, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, said.Bytes()[max(0, said.Len()-2000):])
	}
	got.total = time.Since(began).Seconds()
	if m := compiled.FindSubmatch(said.Bytes()); m != nil {
		ms, _ := strconv.Atoi(string(m[1])) // digits
		got.compile = float64(ms) / 1000
	}
	for _, m := range restored.FindAllSubmatch(said.Bytes(), -1) {
		s, _ := strconv.ParseFloat(string(m[1]), 64)
		got.restore += s
	}
	var r struct {
		Summary struct{ Steps struct{ Total, Cached int } }
	}
	if err := json.Unmarshal(report.Bytes(), &r); err != nil {
		return got, err
	}
	got.cached, got.steps = r.Summary.Steps.Cached, r.Summary.Steps.Total
	return got, nil
}

// compile builds a project on one machine and sends its mounts; then, in each round,
// changes a source, and builds on that machine, which is warm, on an empty one
// that has the mounts brought to it, and on one that stays empty.
//
// Of the sources each round changes another one, from the first to the last: some
// take long to compile, and some do not.
func (b *cacheBench) compile(ctx context.Context, name, dir string, sources []string, change string, args []string) ([]figure, error) {
	ref := b.reg + "/" + strings.ToLower(name) + ":mounts"
	first := b.machine()
	if _, err := b.build(ctx, first, slices.Concat(args, []string{"--cache-mounts-to", ref, dir})...); err != nil {
		return nil, err
	}
	var warm, empty, cold []built
	for round := range b.opt.rounds {
		source := sources[round*len(sources)/b.opt.rounds]
		if err := appendTo(filepath.Join(dir, source), fmt.Sprintf(change, round)); err != nil {
			return nil, err
		}
		w, err := b.build(ctx, first, append(slices.Clone(args), dir)...)
		if err != nil {
			return nil, err
		}
		e, err := b.build(ctx, b.machine(), slices.Concat(args, []string{"--cache-mounts-from", ref, dir})...)
		if err != nil {
			return nil, err
		}
		c, err := b.build(ctx, b.machine(), append(slices.Clone(args), dir)...)
		if err != nil {
			return nil, err
		}
		fmt.Printf("round %d  %-3s %-20s warm %5.2f s  empty, restored %5.2f s, after %5.2f s of restoring; cold %5.2f s\n", round+1, name, filepath.Base(source), w.compile, e.compile, e.restore, c.compile)
		warm, empty, cold = append(warm, w), append(empty, e), append(cold, c)
	}
	of := func(list []built, f func(built) float64) float64 {
		var v []float64
		for _, x := range list {
			v = append(v, f(x))
		}
		return medianOf(v)
	}
	inStep := func(x built) float64 { return x.compile }
	withRestore := func(x built) float64 { return x.compile + x.restore }
	return []figure{
		atMost(name+": compiling on an empty machine, times warm", of(empty, inStep)/of(warm, inStep), 1.3),
		atLeast(name+": compiling on an empty machine, restoring included, times faster than cold", of(cold, inStep)/of(empty, withRestore), 5),
	}, nil
}

func appendTo(file, line string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(line); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// timed is a command that says how long it took.
func timed(command string) string {
	return `start=$(date +%s%N) && ` + command + ` && echo "COMPILED $((($(date +%s%N) - start) / 1000000)) ms"`
}

// goProject is a program of this repository, with the modules that it needs in a
// proxy that is a directory.
func (b *cacheBench) goProject(ctx context.Context, dir string) (args, sources []string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT", "GOMODCACHE").Output()
	if err != nil {
		return nil, nil, err
	}
	where := strings.Fields(string(out))
	// Built once here, the program leaves what it needs in a module cache.
	mods := filepath.Join(b.opt.dir, "modcache")
	fetch := exec.CommandContext(ctx, "sh", "-c", `cp -r cmd internal hack go.mod go.sum "$1" && go build -o "$1.bin" ./hack/mkbase && chmod -R u+w "$GOMODCACHE"`, "sh", dir)
	fetch.Env = append(os.Environ(), "CGO_ENABLED=0", "GOMODCACHE="+mods, "GOPROXY=file://"+where[1]+"/cache/download", "GOSUMDB=off", "GOFLAGS=-mod=mod", "GOCACHE="+mods+"-build")
	if out, err := fetch.CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("%w: %s", err, out)
	}
	base, err := b.base(ctx, "debian")
	if err != nil {
		return nil, nil, err
	}
	dockerfile := `FROM base
COPY . /src
WORKDIR /src
ENV CGO_ENABLED=0 GOPROXY=file:///proxy GOSUMDB=off GOFLAGS=-mod=mod GOMODCACHE=/mod GOCACHE=/root/.cache/go-build GOTOOLCHAIN=local
RUN --mount=type=bind,from=go,target=/usr/local/go --mount=type=bind,from=proxy,target=/proxy \
    --mount=type=cache,target=/mod --mount=type=cache,target=/root/.cache/go-build \
    ` + timed("/usr/local/go/bin/go build -o /app ./hack/mkbase") + "\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		return nil, nil, err
	}
	return []string{"--build-context", "base=oci-layout://" + base, "--build-context", "go=" + where[0], "--build-context", "proxy=" + filepath.Join(mods, "cache/download")},
		[]string{"hack/mkbase/main.go"}, nil
}

// cProject is libzstd, as a Go module of this repository carries it, with a
// Makefile that goes by the times of files.
func (b *cacheBench) cProject(ctx context.Context, dir string) (args, sources []string, err error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/DataDog/zstd").Output()
	if err != nil {
		return nil, nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	copied := exec.CommandContext(ctx, "sh", "-c", `cp "$1"/*.[chS] "$2" && chmod u+w "$2"/* && touch -d 2020-01-01 "$2"/*`, "sh", strings.TrimSpace(string(out)), dir)
	if out, err := copied.CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("%w: %s", err, out)
	}
	makefile := "OBJ := /obj\nobjects := $(patsubst %.c,$(OBJ)/%.o,$(wildcard *.c)) $(OBJ)/huf_decompress_amd64.o\n" +
		"/libzstd.a: $(objects)\n\tar rcs $@ $^\n$(OBJ)/%.o: %.c\n\tgcc -O3 -DZSTD_LEGACY_SUPPORT=0 -c -o $@ $<\n$(OBJ)/%.o: %.S\n\tgcc -c -o $@ $<\n"
	dockerfile := "FROM base\nCOPY . /src\nWORKDIR /src\nRUN --mount=type=cache,target=/obj " + timed("make -j2") + "\n"
	for name, content := range map[string]string{"Makefile": makefile, "Dockerfile": dockerfile} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return nil, nil, err
		}
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.c"))
	if err != nil {
		return nil, nil, err
	}
	for _, path := range paths {
		sources = append(sources, filepath.Base(path))
	}
	base, err := b.base(ctx, "gcc")
	return []string{"--build-context", "base=oci-layout://" + base}, sources, err
}

// base is the OCI layout of a base image.
func (b *cacheBench) base(ctx context.Context, name string) (string, error) {
	out, err := exec.CommandContext(ctx, "hack/base-images.sh", name).Output()
	return strings.TrimSpace(string(out)), err
}

// stages builds the six-stage example on empty machines: without a cache, and with
// the one that the first build left.
func (b *cacheBench) stages(ctx context.Context) ([]figure, error) {
	gcc, err := b.base(ctx, "gcc")
	if err != nil {
		return nil, err
	}
	busybox, err := b.base(ctx, "busybox")
	if err != nil {
		return nil, err
	}
	image := b.reg + "/example"
	args := []string{"--build-context", "gcc:14-bookworm=oci-layout://" + gcc, "--build-context", "busybox:stable=oci-layout://" + busybox, "-t", image + ":1", "--push"}
	without, err := b.build(ctx, b.machine(), append(slices.Clone(args), "examples/six-stage")...)
	if err != nil {
		return nil, err
	}
	writing, err := b.build(ctx, b.machine(), append(slices.Clone(args), "--cache", "auto", "examples/six-stage")...)
	if err != nil {
		return nil, err
	}
	with, err := b.build(ctx, b.machine(), append(slices.Clone(args), "--cache", "auto", "examples/six-stage")...)
	if err != nil {
		return nil, err
	}
	fmt.Printf("example  empty machine without a cache %5.2f s, writing it %5.2f s, with it %5.2f s, %d of %d steps cached\n",
		without.total, writing.total, with.total, with.cached, with.steps)
	figures := []figure{
		atLeast("six stages on an empty machine with --cache, times faster than without", without.total/with.total, 3),
		atLeast("share of the steps that the cache has", float64(with.cached)/float64(with.steps), 1),
	}
	// One source changes, on a machine that is warm: what does it cost to have the
	// cache written?
	dir := filepath.Join(b.opt.dir, "example")
	if err := os.CopyFS(dir, os.DirFS("examples/six-stage")); err != nil {
		return nil, err
	}
	var plain, cached []float64
	state := b.machine()
	for round := range 2*b.opt.rounds + 2 {
		if err := appendTo(filepath.Join(dir, "src/almanac.c"), fmt.Sprintf("int change_%d(int x) { return x + 1; }\n", round)); err != nil {
			return nil, err
		}
		with := round%2 == 1
		more := []string{dir}
		if with {
			more = []string{"--cache", "auto", dir}
		}
		got, err := b.build(ctx, state, append(slices.Clone(args), more...)...)
		if err != nil {
			return nil, err
		}
		switch {
		case round < 2: // the first of either kind is no warm one
		case with:
			cached = append(cached, got.total)
		default:
			plain = append(plain, got.total)
		}
	}
	fmt.Printf("example  one source changed, warm %5.2f s, writing the cache, too %5.2f s\n", medianOf(plain), medianOf(cached))
	added := medianOf(cached) - medianOf(plain)
	return append(figures, atMost("what writing the cache adds then, as a share of a build without a cache", added/without.total, 0.2)), nil
}
