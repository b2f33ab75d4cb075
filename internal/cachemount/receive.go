package cachemount

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/lighter-oci/lighter/internal/image"
)

// exportResult ends an export: what it did, which of the earlier packs stay, and
// the tree that came before it.
type exportResult struct {
	Exported
	Keep []int         `json:"keep"` // in the order in which the tree counts them, before the new ones
	Tree digest.Digest `json:"tree"`
}

// commitsAtOnce is how many blobs a registry may still be at while the next comes.
const commitsAtOnce = 2

// receiver takes an export in.
type receiver struct {
	s    *Session
	ctx  context.Context // ends when a commit fails
	base *Mount
	to   *store

	up      image.Upload // the pack that is coming, or the tree
	next    chan upload  // the one after it, which is opened meanwhile; nil behind the tree
	commits *errgroup.Group
	packs   []Pack
	sent    int64
	err     error // why it gave up; the agent is told to stop
}

// upload is one, or why there is none.
type upload struct {
	image.Upload
	err error
}

func newReceiver(ctx context.Context, s *Session, to *store) *receiver {
	r := &receiver{s: s, to: to}
	r.commits, r.ctx = errgroup.WithContext(ctx)
	r.commits.SetLimit(commitsAtOnce)
	r.open()
	return r
}

// open begins to open an upload.
func (r *receiver) open() {
	next := make(chan upload, 1)
	go func() {
		up, err := r.to.dst.Upload(r.ctx)
		next <- upload{up, err}
	}()
	r.next = next
}

// begin takes the upload that was opened.
func (r *receiver) begin(another bool) error {
	got := <-r.next
	if r.next = nil; another {
		r.open()
	}
	r.up = got.Upload
	return got.err
}

func (r *receiver) run() (*Mount, Exported, error) {
	for {
		msg, err := r.s.c.next()
		if err != nil {
			ours := r.failed()
			return nil, Exported{}, errors.Join(ours, ignoreStopped(ours, err))
		}
		if msg.kind == msgResult {
			var res exportResult
			if r.err != nil {
				return nil, Exported{}, r.failed()
			}
			if err := msg.decode(msgResult, &res); err != nil {
				return nil, Exported{}, err
			}
			return r.finish(res)
		}
		if msg.kind == msgWant { // the agent sends nothing meanwhile, and knows how it ends
			if err := r.s.give(r.ctx, msg, r.base, r.to); err != nil {
				return nil, Exported{}, err
			}
			continue
		}
		if r.err == nil {
			if r.err = r.take(msg); r.err != nil {
				if err := r.s.c.send(msgStop, nil); err != nil {
					return nil, Exported{}, errors.Join(r.err, err)
				}
			}
		}
		r.s.c.recycle(msg.body)
	}
}

// failed is why it gave up, or what of it the registry did not take. Nothing can
// be sent any more.
func (r *receiver) failed() error {
	if err := r.commits.Wait(); err != nil {
		return err
	}
	return r.err
}

// ignoreStopped leaves the agent's answer to a stop out of what is reported.
func ignoreStopped(ours, theirs error) error {
	if ours != nil && errors.Is(theirs, ErrStopped) {
		return nil
	}
	return theirs
}

// take handles one message.
func (r *receiver) take(msg message) (err error) {
	switch msg.kind {
	case msgPack:
		if r.up != nil || r.next == nil {
			return fmt.Errorf("%w: a pack within another, or behind the tree", ErrVersion)
		}
		return r.begin(true)
	case msgData:
		if r.up == nil { // the tree, which has no beginning of its own
			if r.next == nil {
				return fmt.Errorf("%w: data behind the tree", ErrVersion)
			}
			if err := r.begin(false); err != nil {
				return err
			}
		}
		_, err = r.up.Write(msg.body)
		return err
	case msgPacked:
		p := Pack{}
		if err := msg.decode(msgPacked, &p.Index); err != nil {
			return err
		}
		if p.Digest, p.Size, err = r.commit(mediaTypePack); err != nil {
			return err
		}
		r.packs = append(r.packs, p)
		return p.check()
	}
	return fmt.Errorf("%w: %q in an export", ErrVersion, msg.kind)
}

// commit ends the blob that came. Whether it has arrived failed tells.
func (r *receiver) commit(mediaType string) (digest.Digest, int64, error) {
	if r.up == nil {
		return "", 0, fmt.Errorf("%w: an export without content", ErrVersion)
	}
	up := r.up
	d, n := up.Written()
	r.commits.Go(func() error { return up.Commit(r.ctx, ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: n}) })
	r.up = nil
	r.sent += n
	return d, n, nil
}

func (r *receiver) abort() {
	_ = r.commits.Wait()
	if r.next != nil {
		if got := <-r.next; got.err == nil {
			got.Abort()
		}
	}
	if r.up != nil {
		r.up.Abort()
	}
}

// finish is the mount that the export makes.
func (r *receiver) finish(res exportResult) (*Mount, Exported, error) {
	d, n, err := r.commit(mediaTypeTree)
	if err == nil {
		err = r.failed()
	}
	if err != nil {
		return nil, Exported{}, err
	}
	if d != res.Tree {
		return nil, Exported{}, fmt.Errorf("%w: the tree came as %s, not %s", ErrCut, d, res.Tree)
	}
	m := &Mount{Tree: ocispec.Descriptor{MediaType: mediaTypeTree, Digest: d, Size: n}, Files: res.Files, Size: res.Size}
	for _, k := range res.Keep {
		if k < 0 || k >= len(r.base.Packs) {
			return nil, Exported{}, fmt.Errorf("%w: it keeps pack %d of %d", ErrVersion, k, len(r.base.Packs))
		}
		m.Packs = append(m.Packs, r.base.Packs[k])
	}
	m.Packs = append(m.Packs, r.packs...)
	if err := checkPacks(m.Packs); err != nil {
		return nil, Exported{}, err // nobody could read it
	}
	res.Sent = r.sent
	return m, res.Exported, nil
}
