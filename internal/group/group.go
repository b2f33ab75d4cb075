// Package group owns how a command ends with all that it has started: when it is
// cancelled or stopped, and when this process is killed.
//
// On Linux a command runs below a keeper, this program again: whoever leaves parent,
// group and session behind comes back to it (PR_SET_CHILD_SUBREAPER), so that all that
// came of the command can be found, whatever it did to hide. Elsewhere the command's
// process group or session is what ends with it.
//
// It knows nothing of what commands do, and reads nothing that they print.
package group

import "time"

// patience is how long a command has to end by itself after an interruption.
// Go's, which takes its temporary files away, takes 0.1 s.
const patience = 5 * time.Second
