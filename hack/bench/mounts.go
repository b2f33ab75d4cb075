package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lighter-oci/lighter/internal/cachemount"
	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/report"
)

// cacheMounts compares a cache mount that goes to a registry and comes back with
// what tar and zstd take for the same directory, to a file and back.
func cacheMounts(ctx context.Context, opt options) error {
	reg, err := startRegistry(ctx, opt.dir)
	if err != nil {
		return err
	}
	defer reg.stop()
	b := &mountBench{opt: opt, reg: reg, src: filepath.Join(opt.dir, "mount"), took: map[string][]taken{}}
	if err := b.fill(ctx); err != nil {
		return err
	}
	for round := 1; round <= opt.rounds; round++ {
		if err := b.round(ctx, round); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	ratio := func(a, b []taken, f func(taken) float64) float64 {
		var v []float64
		for i := range a {
			v = append(v, f(a[i])/f(b[i])) // of one round: other work on the machine is then on both
		}
		return medianOf(v)
	}
	bound := 250 + 2*float64(opt.files)/1000 // buffers, and 2 kB a file: 190 MB for 20,000, 580 for 200,000
	return judge([]figure{
		atMost("first push, times tar | zstd -T0", ratio(b.took["push"], b.took["tar"], wall), 2),
		atMost("first push, CPU time, times tar | zstd -T0", ratio(b.took["push"], b.took["tar"], cpu), 2.5),
		atMost("first pull, times zstd -d | tar -x", ratio(b.took["pull"], b.took["untar"], wall), 2),
		atMost("first pull, CPU time, times zstd -d | tar -x", ratio(b.took["pull"], b.took["untar"], cpu), 2.5),
		atMost("size, times tar | zstd -T0", ratio(b.took["push"], b.took["tar"], size), 1.1),
		atMost("push after 1 % changed, share of the bytes", ratio(b.took["push 1 %"], b.took["push"], size), 0.03),
		atMost("push after 1 % changed, share of the time", ratio(b.took["push 1 %"], b.took["push"], wall), 0.25),
		atMost("push after 1 % changed, share of the CPU time", ratio(b.took["push 1 %"], b.took["push"], cpu), 0.25),
		atMost("pull of that 1 %, share of the CPU time", ratio(b.took["pull 1 %"], b.took["pull"], cpu), 0.5),
		atMost("peak memory of a push, MB", b.most("push", memory)/1e6, bound),
		atMost("peak memory of a pull, MB", b.most("pull", memory)/1e6, bound),
	})
}

func (b *mountBench) most(name string, f func(taken) float64) (most float64) {
	for _, t := range b.took[name] {
		most = max(most, f(t))
	}
	return most
}

// mountBench is the state of the comparison.
type mountBench struct {
	opt  options
	reg  *registryProcess
	src  string
	took map[string][]taken
}

// fill makes the directory, of files of the Go distribution and of the module
// cache, about 10 kB each; once more, a little changed, where they are too few.
func (b *mountBench) fill(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT", "GOMODCACHE").Output()
	if err != nil {
		return err
	}
	n, sum, roots := 0, int64(0), strings.Fields(string(out))
	for turn := 0; n < b.opt.files; turn++ {
		was := n
		for _, from := range roots {
			err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() || n == b.opt.files {
					return err
				}
				info, err := d.Info()
				if err != nil || info.Size() < 1<<10 || info.Size() > 32<<10 {
					return err
				}
				name, err := filepath.Rel(from, path)
				if err != nil {
					return err
				}
				content, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				to := filepath.Join(b.src, strconv.Itoa(turn), name)
				n, sum = n+1, sum+info.Size()
				if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
					return err
				}
				return os.WriteFile(to, append(content, strconv.Itoa(turn)...), 0o644)
			})
			if err != nil {
				return err
			}
		}
		if n == was {
			return fmt.Errorf("no files in %s", strings.Join(roots, " and "))
		}
	}
	fmt.Printf("cache mount: %d files, %s\n", n, report.Bytes(sum))
	return nil
}

// change makes every hundredth file another one.
func (b *mountBench) change(round int) error {
	n := 0
	return filepath.WalkDir(b.src, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if n++; (n+round)%100 != 0 {
			return nil
		}
		old, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		slices.Reverse(old)
		return os.WriteFile(path, old, 0o644)
	})
}

