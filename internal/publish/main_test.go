package publish

import (
	"os"
	"testing"

	"github.com/lighter-oci/lighter/internal/group"
)

// TestMain is the keeper of commands that these tests run, too.
func TestMain(m *testing.M) {
	group.Enter(nil)
	os.Exit(m.Run())
}
