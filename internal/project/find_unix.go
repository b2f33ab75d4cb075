//go:build unix

package project

import (
	"io/fs"
	"syscall"
)

// sameFileSystem tells whether two directories are on one.
func sameFileSystem(a, b fs.FileInfo) bool {
	x, ok := a.Sys().(*syscall.Stat_t)
	y, also := b.Sys().(*syscall.Stat_t)
	return ok && also && x.Dev == y.Dev
}
