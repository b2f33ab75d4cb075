// Package group owns how a command ends with all that it has started: when it is
// cancelled, and when this process is killed.
//
// It knows nothing of what commands do, and reads nothing that they print.
package group

import "time"

// patience is how long a command has to end by itself after an interruption.
// Go's, which takes its temporary files away, takes 0.1 s.
const patience = 5 * time.Second
