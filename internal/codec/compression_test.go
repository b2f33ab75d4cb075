package codec

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		"zstd": "zstd:3", "zstd:1": "zstd:1", "zstd:7": "zstd:7", "gzip": "gzip:6", "gzip:9": "gzip:9",
		"uncompressed": "uncompressed",

		"":               `compression "": unknown codec; use zstd[:1-22], gzip[:1-9] or uncompressed`,
		"none":           `compression "none": unknown codec; use zstd[:1-22], gzip[:1-9] or uncompressed`,
		"ZSTD":           `compression "ZSTD": unknown codec; use zstd[:1-22], gzip[:1-9] or uncompressed`,
		"estargz":        `compression "estargz": unknown codec; use zstd[:1-22], gzip[:1-9] or uncompressed`,
		"zstd:23":        `compression "zstd:23": no such level; use zstd:1 to zstd:22`,
		"zstd:0":         `compression "zstd:0": no such level; use zstd:1 to zstd:22`,
		"zstd:-5":        `compression "zstd:-5": no such level; use zstd:1 to zstd:22`,
		"zstd:":          `compression "zstd:": level "" is not a number; use zstd:1 to zstd:22`,
		"zstd:+3":        `compression "zstd:+3": level "+3" is not a number; use zstd:1 to zstd:22`,
		"zstd:best":      `compression "zstd:best": level "best" is not a number; use zstd:1 to zstd:22`,
		"zstd:chunked":   `compression "zstd:chunked": zstd:chunked is made of an image that exists, by lighter convert`,
		"gzip:10":        `compression "gzip:10": no such level; use gzip:1 to gzip:9`,
		"uncompressed:1": `compression "uncompressed:1": uncompressed has no level`,
		"zstd:3:4":       `compression "zstd:3:4": level "3:4" is not a number; use zstd:1 to zstd:22`,
	} {
		c, err := Parse(in)
		got := c.String()
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("Parse(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestZeroIsTheDefault(t *testing.T) {
	var zero Compression
	if zero.String() != "zstd:3" || zero.MediaType() != "application/vnd.oci.image.layer.v1.tar+zstd" || zero.Validate() != nil {
		t.Errorf("zero value is %s, %s, %v", zero, zero.MediaType(), zero.Validate())
	}
	if s := (Compression{Codec: Gzip}).String(); s != "gzip:6" {
		t.Errorf("gzip without a level is %s", s)
	}
	for c, want := range map[Codec]string{Gzip: "application/vnd.oci.image.layer.v1.tar+gzip", Uncompressed: "application/vnd.oci.image.layer.v1.tar"} {
		if got := (Compression{Codec: c}).MediaType(); got != want {
			t.Errorf("%s: media type %s, want %s", c, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"zstd", "zstd:19", "gzip:6", "uncompressed", "zstd:", ":", "zstd:99999999999999999999", "gzip:06"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Parse(s)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("Parse(%q): more than one line: %s", s, err)
			}
			return
		}
		again, err := Parse(c.String())
		if again != c || err != nil || !strings.HasPrefix(c.String(), s) {
			t.Fatalf("Parse(%q) = %s, and that is %s, %v", s, c, again, err)
		}
	})
}
