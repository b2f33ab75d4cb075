package tune

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lighter-oci/lighter/internal/codec"
)

func TestPlan(t *testing.T) {
	for name, tt := range map[string]struct {
		costs []time.Duration
		limit time.Duration
		want  []int
	}{
		"all fit":                   {[]time.Duration{1, 2, 10}, 39, []int{3, 3, 3}},
		"no limit":                  {[]time.Duration{1, 2, 10}, 0, []int{3, 3, 3}},
		"the dearest loses a round": {[]time.Duration{1, 2, 10}, 38, []int{3, 3, 2}},
		"then the next":             {[]time.Duration{1, 2, 10}, 18, []int{3, 2, 1}},
		"one of each":               {[]time.Duration{1, 2, 10}, 13, []int{1, 1, 1}},
		"the dearest goes":          {[]time.Duration{1, 2, 10}, 12, []int{3, 3, 0}},
		"in any order":              {[]time.Duration{10, 1, 2}, 12, []int{0, 3, 3}},
		"one is always tried":       {[]time.Duration{5, 7}, 1, []int{1, 0}},
		"nothing":                   {nil, 1, nil},
	} {
		if got := plan(tt.costs, 3, tt.limit); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

func TestParseLevels(t *testing.T) {
	for s, want := range map[string]string{
		"zstd:1,3, 9,gzip:6,9": "zstd:1 zstd:3 zstd:9 gzip:6 gzip:9",
		"zstd,3,gzip":          "zstd:3 gzip:6",
		"uncompressed":         "uncompressed",
	} {
		got, err := ParseLevels(s)
		if err != nil && s != "zstd:1,3, 9,gzip:6,9" { // level 9 needs libzstd
			t.Errorf("%q: %v", s, err)
			continue
		}
		var names string
		for i, c := range got {
			if i > 0 {
				names += " "
			}
			names += c.String()
		}
		if err == nil && names != want {
			t.Errorf("%q: %s, want %s", s, names, want)
		}
	}
	for _, s := range []string{",", "3", "zstd:23", "zstd:1,23", "zstd:0", "gzip:10", "brotli:1", "zstd:1,,3", "zstd:1;3", "uncompressed,3"} {
		if got, err := ParseLevels(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
	def, err := ParseLevels("")
	if err != nil || len(def) < 3 {
		t.Errorf("the default is %v, %v", def, err)
	}
	if diff := cmp.Diff(true, slices.Contains(def, codec.Compression{Codec: codec.Zstd, Level: 3})); diff != "" {
		t.Error("zstd:3 is not among the default levels")
	}
}
