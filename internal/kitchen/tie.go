package kitchen

import (
	"io"
	"os"
	"time"

	"github.com/lighter-oci/lighter/internal/group"
)

// lastWords is how long a build whose server has died has to end itself.
const lastWords = 3 * time.Second

// Tie ends a process that a server started when the server dies, and answers nil
// in every other process. The channel is closed then: its standard input ends,
// the other end of which the kernel closes with the server, whatever that dies of.
// Soon after, the process and all that it started are gone. What it starts itself
// is not tied.
func Tie() <-chan struct{} {
	if os.Getenv(tieVariable) != "stdin" {
		return nil
	}
	_ = os.Unsetenv(tieVariable)
	alone := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(alone)
		time.Sleep(lastWords)
		group.EndOwn()
		os.Exit(130)
	}()
	return alone
}
