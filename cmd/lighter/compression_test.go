package main

import (
	"strings"
	"testing"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
)

// TestHonoured: what this binary cannot make is refused under the name that was
// typed.
func TestHonoured(t *testing.T) {
	never := codec.Compression{Codec: codec.Zstd, Level: 23} // as any level that an encoder has not
	image := engine.Output{Entry: engine.Entry{Type: "image", Attrs: map[string]string{engine.AttrCompression: "gzip"}}}
	for want, req := range map[string]engine.Request{
		"":                                      {Compression: codec.Compression{}, AddCompression: []codec.Compression{{Codec: codec.Gzip}}},
		"--compression: ":                       {Compression: never},
		"--add-compression: ":                   {AddCompression: []codec.Compression{never}},
		"output type=image: add-compression gz": {AddCompression: []codec.Compression{{Codec: codec.Gzip}}, Outputs: []engine.Output{image}},
	} {
		err := honoured(req)
		if (want == "") != (err == nil) || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
