package image_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/lighter-oci/lighter/internal/image"
)

// Many at once: none takes another's directory, and each is gone when it is
// discarded. What kill -9 leaves, TestConvertGoesOn looks at.
func TestTempDir(t *testing.T) {
	parent := t.TempDir()
	t.Setenv("TMPDIR", parent)
	dead := filepath.Join(parent, ".lighter-stage-dead")
	if err := os.MkdirAll(filepath.Join(dead, "blobs"), 0o700); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				dir, discard, err := image.TempDir("")
				if err != nil {
					t.Error(err)
					return
				}
				if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
					t.Error(err)
				}
				discard()
			}
		})
	}
	all.Wait()
	dir, discard, err := image.TempDir("")
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(parent); len(left) != 1 || left[0].Name() != filepath.Base(dir) {
		t.Errorf("there is %v, want %s", left, dir)
	}
	discard()
	if left, _ := os.ReadDir(parent); len(left) != 0 {
		t.Errorf("there is %v", left)
	}
}
