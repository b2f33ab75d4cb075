package project

import "io/fs"

// sameFileSystem is always true: a drive has its own root.
func sameFileSystem(_, _ fs.FileInfo) bool { return true }
