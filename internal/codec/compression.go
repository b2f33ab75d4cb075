// Package codec owns every compression decision lighter takes: which codecs
// and levels exist, how a tar is cut into frames, which encoder compresses
// them on how many cores with how much memory, what a blob says about itself,
// and how foreign blobs are recognised and decoded.
//
// A blob's bytes depend on the tar, the codec, the level, the frame size, the
// epoch and the encoder's version, and on nothing else: not on the number of
// cores, not on timing, not on how the tar arrived.
//
// It never looks inside a tar, never names a digest of a blob and never
// touches a file, a store or the network.
package codec

import (
	"fmt"
	"strconv"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Codec is how a layer blob is encoded.
type Codec string

// The codecs that OCI layers have.
const (
	Zstd         Codec = "zstd"
	Gzip         Codec = "gzip"
	Uncompressed Codec = "uncompressed"
)

// Compression is a codec at a level: what a layer is asked to be. The zero
// value is zstd:3; a zero Level is the codec's default.
type Compression struct {
	Codec Codec
	Level int // zstd 1–22, gzip 1–9, 0 for uncompressed
}

// Levels that are meant when none is named. zstd 3 is that codec's own default
// and, with frames on every core, the level whose output is smaller than
// gzip's at ten times its speed; gzip 6 is what every gzip means.
const (
	defaultZstdLevel = 3
	defaultGzipLevel = 6

	maxZstdLevel = 22
	maxGzipLevel = 9
)

// Parse reads a codec with an optional level: "zstd", "zstd:19", "gzip",
// "gzip:6", "uncompressed". The error is one line that names what is possible.
// Whether this build can make it is for Validate to say: to recognise a level,
// nobody has to make it.
func Parse(s string) (Compression, error) {
	name, level, hasLevel := strings.Cut(s, ":")
	c := Compression{Codec: Codec(name)}
	switch c.Codec {
	case Zstd, Gzip:
	case Uncompressed:
		if hasLevel {
			return Compression{}, fmt.Errorf("compression %q: uncompressed has no level", s)
		}
	default:
		return Compression{}, fmt.Errorf("compression %q: unknown codec; use zstd[:1-22], gzip[:1-9] or uncompressed", s)
	}
	if hasLevel {
		if c.Codec == Zstd && strings.HasPrefix(level, "chunked") {
			return Compression{}, fmt.Errorf("compression %q: zstd:chunked is made of an image that exists, by lighter convert", s)
		}
		n, err := strconv.Atoi(level)
		if err != nil || level != strconv.Itoa(n) {
			return Compression{}, fmt.Errorf("compression %q: level %q is not a number; use %s", s, level, c.Codec.levels())
		}
		if n == 0 {
			return Compression{}, fmt.Errorf("compression %q: no such level; use %s", s, c.Codec.levels())
		}
		c.Level = n
	}
	c = c.Resolve()
	return c, c.exists()
}

// levels spells a codec's range the way a flag takes it.
func (c Codec) levels() string {
	switch c {
	case Zstd:
		return fmt.Sprintf("zstd:1 to zstd:%d", maxZstdLevel)
	case Gzip:
		return fmt.Sprintf("gzip:1 to gzip:%d", maxGzipLevel)
	}
	return string(c)
}

// Resolve fills in what a zero field stands for.
func (c Compression) Resolve() Compression {
	if c.Codec == "" {
		c.Codec = Zstd
	}
	if c.Level == 0 {
		switch c.Codec {
		case Zstd:
			c.Level = defaultZstdLevel
		case Gzip:
			c.Level = defaultGzipLevel
		}
	}
	return c
}

// String is what Parse reads, with the level always there: "zstd:3", "gzip:6",
// "uncompressed".
func (c Compression) String() string {
	c = c.Resolve()
	if c.Codec == Uncompressed && c.Level == 0 {
		return string(c.Codec)
	}
	return string(c.Codec) + ":" + strconv.Itoa(c.Level)
}

// MediaType is the OCI media type of a layer in this codec, as in the image
// specification, layer.md.
func (c Compression) MediaType() string {
	switch c.Resolve().Codec {
	case Zstd:
		return v1.MediaTypeImageLayerZstd
	case Gzip:
		return v1.MediaTypeImageLayerGzip
	}
	return v1.MediaTypeImageLayer
}

// Validate says whether this build can deliver exactly this codec and level.
// Without cgo the encoder has four zstd levels, which stand where libzstd's 1,
// 3, 7 and 11 are; any other is refused rather than quietly made another.
func (c Compression) Validate() error {
	c = c.Resolve()
	if err := c.exists(); err != nil || c.Codec != Zstd {
		return err
	}
	return zstdLevelHonoured(c.Level)
}

// exists says whether there is such a codec and level.
func (c Compression) exists() error {
	var top int
	switch c.Codec {
	case Zstd:
		top = maxZstdLevel
	case Gzip:
		top = maxGzipLevel
	case Uncompressed:
		if c.Level != 0 {
			return fmt.Errorf("compression %q: uncompressed has no level", c)
		}
		return nil
	default:
		return fmt.Errorf("compression %q: unknown codec; use zstd[:1-22], gzip[:1-9] or uncompressed", c)
	}
	if c.Level < 1 || c.Level > top {
		return fmt.Errorf("compression %q: no such level; use %s", c, c.Codec.levels())
	}
	return nil
}

// Encoder names the library that compresses c and its version: "libzstd
// 1.5.7", "klauspost 1.20.3", "" for uncompressed. It is read from the library
// or from the build, is recorded in every blob, and a blob whose encoder
// differs may differ in every byte.
func Encoder(c Compression) string {
	switch c.Resolve().Codec {
	case Zstd:
		return zstdEncoderName()
	case Gzip:
		return klauspostName()
	}
	return ""
}
