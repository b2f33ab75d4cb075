package cachemount

import (
	"context"
	"errors"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
)

// Pull makes the agent's directory root what the artifact, read from p, has
// under a key. Only what the directory lacks is fetched, and nothing of other
// mounts. ErrNone is wrapped where the artifact has no such mount. After any
// error the directory is as it was.
func Pull(ctx context.Context, p Place, a *Artifact, k Key, s *Session, root string, o ImportOptions) (ImportResult, error) {
	m := a.Find(k)
	if m == nil {
		return ImportResult{}, fmt.Errorf("%s: %w", k, ErrNone)
	}
	src, err := p.Source()
	if err != nil {
		return ImportResult{}, err
	}
	defer release(src)
	out, err := s.importMount(ctx, root, m, &store{src: src}, o)
	if err != nil {
		return out, fmt.Errorf("%s: %w", k, err)
	}
	return out, nil
}

// store is where an artifact's blobs are, as a session needs them.
type store struct {
	src image.Source
	dst image.Target // for a push
}

// whole reads a blob from its start, verified.
func (st *store) whole(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := st.src.Fetch(ctx, desc)
	return r, missing(err)
}

// Ranges are fetched in parts of at most requestSize bytes, requests of them at a
// time: latency is then paid for once in a while, and memory is bounded by their
// product.
const (
	requestSize = 4 << 20
	requests    = 4
)

// request is one of them.
type request struct {
	pack   *Pack
	offset int64
	length int64
	done   chan struct{}
	b      []byte
	err    error
}

// ranges writes parts of packs to w, one after the other.
func (st *store) ranges(ctx context.Context, w io.Writer, packs []Pack, ranges []packRange) error {
	fetching, cancel := context.WithCancel(ctx)
	defer cancel()
	var todo []*request
	for _, r := range ranges {
		for at := int64(0); at < r.Length; at += requestSize {
			todo = append(todo, &request{pack: &packs[r.Pack], offset: r.Offset + at, length: min(requestSize, r.Length-at), done: make(chan struct{})})
		}
	}
	started := 0
	for i, p := range todo {
		for ; started < len(todo) && started < i+requests; started++ {
			go st.fetch(fetching, todo[started])
		}
		<-p.done
		if errors.Is(p.err, image.ErrNoRange) {
			cancel()
			return st.wholes(ctx, w, todo[i:])
		}
		if p.err != nil {
			return missing(p.err)
		}
		if _, err := w.Write(p.b); err != nil {
			return err
		}
		p.b = nil
	}
	return nil
}

func (st *store) fetch(ctx context.Context, p *request) {
	defer close(p.done)
	r, err := st.src.FetchRange(ctx, p.pack.descriptor(), p.offset, p.length)
	if err != nil {
		p.err = err
		return
	}
	p.b = make([]byte, p.length)
	_, err = io.ReadFull(r, p.b)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = corrupt("pack %s ends before byte %d", p.pack.Digest, p.offset+p.length)
	}
	p.err = errors.Join(err, r.Close())
}

// wholes is for a source that gives out whole blobs only: each pack is read from
// its start, once for parts that follow one another.
func (st *store) wholes(ctx context.Context, w io.Writer, todo []*request) (err error) {
	var open io.ReadCloser
	var pack *Pack
	at := int64(0)
	defer func() {
		if open != nil {
			err = errors.Join(err, open.Close())
		}
	}()
	for _, p := range todo {
		if open == nil || pack != p.pack || at > p.offset {
			if open != nil {
				if err := open.Close(); err != nil {
					return err
				}
			}
			if open, err = st.whole(ctx, p.pack.descriptor()); err != nil {
				return err
			}
			pack, at = p.pack, 0
		}
		if _, err := io.CopyN(io.Discard, open, p.offset-at); err != nil {
			return err
		}
		if _, err := io.CopyN(w, open, p.length); err != nil {
			return err
		}
		at = p.offset + p.length
	}
	return nil
}
