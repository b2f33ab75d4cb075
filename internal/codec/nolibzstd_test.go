//go:build !cgo

package codec

import "testing"

var libzstdDecode func([]byte) ([]byte, error)

// Without libzstd a level that cannot be had is refused, never exchanged.
func TestLevelsWithoutLibzstd(t *testing.T) {
	for l := 1; l <= maxZstdLevel; l++ {
		err := Compression{Zstd, l}.Validate()
		if have := l == 1 || l == 3 || l == 7 || l == 11; have != (err == nil) {
			t.Errorf("zstd:%d: %v", l, err)
		}
	}
	want := `compression "zstd:19": this build has no libzstd and only zstd:1, zstd:3, zstd:7 and zstd:11; use one of them or a build made with cgo`
	// A blob of that level is recognised all the same.
	c, err := Parse("zstd:19")
	if err != nil || c != (Compression{Zstd, 19}) {
		t.Errorf("%v, %v", c, err)
	}
	if err := c.Validate(); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	p := newPool(t, 1)
	if _, err := p.NewWriter(nil, Options{Compression: Compression{Zstd, 19}}); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
