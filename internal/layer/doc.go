// Package layer owns the tar of a layer: which entries a change set has, in
// which order, and their bytes.
//
// It never compresses and never decides where a layer goes: it writes to an
// io.Writer that it is given, and mounts nothing.
package layer
