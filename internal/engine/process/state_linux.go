package process

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	lockName   = "engine.lock"
	socketName = "engine.sock"
	logName    = "engine.log"

	// maxSocketPath is sun_path less its terminator; see unix(7).
	maxSocketPath = 107
)

// StateDir returns the state directory as an absolute path without symbolic
// links, and creates it with mode 0700 where it does not exist. It is flag,
// else $LIGHTER_STATE, else $XDG_STATE_HOME/lighter, else /var/lib/lighter for
// root and ~/.local/state/lighter for everybody else; inside our user
// namespace the same as outside. A directory of somebody else, or one that
// others can enter, is refused with a *StateError: it holds whole root file
// systems, setuid programs included.
func StateDir(flag string) (string, error) {
	dir, err := stateDirName(flag)
	if err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", fmt.Errorf("state directory %s: %w", dir, err)
	}
	// Parents as the XDG base directory specification wants them: 0700 too.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", &StateError{Dir: dir, Reason: pathReason(err), Fix: "choose another with --state or " + StateEnv}
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", fmt.Errorf("state directory: %w", err)
	}
	return dir, checkStateDir(dir)
}

func stateDirName(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	if dir := os.Getenv(StateEnv); dir != "" {
		return dir, nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "lighter"), nil
	}
	if hostUID() == 0 {
		return "/var/lib/lighter", nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", &StateError{Dir: "~/.local/state/lighter", Reason: "HOME is not set", Fix: "set HOME, --state or " + StateEnv}
	}
	return filepath.Join(home, ".local", "state", "lighter"), nil
}

func checkStateDir(dir string) error {
	fi, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	if !fi.IsDir() {
		return &StateError{Dir: dir, Reason: "not a directory", Fix: "choose another with --state or " + StateEnv}
	}
	if owner := int(fi.Sys().(*syscall.Stat_t).Uid); owner != os.Geteuid() {
		return &StateError{
			Dir:    dir,
			Reason: fmt.Sprintf("belongs to uid %d, not to uid %d", owner, os.Geteuid()),
			Fix:    "choose another with --state or " + StateEnv,
		}
	}
	if fi.Mode().Perm()&0o077 == 0 {
		return nil
	}
	// A fresh mount or volume is 0755 and empty: nothing to give away yet.
	if entries, err := os.ReadDir(dir); err == nil && len(entries) == 0 {
		if err := os.Chmod(dir, 0o700); err == nil {
			return nil
		}
	}
	return &StateError{
		Dir:    dir,
		Reason: fmt.Sprintf("mode %04o lets other users in", fi.Mode().Perm()),
		Fix:    "chmod 700 " + dir + ", or choose another with --state or " + StateEnv,
	}
}

// socketPath returns where the engine of state listens. Clients never compute
// it: they read it from the lock file, so that another XDG_RUNTIME_DIR on
// their side does not hide the engine.
func socketPath(state string) (string, error) {
	if path := filepath.Join(state, socketName); len(path) <= maxSocketPath {
		return path, nil
	}
	sum := sha256.Sum256([]byte(state))
	name := hex.EncodeToString(sum[:8]) + ".sock"
	if dir := os.Getenv("XDG_RUNTIME_DIR"); usableRuntimeDir(dir) {
		dir = filepath.Join(dir, "lighter")
		if path := filepath.Join(dir, name); len(path) <= maxSocketPath && privateDir(dir) == nil {
			return path, nil
		}
	}
	dir := tmpDir()
	return filepath.Join(dir, name), privateDir(dir)
}

// runtimeDir returns what XDG_RUNTIME_DIR has to be for an engine: runc keeps
// its containers' state there and fails where it cannot write.
func runtimeDir() (string, error) {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); usableRuntimeDir(dir) {
		return dir, nil
	}
	if err := privateDir(tmpDir()); err != nil {
		return "", err
	}
	dir := filepath.Join(tmpDir(), "run")
	return dir, privateDir(dir)
}

func usableRuntimeDir(dir string) bool {
	if !filepath.IsAbs(dir) {
		return false
	}
	fi, err := os.Stat(dir)
	return err == nil && fi.IsDir() && int(fi.Sys().(*syscall.Stat_t).Uid) == os.Geteuid() &&
		unix.Access(dir, unix.W_OK|unix.X_OK) == nil
}

// tmpDir is the same for all of a user's sessions, so $TMPDIR does not count.
func tmpDir() string { return "/tmp/lighter-" + strconv.Itoa(hostUID()) }

// privateDir makes a directory that nobody else can enter. One that is there
// is accepted only when it is a directory of ours with mode 0700: anybody
// can make names in /tmp.
func privateDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("directory for sockets: %w", err)
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("directory for sockets: %w", err)
	}
	if !fi.IsDir() || int(fi.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() || fi.Mode().Perm()&0o077 != 0 {
		return &StateError{
			Dir:    dir,
			Reason: "must be a directory of yours with mode 0700",
			Fix:    "remove it, or choose a shorter --state",
		}
	}
	return nil
}

// pathReason is err without the path, which the caller names itself.
func pathReason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
