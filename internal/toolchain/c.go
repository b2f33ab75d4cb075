package toolchain

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// c plans builds of C and C++: by CMake, by make, or of one source file.
func (p Project) c(targets []target, use string) ([]Build, error) {
	kind := p.cFile
	switch {
	case exists(p.Dir, "CMakeLists.txt"):
		kind = p.cmake
	case exists(p.Dir, "Makefile"), exists(p.Dir, "makefile"), exists(p.Dir, "GNUmakefile"):
		kind = p.make
	}
	builds := make([]Build, len(targets))
	for i, t := range targets {
		dir, err := p.buildDir(t)
		if err == nil {
			builds[i], err = kind(t, dir, use == "c++")
		}
		if err != nil {
			return nil, err
		}
	}
	return builds, nil
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

// linkFlags make a binary that needs nothing else.
func (p Project) linkFlags() string {
	if p.Debug {
		return "-static"
	}
	return "-static -s"
}

// compileFlags are what a compiler is told where nobody says anything else.
func (p Project) compileFlags() []string {
	flags := []string{"-O2"}
	if p.Debug {
		flags = append(flags, "-g")
	}
	for _, f := range p.Features {
		flags = append(flags, "-D"+f)
	}
	return append(flags, p.Flags...)
}

// cached puts sccache before a compiler, where it is installed.
func cached(cc string) []string {
	if _, err := exec.LookPath("sccache"); err == nil {
		return []string{"sccache", cc}
	}
	return []string{cc}
}

// sources are the endings that C and C++ have.
var sources = []string{".c", ".cc", ".cpp", ".cxx"}

// cFile compiles the sources of a directory without a build file: all of them
// are one program, named like the only file, or like the directory.
func (p Project) cFile(t target, dir string, cxx bool) (Build, error) {
	entries, err := os.ReadDir(p.Dir)
	if err != nil {
		return Build{}, err
	}
	var files []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); slices.Contains(sources, ext) {
			files = append(files, e.Name())
			cxx = cxx || ext != ".c"
		}
	}
	name := filepath.Base(p.Dir)
	switch len(files) {
	case 0:
		return Build{}, fmt.Errorf("%s: no C or C++ source here", p.Dir)
	case 1:
		name = strings.TrimSuffix(files[0], filepath.Ext(files[0]))
	}
	if _, err := p.choose([]string{name}, p.Dir); err != nil {
		return Build{}, err
	}
	cc, err := t.cc(cxx)
	if err != nil {
		return Build{}, err
	}
	out := filepath.Join(dir, name)
	argv := append(strings.Fields(cc), p.compileFlags()...)
	argv = append(append(argv, strings.Fields(p.linkFlags())...), "-o", out)
	return Build{Tool: filepath.Base(argv[0]), Argv: append(argv, files...), made: func([]byte) ([]Binary, error) {
		return []Binary{{Name: name, Path: out}}, nil
	}}, nil
}

// compilers are the two compilers of a target; C++'s only has to be there where
// it is used.
func (t target) compilers() (cc, cxx string, err error) {
	if cc, err = t.cc(false); err != nil {
		return "", "", err
	}
	if cxx, err = t.cc(true); err != nil {
		cxx = strings.Replace(cc, "gcc", "g++", 1)
	}
	return cc, cxx, nil
}

// cmake builds outside of the source directory, as CMake does by itself.
func (p Project) cmake(t target, dir string, _ bool) (Build, error) {
	if _, err := exec.LookPath("cmake"); err != nil {
		return Build{}, &missingError{what: "cmake", platform: t.Platform, by: same("cmake")}
	}
	cc, cxx, err := t.compilers()
	if err != nil {
		return Build{}, err
	}
	configure := []string{"cmake", "-S", p.Dir, "-B", dir, "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_SYSTEM_NAME=Linux",
		"-DCMAKE_SYSTEM_PROCESSOR=" + t.cpu, "-DCMAKE_C_COMPILER=" + cc, "-DCMAKE_CXX_COMPILER=" + cxx,
		"-DCMAKE_EXE_LINKER_FLAGS=" + p.linkFlags(), "-DCMAKE_RUNTIME_OUTPUT_DIRECTORY=" + filepath.Join(dir, "bin")}
	if p.Debug {
		configure[5] = "-DCMAKE_BUILD_TYPE=RelWithDebInfo"
	}
	if wrapper := cached(cc); len(wrapper) > 1 {
		configure = append(configure, "-DCMAKE_C_COMPILER_LAUNCHER="+wrapper[0], "-DCMAKE_CXX_COMPILER_LAUNCHER="+wrapper[0])
	}
	for _, f := range p.Features {
		configure = append(configure, "-D"+f+"=ON")
	}
	return Build{
		Tool: "cmake", before: [][]string{append(configure, p.Flags...)}, Argv: []string{"cmake", "--build", dir, "--parallel"},
		made: func([]byte) ([]Binary, error) { return p.madeIn(filepath.Join(dir, "bin")) },
	}, nil
}
