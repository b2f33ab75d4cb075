package pack

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/containerd/platforms"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/toolchain"
)

// prepare holds every binary against the platform and the base, before anything
// is made of it, and answers those that go into the image: without symbols, and
// compressed by UPX where that was asked for.
func (s Spec) prepare(ctx context.Context, out *Packed, binaries []toolchain.Binary, under *image.Manifest, pool *codec.Pool) ([]toolchain.Binary, error) {
	var on *layers
	var ready []toolchain.Binary
	for _, b := range binaries {
		is, err := examine(b, out.Platform)
		if err != nil {
			return nil, err
		}
		if on == nil && under != nil && is.loader+strings.Join(is.libraries, "") != "" {
			if on, err = s.Base.list(ctx, under, pool); err != nil {
				return nil, err
			}
		}
		if err := is.startsOn(on); err != nil {
			return nil, err
		}
		if is.symbols {
			if b, err = s.strip(ctx, out, b); err != nil {
				return nil, err
			}
		}
		if s.UPX {
			b = s.upx(ctx, out, b, pool)
		}
		ready = append(ready, b)
	}
	return ready, nil
}

// temporary is a place for another form of a binary.
func (p *Packed) temporary(b toolchain.Binary, in string) (toolchain.Binary, error) {
	f, err := p.create(in)
	if err != nil {
		return b, err
	}
	b.Path = f.Name()
	return b, f.Close()
}

// strip takes symbols away, to Debug where that is asked for; only then is it an
// error that there is nothing here that can.
func (s Spec) strip(ctx context.Context, out *Packed, b toolchain.Binary) (toolchain.Binary, error) {
	debug := ""
	if s.Debug != "" {
		if err := os.MkdirAll(s.Debug, 0o777); err != nil {
			return b, fmt.Errorf("debug information: %w", err)
		}
		debug = toolchain.DebugFile(s.Debug, b.Name, out.Platform)
	}
	to, err := out.temporary(b, s.Temp)
	if err != nil {
		return b, err
	}
	err = toolchain.Strip(ctx, out.Platform, b.Path, to.Path, debug)
	if err == nil || s.Debug != "" || ctx.Err() != nil {
		return to, err
	}
	note := fmt.Sprintf("%s keeps its symbols: %v", b.Name, err)
	if hinted, ok := err.(interface{ Hint() string }); ok {
		note += " → " + hinted.Hint()
	}
	out.Notes = append(out.Notes, note)
	return b, nil
}

// upx compresses a binary. Whatever goes wrong, the binary as it was will do.
// What it saves and what it costs is a note.
func (s Spec) upx(ctx context.Context, out *Packed, b toolchain.Binary, pool *codec.Pool) toolchain.Binary {
	note := func(format string, args ...any) {
		out.Notes = append(out.Notes, "upx: "+b.Name+" for "+platforms.Format(out.Platform)+fmt.Sprintf(format, args...))
	}
	to, err := out.temporary(b, s.Temp)
	if err == nil {
		err = os.Remove(to.Path) // upx makes its output itself
	}
	var took time.Duration
	if err == nil {
		var said []byte
		if said, err = exec.CommandContext(ctx, "upx", "-qqq", "-o", to.Path, b.Path).CombinedOutput(); err != nil && len(said) > 0 {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(said)))
		}
	}
	if err == nil {
		_, err = examine(to, out.Platform)
	}
	if err == nil {
		started := time.Now()
		err = exec.CommandContext(ctx, "upx", "-qqq", "-t", to.Path).Run()
		took = time.Since(started)
	}
	if err != nil {
		note(" stays as it is: %v", err)
		return b
	}
	before, err1 := s.pulled(b.Path, pool)
	after, err2 := s.pulled(to.Path, pool)
	if err1 != nil || err2 != nil || after >= before {
		note(" stays as it is: in the layer it would be no smaller")
		return b
	}
	note(" is %d kB to pull instead of %d kB; each start decompresses it, %d ms here, into memory that no two processes share",
		after/1000, before/1000, took.Milliseconds())
	return to
}

// pulled is how many bytes of a layer a file is.
func (s Spec) pulled(file string, pool *codec.Pool) (int64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	w, err := pool.NewWriter(io.Discard, codec.Options{Compression: s.Compression})
	if err != nil {
		return 0, err
	}
	defer w.Abort()
	if _, err := io.Copy(w, f); err != nil {
		return 0, err
	}
	err = w.Close()
	return w.Result().Out, err
}