func (b *mountBench) round(ctx context.Context, round int) error {
	dir := filepath.Join(b.opt.dir, fmt.Sprintf("mounts-%d", round))
	tarball, there, ours, theirs := filepath.Join(dir, "tar.zst"), filepath.Join(dir, "record"), filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
	ref := fmt.Sprintf("%s/mounts/%d:cache", b.reg.addr, round)
	for _, d := range []string{ours, theirs} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	shell := func(script string) []string {
		return []string{"bash", "-ec", "set -o pipefail; " + script, "-", b.src, tarball, theirs}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	mount := func(what, dir, record string) []string {
		return []string{self, "-mount", what, dir, filepath.Join(there, record), ref}
	}
	steps := []struct {
		name string
		args []string
	}{
		{"tar", shell(`tar -C "$1" -cf - . | zstd -q -T0 -o "$2"`)},
		{"push", mount("push", b.src, "src")},
		{"untar", shell(`zstd -q -dc "$2" | tar -C "$3" -xf -`)},
		{"pull", mount("pull", ours, "ours")},
		{"push 1 %", mount("push", b.src, "src")},
		{"pull 1 %", mount("pull", ours, "ours")},
	}
	if round%2 == 0 { // whoever is first finds the files less warm
		steps[0], steps[1] = steps[1], steps[0]
		steps[2], steps[3] = steps[3], steps[2]
	}
	for _, s := range steps {
		if s.name == "push 1 %" {
			if err := b.change(round); err != nil {
				return err
			}
		}
		if err := b.step(ctx, round, s.name, s.args); err != nil {
			return err
		}
	}
	if out, err := exec.CommandContext(ctx, "diff", "-rq", b.src, ours).CombinedOutput(); err != nil {
		return fmt.Errorf("what came back is something else: %s", out)
	}
	return os.RemoveAll(dir)
}

// step runs one process and counts what it and the registry took.
func (b *mountBench) step(ctx context.Context, round int, name string, args []string) error {
	syscall.Sync()
	if err := touchMemory(); err != nil {
		return err
	}
	before, err := processCPU(b.reg.cmd.Process.Pid)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	started := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	peak := watchMemory(cmd.Process.Pid)
	err = cmd.Wait()
	t := taken{memory: float64(peak()), wall: time.Since(started).Seconds()}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	t.cpu = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	after, err := processCPU(b.reg.cmd.Process.Pid)
	if err != nil {
		return err
	}
	t.cpu += after - before
	if name == "tar" {
		info, err := os.Stat(args[len(args)-2])
		if err != nil {
			return err
		}
		t.size = float64(info.Size())
	} else if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &t.size); err != nil {
			return err
		}
	}
	b.took[name] = append(b.took[name], t)
	fmt.Printf("round %d  %-9s %6.2f s  CPU %6.2f s (registry %.2f)  %4.0f MB of memory  %s\n", round, name, t.wall, t.cpu, after-before, t.memory/1e6, report.Bytes(int64(t.size)))
	return nil
}

// processCPU is what a process has used so far, in seconds, from /proc, whose
// ticks are a hundredth (USER_HZ).
func processCPU(pid int) (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	fields := strings.Fields(rest)
	var sum int
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return float64(sum) / 100, nil
}

// oneMount is the process that is measured: an agent and a session in one, which
// push a directory or pull it. It prints the bytes that travelled.
func oneMount(ctx context.Context, what, dir, record, name string) error {
	client := registry.New(registry.Options{})
	defer client.Close()
	ref, err := image.ParseReference(name)
	if err != nil {
		return err
	}
	repo, err := client.Repository(ref)
	if err != nil {
		return err
	}
	pool := codec.NewPool(0)
	agent := &cachemount.Agent{Roots: map[string]cachemount.Root{"mount": {Dir: dir, Record: record}}, Pool: pool}
	here, there := net.Pipe()
	go func() { _ = agent.Serve(ctx, there) }()
	s, err := cachemount.NewSession(ctx, here)
	if err != nil {
		return err
	}
	defer s.Close()
	place := cachemount.Place{Source: func() (image.Source, error) { return repo, nil }, Target: repo, Name: ref.Tag}
	key := cachemount.Key{ID: "bench", Platform: "linux/amd64"}
	if what == "push" {
		out, err := cachemount.Push(ctx, place, s, []cachemount.PushMount{{Key: key, Root: "mount"}}, cachemount.PushOptions{})
		if err != nil {
			return err
		}
		fmt.Println(out.Mounts[0].Sent)
		return out.Mounts[0].Err
	}
	a, err := cachemount.Open(ctx, place)
	if err != nil {
		return err
	}
	out, err := cachemount.Pull(ctx, place, a, key, s, "mount", cachemount.ImportOptions{})
	fmt.Println(out.Fetched)
	return err
}
