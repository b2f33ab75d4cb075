package toolchain

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Strip writes what a binary needs to run to the file to, and where debug is
// not "" everything else to that file, which debuggers find by its name. An error
// with a Hint method says that there is no tool for the platform here.
func Strip(ctx context.Context, p ocispec.Platform, from, to, debug string) error {
	t, err := targetOf(p)
	if err != nil {
		return err
	}
	objcopy, err := t.objcopy()
	if err != nil {
		return err
	}
	runs := [][]string{{"--strip-all", from, to}}
	if debug != "" {
		runs = [][]string{{"--only-keep-debug", from, debug}, {"--strip-all", "--add-gnu-debuglink=" + debug, from, to}}
	}
	for _, args := range runs {
		cmd := exec.CommandContext(ctx, objcopy, args...)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s %s: %w: %s", objcopy, args[0], err, strings.TrimSpace(string(said)))
		}
	}
	return nil
}

// objcopy is binutils' for the target, or LLVM's for all of them.
func (t target) objcopy() (string, error) {
	names := []string{t.gnu() + "-objcopy", "llvm-objcopy"}
	if t.native() {
		names = append(names, "objcopy")
	}
	for _, name := range names {
		if _, err := exec.LookPath(name); err == nil {
			return name, nil
		}
	}
	return "", &missingError{doing: "be stripped", what: "objcopy", platform: t.Platform, by: t.binutils()}
}

// DebugFile is where Strip may put the debug information of a binary.
func DebugFile(dir, name string, p ocispec.Platform) string {
	return filepath.Join(dir, name+"-"+strings.ReplaceAll(platforms.Format(p), "/", "-")+".debug")
}
