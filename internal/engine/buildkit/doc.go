// Package buildkit owns the BuildKit engine: the embedded server, the client
// that speaks to it or to a remote one, and the places where lighter's encoder
// takes the place of BuildKit's.
//
// Nothing else in lighter imports BuildKit or containerd internals (the image
// stores excepted). It never parses flags and never decides what to build.
package buildkit
