package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/lighter-oci/lighter/internal/engine/process"
)

// kernel is its release, for one line.
func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return ", kernel " + unix.ByteSliceToString(u.Release[:])
}

// overlayResult is the file in which a TryOverlay in a namespace leaves why it
// failed; it is empty where it did not.
const overlayResult = "result"

// overlay mounts an overlay on the disk of the state directory, in the
// namespaces that an engine of this user would have.
func overlay(state string, args []string) (err error) {
	dir, err := os.MkdirTemp(state, "doctor-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if !process.NeedsUserNamespace() {
		return tryOverlay(dir, "")
	}
	if len(args) == 0 {
		return nil
	}
	if _, err := process.ReexecInUserNamespace(append(args, dir)); err != nil {
		return err
	}
	said, err := os.ReadFile(filepath.Join(dir, overlayResult))
	if err == nil && len(said) > 0 {
		return errors.New(string(said))
	}
	return err
}

// TryOverlay is the part of a check that runs in a user namespace.
func TryOverlay(dir string) error {
	said := ""
	if err := tryOverlay(dir, ",userxattr"); err != nil {
		said = err.Error()
	}
	return os.WriteFile(filepath.Join(dir, overlayResult), []byte(said), 0o600)
}

// tryOverlay mounts an empty overlay in dir for a moment.
func tryOverlay(dir, options string) error {
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return err
		}
	}
	merged := filepath.Join(dir, "merged")
	data := fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work%s", dir, dir, dir, options)
	if err := unix.Mount("overlay", merged, "overlay", 0, data); err != nil {
		return fmt.Errorf("mount an overlay in %s: %w", filepath.Dir(dir), err)
	}
	return unix.Unmount(merged, unix.MNT_DETACH)
}
