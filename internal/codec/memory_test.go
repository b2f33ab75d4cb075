//go:build linux && !race

// The race detector needs memory of its own.

package codec

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// The memory of a whole process that makes four layers at once.
func TestMemoryOfFourLayers(t *testing.T) {
	const env, limit = "LIGHTER_CODEC_MEMORY", 250 << 10 // KiB; 125 MiB measured with two workers at zstd:7
	if level := os.Getenv(env); level != "" {
		fourLayers(t, parse(t, level))
		status, err := os.ReadFile("/proc/self/status") // not getrusage: that peak begins with the parent's
		if err != nil {
			t.Fatal(err)
		}
		_, peak, _ := strings.Cut(string(status), "VmHWM:")
		fmt.Printf("peak %s\n", strings.Fields(peak)[0])
		return
	}
	for _, level := range []string{"zstd:7", "gzip:6"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestMemoryOfFourLayers$")
		cmd.Env = append(os.Environ(), env+"="+level)
		out, err := cmd.CombinedOutput()
		var peak int
		if _, serr := fmt.Sscanf(string(out), "peak %d", &peak); err != nil || serr != nil {
			t.Fatalf("%v, %v\n%s", err, serr, out)
		}
		t.Logf("%s: %d MiB", level, peak>>10)
		if peak > limit {
			t.Errorf("%s: four layers took %d MiB", level, peak>>10)
		}
	}
}

func fourLayers(t *testing.T, c Compression) {
	p := newPool(t, 2)
	in := corpus(50, 5<<20)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			w, err := p.NewWriter(io.Discard, Options{Compression: c, DiffID: true})
			if err != nil {
				t.Error(err)
				return
			}
			for range 8 {
				if _, err := w.Write(in); err != nil {
					t.Error(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
