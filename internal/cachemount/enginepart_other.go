//go:build !linux

package cachemount

import (
	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
)

// EngineAgent is nil where there is no engine.
func EngineAgent(*codec.Pool) engine.MountAgent { return nil }
