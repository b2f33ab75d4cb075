//go:build !linux

package buildkit

import (
	"errors"
	"os"
)

// createUnnamed is Linux's.
func createUnnamed(string, string) (*os.File, error) { return nil, errors.ErrUnsupported }

func nameFile(*os.File, string) error { return errors.ErrUnsupported }

// nothingFree does not know.
func nothingFree(string) bool { return false }
