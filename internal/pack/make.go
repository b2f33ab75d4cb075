package pack

import (
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/toolchain"
)

// Options of Make.
type Options struct {
	Builds []toolchain.Build // one a platform
	Spec   Spec
	Pool   *codec.Pool
	// Ahead is called with each platform's image, ref in src, as soon as it is
	// packed, while others still compile. It may send it to where the whole will go,
	// and answers the manifests that it became there: an SBOM names those.
	Ahead func(ctx context.Context, src image.Source, ref string) ([]digest.Digest, error)
	// Compiled is called when nothing is left to compile, while the last platform is
	// still packed and sent: another Make has the compilers for itself from then on.
	Compiled func()
	// Report is told of compiling, from one goroutine at a time.
	Report func(event.Event)
}

// Image is an image of all its platforms. It is an image.Source that resolves the
// digests of Root and Plain, and must be closed.
type Image struct {
	image.Made
	Root   ocispec.Descriptor // an index where there are several platforms or an SBOM
	Plain  ocispec.Descriptor // the same without what is attached, for daemons
	Packed []*Packed          // in the order of the platforms
}

// Close removes what lies on the disk of it.
func (m *Image) Close() error {
	var errs []error
	for _, p := range m.Packed {
		if p != nil {
			errs = append(errs, p.Close())
		}
	}
	return errors.Join(errs...)
}

// Make compiles for every platform and packs what comes of it. Builds that lock
// the same thing run one after the other; packing waits for none.
func Make(ctx context.Context, o Options) (_ *Image, err error) {
	m := &maker{Options: o, locks: map[string]*sync.Mutex{}, slots: make(chan struct{}, atOnce())}
	out := &Image{Packed: make([]*Packed, len(o.Builds))}
	defer func() {
		if err != nil {
			err = errors.Join(err, out.Close())
		}
	}()
	for _, b := range o.Builds {
		m.locks[b.Lock] = &sync.Mutex{}
	}
	var left atomic.Int64
	left.Store(int64(len(o.Builds)))
	g, ctx := errgroup.WithContext(ctx)
	for i, b := range o.Builds {
		g.Go(func() error {
			binaries, err := m.compile(ctx, b)
			if err != nil {
				return err
			}
			if left.Add(-1) == 0 && o.Compiled != nil {
				o.Compiled()
			}
			p, err := o.Spec.Pack(ctx, b.Platform, binaries, o.Pool)
			if p != nil {
				m.notes(p.Notes)
			}
			if out.Packed[i] = p; err != nil || len(o.Builds) == 1 && !o.Spec.SBOM {
				return err
			}
			src := &image.Made{Under: o.Spec.under()}
			p.addTo(src)
			p.became, err = o.Ahead(ctx, src, p.Manifest.Digest.String())
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return out, err
	}
	return out, out.assemble(o.Spec)
}

// under is the source of the base's layers.
func (s Spec) under() image.Source {
	if s.Base == nil {
		return nil
	}
	return s.Base.Source
}

// assemble makes one image of its platforms: an index where there are several.
func (m *Image) assemble(s Spec) error {
	m.Under = s.under()
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Annotations: s.Annotations}
	for _, p := range m.Packed {
		p.addTo(&m.Made)
		entry := p.Manifest
		entry.Platform = &p.Platform
		index.Manifests = append(index.Manifests, entry)
	}
	var err error
	if m.Plain = m.Packed[0].Manifest; len(m.Packed) > 1 {
		if m.Plain, err = addJSON(&m.Made, index.MediaType, index); err != nil {
			return err
		}
	}
	if m.Root = m.Plain; !s.SBOM {
		return nil
	}
	for _, p := range m.Packed {
		entry, err := s.attestation(&m.Made, p)
		if err != nil {
			return err
		}
		index.Manifests = append(index.Manifests, entry)
	}
	m.Root, err = addJSON(&m.Made, index.MediaType, index)
	return err
}

// atOnce is how many compilers run at a time. Each uses all cores by itself, but
// for its linker at the end: on two cores two at a time won nothing (a Go program
// for two platforms, nothing cached: 43 and 43 s, 52 and 63 s), and the first
// was done later.
func atOnce() int { return max(1, runtime.GOMAXPROCS(0)/4) }

// maker is the state of one Make.
type maker struct {
	Options
	locks     map[string]*sync.Mutex // "" is nothing's
	slots     chan struct{}
	reporting sync.Mutex
}

func (m *maker) report(e event.Event) {
	if m.Report == nil {
		return
	}
	m.reporting.Lock()
	defer m.reporting.Unlock()
	e.Time = time.Now()
	m.Report(e)
}

func (m *maker) notes(list []string) {
	for _, note := range list {
		m.report(event.Event{Warning: &event.Warning{Short: note}})
	}
}

// compile runs one build, when it is its turn.
func (m *maker) compile(ctx context.Context, b toolchain.Build) ([]toolchain.Binary, error) {
	if b.Lock != "" {
		m.locks[b.Lock].Lock()
		defer m.locks[b.Lock].Unlock()
	}
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	started := time.Now()
	step := event.Step{ID: b.Title(), Name: b.Title(), Platform: platforms.Format(b.Platform), Started: &started}
	m.report(event.Event{Step: &step})
	m.notes(b.Notes)
	made, err := b.Run(ctx, logger{m, step.ID})
	done, ended := step, time.Now()
	done.Completed = &ended
	if err != nil {
		done.Error = err.Error()
	} else {
		done.Cached = !slices.ContainsFunc(made, func(b toolchain.Binary) bool { return !b.Kept })
	}
	m.report(event.Event{Step: &done})
	return made, err
}

// logger makes events of what a compiler says.
type logger struct {
	*maker
	step string
}

func (l logger) Write(p []byte) (int, error) {
	l.report(event.Event{Log: &event.Log{Step: l.step, Stream: 2, Data: slices.Clone(p)}})
	return len(p), nil
}

var _ io.Writer = logger{}

// Sent tells report of layers in the words of a build, for a copy of plain layers
// to where: what is converted is compressed, and what travels becomes sent; "" says
// nothing of that. What was sent ahead counts once. Layers that image.Copy says are
// another's stay converted.
func Sent(where string, sent event.LayerAction, base []digest.Digest, report func(event.Event)) func(event.Event) {
	var mu sync.Mutex
	there := map[string]bool{}
	return func(e event.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Layer == nil {
			if e.Progress == nil { // of reading what was packed here
				report(e)
			}
			return
		}
		l := *e.Layer
		if there[l.Digest] {
			return
		}
		switch made := l; l.Action {
		case event.LayerConverted:
			if !slices.Contains(base, digest.Digest(l.DiffID)) {
				made.Action = event.LayerCompressed
			}
			report(event.Event{Time: e.Time, Layer: &made})
			l.Action, l.Took = sent, 0
		case event.LayerPushed:
			l.Action = sent
		}
		if l.Action == "" {
			return
		}
		l.Where = where
		there[l.Digest] = l.Action == sent
		report(event.Event{Time: e.Time, Layer: &l})
	}
}
