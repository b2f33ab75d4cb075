package buildkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/sys/mountinfo"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// tempName is where in the state UseTempDir leads.
const tempName = "tmp"

// deleteTimeout is how long runc may take to kill one container; it gives up by
// itself after 10 s.
const deleteTimeout = 15 * time.Second

// putAway ends what an engine left that was killed: steps that still run, in
// containers of their own; mounts, which would hold their secrets and
// snapshots until the next boot; temporary files. The caller owns the state,
// so nothing of it is in use. runc "" means that there is none.
//
// What cannot be put away is logged and left: no build needs it gone.
func putAway(ctx context.Context, state, runc string) error {
	state, err := filepath.EvalSymlinks(state) // as mountinfo has it
	if err != nil {
		return err
	}
	bundles, err := filepath.Glob(filepath.Join(state, "runc-*", "executor", "*", "config.json"))
	if err != nil {
		return err
	}
	for _, b := range bundles {
		if err := deleteContainer(ctx, runc, filepath.Base(filepath.Dir(b))); err != nil {
			logrus.Warnf("a step of an engine that was killed may still run: %v", err)
		}
	}
	if err := unmountBelow(state); err != nil {
		return err
	}
	stale, err := filepath.Glob(filepath.Join(state, tempName, "*"))
	if err != nil {
		return err
	}
	for _, b := range bundles {
		stale = append(stale, filepath.Dir(b))
	}
	for _, dir := range stale {
		if err := os.RemoveAll(dir); err != nil {
			logrus.Warnf("left by an engine that was killed: %v", err)
		}
	}
	return nil
}

// deleteContainer kills a container and forgets it. One that runc does not
// know is no error.
func deleteContainer(ctx context.Context, runc, id string) error {
	if runc == "" {
		return fmt.Errorf("container %s: runc is gone", id)
	}
	ctx, cancel := context.WithTimeout(ctx, deleteTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, runc, "delete", "--force", id).CombinedOutput()
	if err != nil {
		return fmt.Errorf("runc delete %s: %w: %s", id, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// unmountBelow detaches all that is mounted below dir, and fails where
// something stays: what is removed afterwards must not be somebody's files.
func unmountBelow(dir string) error {
	below := func(m *mountinfo.Info) (skip, stop bool) {
		return !strings.HasPrefix(m.Mountpoint, dir+string(filepath.Separator)), false
	}
	mounts, err := mountinfo.GetMounts(below)
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	for _, m := range slices.Backward(mounts) { // the latest is the topmost
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s, left by an engine that was killed: %w", m.Mountpoint, err)
		}
	}
	mounts, err = mountinfo.GetMounts(below)
	if err == nil && len(mounts) > 0 {
		err = fmt.Errorf("%s stays mounted: unmount it", mounts[0].Mountpoint)
	}
	return err
}

// UseTempDir points this process's temporary files and mounts at a directory in
// the engine's state, where the next engine finds what a killed one left: a
// step's secrets are in such a mount. It is for the process that is about to
// call NewServer, and for as long as that process lives.
func UseTempDir(state string) error {
	dir := filepath.Join(state, tempName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("directory for temporary files: %w", err)
	}
	if err := mount.SetTempMountLocation(dir); err != nil {
		return fmt.Errorf("directory for temporary mounts: %w", err)
	}
	return os.Setenv("TMPDIR", dir)
}
