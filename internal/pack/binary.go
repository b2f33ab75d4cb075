package pack

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/toolchain"
)

// program is what an ELF file says of itself.
type program struct {
	toolchain.Binary
	loader    string   // "" where it is static
	libraries []string // that the loader will look for
	paths     []string // where else than in the usual directories
	symbols   bool     // a symbol table or debug information is in it
}

// machines are ELF's names of architectures, as GOARCH has them.
var machines = map[string]struct {
	machine elf.Machine
	class   elf.Class
	data    elf.Data
}{
	"amd64":   {elf.EM_X86_64, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"386":     {elf.EM_386, elf.ELFCLASS32, elf.ELFDATA2LSB},
	"arm64":   {elf.EM_AARCH64, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"arm":     {elf.EM_ARM, elf.ELFCLASS32, elf.ELFDATA2LSB},
	"ppc64le": {elf.EM_PPC64, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"riscv64": {elf.EM_RISCV, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"s390x":   {elf.EM_S390, elf.ELFCLASS64, elf.ELFDATA2MSB},
}

// examine reads what a binary is and refuses what cannot run on the platform.
func examine(b toolchain.Binary, p ocispec.Platform) (program, error) {
	out := program{Binary: b}
	f, err := elf.Open(b.Path)
	var format *elf.FormatError
	if errors.As(err, &format) || errors.Is(err, io.EOF) {
		return out, fmt.Errorf("%s is no ELF binary, which %s wants", b.Path, platforms.Format(p))
	}
	if err != nil {
		return out, err
	}
	defer f.Close()
	want := machines[p.Architecture]
	if f.Machine != want.machine || f.Class != want.class || f.Data != want.data {
		return out, fmt.Errorf("%s is for %s, not for %s", b.Path, machineName(f), platforms.Format(p))
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return out, fmt.Errorf("%s is no program, but ELF of type %s", b.Path, f.Type)
	}
	for _, segment := range f.Progs {
		if segment.Type != elf.PT_INTERP {
			continue
		}
		name := make([]byte, min(segment.Filesz, 4096))
		if _, err := segment.ReadAt(name, 0); err != nil {
			return out, fmt.Errorf("%s: name of its loader: %w", b.Path, err)
		}
		out.loader = strings.TrimRight(string(name), "\x00")
	}
	if out.libraries, err = f.ImportedLibraries(); err != nil {
		return out, fmt.Errorf("%s: its libraries: %w", b.Path, err)
	}
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		lists, _ := f.DynString(tag) // none where it has no dynamic section
		for _, list := range lists {
			out.paths = append(out.paths, strings.Split(list, ":")...)
		}
	}
	for _, s := range f.Sections {
		out.symbols = out.symbols || s.Type == elf.SHT_SYMTAB || strings.HasPrefix(s.Name, ".debug_") || strings.HasPrefix(s.Name, ".zdebug_")
	}
	return out, nil
}

// machineName is the architecture of a file, as platforms have it.
func machineName(f *elf.File) string {
	for name, m := range machines {
		if m.machine == f.Machine && m.class == f.Class && m.data == f.Data {
			return "linux/" + name
		}
	}
	return fmt.Sprintf("%s, %s", f.Machine, f.Class)
}

// dynamicError is a binary that would not start in its image.
type dynamicError struct {
	program
	in      string // "scratch", or the base's name
	missing []string
}

func (e *dynamicError) Error() string {
	return fmt.Sprintf("%s is linked dynamically, and %s has no %s", e.Path, e.in, strings.Join(e.missing, ", "))
}

// Hint is the next step.
func (e *dynamicError) Hint() string {
	if e.in == scratch {
		return `link it statically, or name a base image that has them in lighter.toml: base = "…"`
	}
	return "link it statically, or name a base image that has them"
}

// startsOn tells whether the binary starts on top of a base, nil for scratch:
// its loader and its libraries have to be there.
func (p program) startsOn(base *layers) error {
	if p.loader == "" && len(p.libraries) == 0 {
		return nil
	}
	var missing []string
	for _, need := range append([]string{p.loader}, p.libraries...) {
		if need != "" && !base.has(need, p.paths) {
			missing = append(missing, need)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return &dynamicError{p, base.name(), missing}
}
