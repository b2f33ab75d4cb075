package registry

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"net/url"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
)

// errEnded is for whoever writes to an upload that was committed or aborted.
var errEnded = errors.New("the upload has ended")

// Small is the biggest blob, in bytes, that travels in one request, with its
// commit: configs, and the layers of a WORKDIR or a COPY of a file.
const Small = 64 << 10

// upload is one blob on its way to a registry. Up to Small bytes it waits for
// what comes. Then send runs beside the writer.
type upload struct {
	repo    *Repository
	ctx     context.Context // of Upload, and ended by Abort
	stop    context.CancelFunc
	what    string
	release func()

	ring *ring
	hash hash.Hash
	size int64
	done chan struct{} // closed when send has ended; nil while the blob is small
	over bool          // committed or aborted

	// Below is send's while it runs.
	failed  error
	session *url.URL
	next    int64 // how much the registry is known to have
	fails   int   // since the last progress
	mark    int64 // where that is measured from
}

// Upload implements image.Target.
func (r *Repository) Upload(ctx context.Context) (image.Upload, error) {
	release, err := r.client.acquire(ctx, "uploads to "+r.ref.Host)
	if err != nil {
		return nil, err
	}
	u := &upload{repo: r, what: r.ref.Name(), release: release, ring: newRing(r.client.opts.Keep), hash: sha256.New()}
	u.ctx, u.stop = context.WithCancel(ctx)
	if err := u.begin(); err != nil {
		err = u.explain(err)
		u.stop()
		release()
		return nil, err
	}
	context.AfterFunc(u.ctx, func() { u.ring.fail(u.ctx.Err()) })
	return u, nil
}

// begin asks for a session.
func (u *upload) begin() error {
	resp, err := u.do(u.ctx, http.MethodPost, u.repo.url("/blobs/uploads/"), request{idempotent: true}, http.StatusAccepted)
	if err != nil {
		return err
	}
	drain(resp)
	session, err := follow(resp)
	if err == nil {
		u.session, u.next = session, 0
	}
	return err
}

// do sends a request of the upload.
func (u *upload) do(ctx context.Context, method, url string, q request, want ...int) (*http.Response, error) {
	q.access, q.what, q.method, q.url = u.repo.push(), u.what, method, url
	return u.repo.do(ctx, q, want...)
}

// explain is for errors that end the upload.
func (u *upload) explain(err error) error {
	if u.ctx.Err() != nil {
		return u.ctx.Err()
	}
	return u.repo.explain(u.what, err)
}

// Write implements image.Upload.
func (u *upload) Write(p []byte) (int, error) {
	if u.over {
		return 0, fmt.Errorf("%s: %w", u.what, errEnded)
	}
	if u.size+int64(len(p)) > Small {
		u.stream() // first: the ring does not take more than a little unsent
	}
	n, err := u.ring.Write(p)
	_, _ = u.hash.Write(p[:n])
	u.size += int64(n)
	return n, err
}

// stream begins to send beside the writer.
func (u *upload) stream() {
	if u.done != nil {
		return
	}
	u.done = make(chan struct{})
	go func() {
		defer close(u.done)
		if u.failed = u.send(); u.failed != nil {
			u.ring.fail(u.failed)
		}
	}()
}

// Written implements image.Upload.
func (u *upload) Written() (digest.Digest, int64) {
	return digest.NewDigest(digest.SHA256, u.hash), u.size
}

// Abort implements image.Upload.
func (u *upload) Abort() {
	if u.over {
		return
	}
	u.over = true
	u.stop()
	u.ring.fail(errEnded)
	if u.done != nil {
		<-u.done
	}
	u.repo.cancel(u.ctx, u.session)
	u.release()
}

// Commit implements image.Upload. After an error nothing of the blob stays.
func (u *upload) Commit(ctx context.Context, desc ocispec.Descriptor) error {
	if u.over {
		return fmt.Errorf("%s: %w", u.what, errEnded)
	}
	defer context.AfterFunc(ctx, u.stop)()
	err := u.commit(desc)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		u.Abort()
		return err
	}
	u.over = true
	u.stop()
	u.ring.fail(errEnded)
	u.release()
	return nil
}

func (u *upload) commit(desc ocispec.Descriptor) error {
	if err := u.check(desc); err != nil {
		return err
	}
	u.ring.close()
	if u.done != nil {
		<-u.done
		if u.failed != nil {
			return u.failed
		}
	}
	u.what = u.repo.named(desc.Digest)
	for {
		if u.done != nil {
			if err := u.send(); err != nil {
				return err
			}
		}
		err := u.put(desc)
		if err == nil {
			return nil
		}
		there, err := u.settle(err, desc)
		if there {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// check holds what was written against what is to be committed. Digests of
// another algorithm than SHA-256 are the registry's to check where the start of
// the blob is no longer here.
func (u *upload) check(desc ocispec.Descriptor) error {
	if err := image.CheckDescriptor(desc); err != nil {
		return err
	}
	if u.size != desc.Size {
		return fmt.Errorf("%s: %w: %d bytes were written, the descriptor says %d", u.repo.named(desc.Digest), image.ErrCorrupt, u.size, desc.Size)
	}
	got := digest.NewDigest(digest.SHA256, u.hash)
	if algorithm := desc.Digest.Algorithm(); algorithm != digest.SHA256 {
		b, whole := u.ring.whole()
		if !whole {
			return nil
		}
		got = algorithm.FromBytes(b)
	}
	if got != desc.Digest {
		return fmt.Errorf("%s: %w: %s was written", u.repo.named(desc.Digest), image.ErrCorrupt, got)
	}
	return nil
}

// put commits what the registry has, or a small blob with its content.
func (u *upload) put(desc ocispec.Descriptor) error {
	// A registry reads or moves the whole blob before it answers.
	ctx, stop := context.WithTimeoutCause(u.ctx, 4*u.repo.client.opts.Idle, errStalled)
	defer stop()
	q := request{}
	if u.done == nil {
		b, _ := u.ring.whole()
		q.header = http.Header{"Content-Type": {"application/octet-stream"}}
		if len(b) > 0 {
			q.body, q.length = content(b), int64(len(b))
		}
	}
	session := *u.session
	if session.RawQuery != "" {
		session.RawQuery += "&"
	}
	session.RawQuery += "digest=" + url.QueryEscape(desc.Digest.String())
	resp, err := u.do(ctx, http.MethodPut, session.String(), q, http.StatusCreated, http.StatusNoContent, http.StatusOK)
	if err != nil {
		return caused(ctx, err)
	}
	drain(resp)
	if err := sameDigest(resp, desc.Digest); err != nil {
		return fmt.Errorf("%s: %w", u.what, err)
	}
	return nil
}

// caused answers why a request was given up, where that is known better than
// from its error.
func caused(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}
