//go:build !linux

package doctor

import "github.com/lighter-oci/lighter/internal/engine/process"

func kernel() string { return "" }

func overlay(string, []string) error { return process.UnsupportedError{} }

// TryOverlay returns an UnsupportedError.
func TryOverlay(string) error { return process.UnsupportedError{} }
