package buildkit

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"

	"github.com/lighter-oci/lighter/internal/engine"
)

// Agent is the program that stands beside the cache mounts of a BuildKit which
// is not lighter's: it goes there as a file, and runs in a container.
type Agent struct {
	File string   // of the engine's platform, static; "" is the running program
	Args []string // what makes an agent of it; what ServeAgent is told follows
}

// agentMount is a mount of an agent's container.
type agentMount struct {
	engine.CacheMount
	engine.MountDir
}

// ServeAgent is the agent in a container: it serves conn with the mounts that its
// argument names.
func ServeAgent(ctx context.Context, arg string, agent engine.MountAgent, conn io.ReadWriteCloser) error {
	var list []agentMount
	if err := json.Unmarshal([]byte(arg), &list); err != nil {
		return &engine.RequestError{Err: fmt.Errorf("cache mounts %.200q: %w", arg, err)}
	}
	dirs := map[engine.CacheMount]engine.MountDir{}
	for _, m := range list {
		dirs[m.CacheMount] = m.MountDir
	}
	return agent.Serve(ctx, dirs, conn)
}

// agentDir is what an agent's container begins with. No step mounts anything
// there.
const agentDir = ".lighter"

// files are those in agentDir, and how the agent is called there.
func (a Agent) files(on []ocispecs.Platform) (files agentFS, command []string, err error) {
	path := a.File
	if path == "" {
		if path, err = os.Executable(); err != nil {
			return nil, nil, err
		}
	}
	f, err := elf.Open(path)
	var foreign *elf.FormatError
	if err != nil && !errors.As(err, &foreign) {
		return nil, nil, fmt.Errorf("the agent for cache mounts: %w", err)
	}
	if err != nil || !slices.ContainsFunc(on, func(p ocispecs.Platform) bool { return p.OS == "linux" && p.Architecture == machines[f.Machine] }) {
		return nil, nil, fmt.Errorf("that engine's cache mounts need a lighter for %s, which %s is not: name one with LIGHTER_AGENT=FILE", platforms.Format(on[0]), path)
	}
	defer f.Close()
	const name, loaderName, dir = "lighter", "loader", "/" + agentDir + "/"
	files, command = agentFS{name: path}, []string{dir + name}
	if loader := interpreter(f); loader != "" {
		if a.File != "" {
			return nil, nil, fmt.Errorf("LIGHTER_AGENT=%s needs libraries that are not there: name a static one, as released ones are", path)
		}
		if err := files.libraries(); err != nil {
			return nil, nil, err
		}
		files[loaderName] = loader
		command = []string{dir + loaderName, "--library-path", dir, dir + name}
	}
	return files, append(command, a.Args...), nil
}

// machines are the architectures by their names in Go.
var machines = map[elf.Machine]string{
	elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_ARM: "arm", elf.EM_386: "386",
	elf.EM_RISCV: "riscv64", elf.EM_PPC64: "ppc64le", elf.EM_S390: "s390x", elf.EM_LOONGARCH: "loong64",
}

// interpreter is the path of the loader that a program asks for; "" for a static
// one.
func interpreter(f *elf.File) string {
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			b, _ := io.ReadAll(p.Open())
			return strings.TrimRight(string(b), "\x00")
		}
	}
	return ""
}

// libraries adds those that this process has loaded, under the names by which
// programs ask for them.
func (files agentFS) libraries() error {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(maps)) {
		fields := strings.Fields(line)
		if len(fields) != 6 || !strings.HasPrefix(fields[5], "/") {
			continue
		}
		lib, err := elf.Open(fields[5])
		if err != nil {
			continue // mapped for what is in it
		}
		names, err := lib.DynString(elf.DT_SONAME)
		lib.Close()
		if err == nil && len(names) == 1 {
			files[filepath.Base(names[0])] = fields[5]
		}
	}
	return nil
}

// agentFS offers files from anywhere, by name, as one directory called agentDir.
type agentFS map[string]string

// Walk implements fsutil.FS. It is asked for the whole only.
func (files agentFS) Walk(_ context.Context, _ string, fn fs.WalkDirFunc) error {
	stats := []*types.Stat{{Path: agentDir, Mode: uint32(fs.ModeDir | 0o755)}}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		info, err := os.Stat(files[name])
		if err != nil {
			return err
		}
		stats = append(stats, &types.Stat{Path: filepath.Join(agentDir, name), Mode: 0o755, Size: info.Size(), ModTime: info.ModTime().UnixNano()})
	}
	for _, stat := range stats {
		if err := fn(stat.Path, &fsutil.DirEntryInfo{Stat: stat}, nil); err != nil {
			return err
		}
	}
	return nil
}

// Open implements fsutil.FS.
func (files agentFS) Open(name string) (io.ReadCloser, error) {
	path, ok := files[filepath.Base(name)]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return os.Open(path)
}
