package image_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
)

var (
	variantGzip  = codec.Compression{Codec: codec.Gzip, Level: 9}
	variantPlain = codec.Compression{Codec: codec.Uncompressed}
)

func TestVariantsInOrder(t *testing.T) {
	got, err := image.Variants(codec.Compression{}, variantPlain, variantGzip)
	if err != nil || !slices.Equal(got, []codec.Compression{variantGzip, zstd3, variantPlain}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := image.Variants(variantGzip, codec.Compression{Codec: codec.Gzip}); err == nil || err.Error() != "gzip:6: there is a gzip:9 variant already" {
		t.Errorf("two of one codec: %v", err)
	}
}

// Images with what is attached to them, one variant after the other; of what is
// written there by others nothing gets lost.
func TestJoin(t *testing.T) {
	entry := func(name, about, mark string) string {
		e := `{"digest":"` + digest.FromString(name).String() + `","mediaType":"m","new":1,"size":7`
		switch {
		case about != "":
			e = `{"annotations":{"vnd.docker.reference.digest":"` + digest.FromString(about).String() + `"},` + e[1:]
		case mark != "":
			e = `{"annotations":` + mark + `,` + e[1:]
		}
		return e + "}"
	}
	index := func(more string, entries ...string) []byte {
		return []byte(`{"manifests":[` + strings.Join(entries, ",") + `],` + more + `"schemaVersion":2}`)
	}
	const mark = `{"io.github.containers.compression.zstd":"true"}`
	zstd := image.Variant{Compression: zstd3, Index: index(`"new":2,`, entry("a.zstd", "", ""), entry("plain", "", ""), entry("a.zstd proof", "a.zstd", ""), entry("plain proof", "plain", ""))}
	gzip := image.Variant{Compression: variantGzip, Index: index(`"new":2,`, entry("a.gzip", "", mark), entry("plain", "", ""), entry("a.zstd proof", "a.gzip", ""), entry("plain proof", "plain", ""))}
	b, desc, err := image.Join([]image.Variant{zstd, gzip})
	if err != nil {
		t.Fatal(err)
	}
	want := index(`"mediaType":"application/vnd.oci.image.index.v1+json","new":2,`,
		entry("a.gzip", "", ""), entry("plain", "", ""), entry("a.zstd proof", "a.gzip", ""), entry("plain proof", "plain", ""),
		entry("a.zstd", "", mark), entry("a.zstd proof", "a.zstd", ""))
	if diff := cmp.Diff(pretty(t, want), pretty(t, b)); diff != "" {
		t.Error(diff)
	}
	if desc.Digest != digest.FromBytes(b) || desc.Size != int64(len(b)) {
		t.Errorf("descriptor %+v", desc)
	}
	for _, bad := range []string{"", `{"manifests":1}`, `{"manifests":[{"digest":1}]}`} {
		if _, _, err := image.Join([]image.Variant{gzip, {Compression: zstd3, Index: []byte(bad)}}); err == nil || !strings.HasPrefix(err.Error(), "index of the zstd:3 variant: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func pretty(t *testing.T, b []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	b, _ = json.MarshalIndent(v, "", " ")
	return string(b)
}

// Each variant is an image of its own, by its place: a mark tells of zstd only.
func TestVariantsOfImage(t *testing.T) {
	f, d := imagetest.Sample(t), newDestination(t)
	all := []codec.Compression{variantGzip, variantPlain, zstd3}
	mustCopy(t, f, d, image.CopyOptions{Variants: all, Pool: newPool(t)})
	img := d.read(t, "copy")
	parts := img.Variants(len(all))
	for i, part := range parts {
		var platforms []string
		for _, m := range part.Manifests {
			platforms = append(platforms, m.Platform)
		}
		if got := image.Verify(part, all[i], image.VerifyOptions{AnyLevel: true}); len(got) > 0 || !slices.Equal(platforms, []string{"linux/amd64", "linux/arm/v7"}) {
			t.Errorf("%s: %q, %v", all[i], platforms, got)
		}
	}
	// One image for all of them is each of them.
	one := *parts[0]
	for i, part := range one.Variants(2) {
		if !slices.Equal(part.Manifests, one.Manifests) {
			t.Errorf("variant %d: %v", i, part.Manifests)
		}
	}
}
