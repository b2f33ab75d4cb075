package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lighter-oci/lighter/internal/codec"
)

// What attributes say counts more than flags, what they do not say stays.
func TestLayersWith(t *testing.T) {
	flags := Layers{Compression: codec.Compression{Codec: codec.Zstd, Level: 9}, Force: true}
	for in, want := range map[string]string{
		"":                                       "zstd:9 true",
		"compression=gzip":                       "gzip:6 true",
		"compression=zstd":                       "zstd:3 true",
		"compression-level=19":                   "zstd:19 true",
		"compression=gzip,compression-level=1":   "gzip:1 true",
		"compression=uncompressed":               "uncompressed true",
		"force-compression=false":                "zstd:9 false",
		"force-compression":                      "zstd:9 true",
		"name=x,push=true":                       "zstd:9 true",
		"force-compression=maybe":                "force-compression=maybe: want true or false",
		"compression=estargz":                    `compression "estargz": unknown codec`,
		"compression-level=many":                 `level "many" is not a number`,
		"compression=zstd,compression-level=0":   `no such level`,
		"compression=zstd:1,compression-level=2": `level "1:2" is not a number`,
	} {
		attrs := map[string]string{}
		for part := range strings.SplitSeq(in, ",") {
			if key, value, _ := strings.Cut(part, "="); key != "" {
				attrs[key] = value
			}
		}
		got, err := flags.With(attrs)
		said := got.Compression.String() + map[bool]string{true: " true", false: " false"}[got.Force]
		if err != nil {
			said = err.Error()
		}
		if !strings.Contains(said, want) {
			t.Errorf("%s: %s, want %s", in, said, want)
		}
	}
	for in, want := range map[string]string{
		"gzip:9,uncompressed": "[gzip:9 zstd:9 uncompressed]",
		"zstd:1":              "add-compression zstd:1: there is a zstd:9 variant already",
		"best":                `add-compression: compression "best": unknown codec`,
	} {
		got, err := flags.With(map[string]string{AttrAdd: in})
		variants, _ := got.Variants()
		said := fmt.Sprint(variants)
		if err != nil {
			said = err.Error()
		}
		if !strings.Contains(said, want) {
			t.Errorf("add-compression=%s: %s, want %s", in, said, want)
		}
	}
	if got, err := (Layers{}).With(map[string]string{AttrLevel: "5"}); err != nil || got.Compression.String() != "zstd:5" {
		t.Errorf("%v, %v", got, err)
	}
}
