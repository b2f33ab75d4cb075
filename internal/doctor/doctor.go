// Package doctor owns the question what of lighter works here: on this
// machine, with its daemons and its credentials, and at registries that the
// user names.
//
// It changes nothing on the machine, but for a state directory that is made
// where there is none, asks the network nothing but what a
// registry was named for, and takes away again what a probe has pushed. A
// credential's value is never shown.
package doctor
