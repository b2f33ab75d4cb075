package cachemount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
)

// Agent is the half that sees directories: it reads and writes what a Session
// asks for, and nothing but the directories it was made for.
type Agent struct {
	Roots map[string]Root // by the names that a Session uses
	Pool  *codec.Pool     // packs and unpacks
}

// Root is the directory of a cache mount. In its Record the agent remembers what it was
// like when it was last exported or imported, so that what has not changed is not
// read again; "" remembers nothing.
type Root engine.MountDir

// Serve answers the session at the other end of stream, which it owns, until
// the stream ends; that is no error. When it returns, nothing runs and nothing
// is half done.
func (a *Agent) Serve(ctx context.Context, stream io.ReadWriteCloser) error {
	c := newConn(stream)
	defer c.close()
	defer context.AfterFunc(ctx, c.close)()
	if err := greet(c); err != nil {
		return err
	}
	pending := map[string]*record{}
	for {
		m, err := c.next()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, ErrCut) {
			return nil
		}
		if err != nil {
			return err
		}
		if m.kind == msgStop { // it came too late
			continue
		}
		o := &operation{agent: a, c: c, pending: pending}
		if err := o.run(ctx, m); err != nil {
			return err
		}
	}
}

// operation is one that the session asked for.
type operation struct {
	agent   *Agent
	c       *conn
	pending map[string]*record // by root: what was exported, and not confirmed yet
	data    *dataReader        // that the session may still be sending
}

// run answers one request. An error is of the stream.
func (o *operation) run(ctx context.Context, m message) error {
	result, err := o.answer(ctx, m)
	if errors.Is(err, ErrCut) {
		return nil // the session went away, and what it asked for is undone
	}
	if err != nil {
		err = o.c.send(msgFailure, newFailure(classify(err)))
	} else {
		err = o.c.send(msgResult, result)
	}
	if o.data != nil {
		o.data.drain()
	}
	if errors.Is(err, ErrCut) {
		return nil
	}
	return err
}

func (o *operation) answer(ctx context.Context, m message) (any, error) {
	if m.kind == msgImport || m.kind == msgExport {
		o.data = &dataReader{c: o.c} // which follow, whatever becomes of the request
	}
	switch m.kind {
	case msgImport:
		var req importRequest
		if err := m.decode(msgImport, &req); err != nil {
			return nil, err
		}
		return o.importRoot(ctx, &req)
	case msgExport:
		var req exportRequest
		if err := m.decode(msgExport, &req); err != nil {
			return nil, err
		}
		return o.exportRoot(ctx, &req)
	case msgConfirm:
		var req confirmRequest
		if err := m.decode(msgConfirm, &req); err != nil {
			return nil, err
		}
		return struct{}{}, o.confirm(&req)
	}
	return nil, fmt.Errorf("%w: %q where a request should be", ErrVersion, m.kind)
}

// classify gives errors of a file system the kinds that the session knows.
func classify(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", ErrDenied, err)
	}
	return err
}

// root is a directory by its name.
func (o *operation) root(name string) (Root, error) {
	r, ok := o.agent.Roots[name]
	switch {
	case !ok:
		return r, fmt.Errorf("there is no cache mount %.100q here", name)
	case r.Err != "":
		return r, errors.New(r.Err)
	}
	return r, nil
}

// tree reads a tree's blob off the stream.
func (o *operation) tree(want digest.Digest) ([]byte, error) {
	b, err := o.rest()
	if err == nil && want.Algorithm().FromBytes(b) != want {
		return nil, corrupt("tree %s has the content of %s", want, want.Algorithm().FromBytes(b))
	}
	return b, err
}

// rest reads data to its end.
func (o *operation) rest() ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(o.data, maxTree+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxTree {
		return nil, corrupt("a tree of more than %d bytes", maxTree)
	}
	o.data = nil
	return b, nil
}

// base reads what an export is held against.
func (o *operation) base() (exportBase, error) {
	var base exportBase
	b, err := o.rest()
	if err == nil {
		if err = json.Unmarshal(b, &base); err != nil {
			err = fmt.Errorf("%w: %w", ErrVersion, err)
		}
	}
	return base, err
}

// wantTree asks for the base's tree.
func (o *operation) wantTree(tree digest.Digest) ([]byte, error) {
	if err := o.c.send(msgWant, wanted{Tree: true}); err != nil {
		return nil, err
	}
	o.data = &dataReader{c: o.c}
	return o.tree(tree)
}

// want asks for ranges of packs and calls each as it comes, with a function that
// reads the next bytes of it.
func (o *operation) want(ranges []packRange, each func(i int, read func(b []byte) error) error) error {
	if err := o.c.send(msgWant, wanted{Ranges: ranges}); err != nil {
		return err
	}
	o.data = &dataReader{c: o.c}
	read := func(b []byte) error {
		_, err := io.ReadFull(o.data, b)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = corrupt("less came than was asked for")
		}
		return err
	}
	for i := range ranges {
		if err := each(i, read); err != nil {
			return err
		}
	}
	var more [1]byte
	if _, err := io.ReadFull(o.data, more[:]); err != io.EOF {
		if err == nil {
			err = corrupt("more came than was asked for")
		}
		return err
	}
	o.data = nil
	return nil
}

// contents reads the indexes of packs. What known holds need not be asked
// for.
func (o *operation) contents(packs []Pack, known *contents) (*contents, error) {
	if known != nil && known.same(packs) {
		known.packs = packs
		return known, nil
	}
	if err := checkPacks(packs); err != nil {
		return nil, err
	}
	var want []packRange
	for i := range packs {
		want = append(want, packRange{i, packs[i].Index.Offset, packs[i].Index.Size})
	}
	out := &contents{}
	if len(want) == 0 {
		return out, nil
	}
	err := o.want(want, func(i int, read func(b []byte) error) error {
		b := make([]byte, packs[i].Index.Size)
		if err := read(b); err != nil {
			return err
		}
		x, err := decodeIndex(&packs[i], b)
		if err != nil {
			return err
		}
		out.add(packs[i], x)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read what the packs hold: %w", err)
	}
	return out, nil
}

// heed ends ctx when the session says stop, or goes away, while the agent sends.
// The function it answers must be called when the sending is over.
func (o *operation) heed(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	over := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case m, ok := <-o.c.in:
			if ok && m.kind == msgStop {
				cancel(ErrStopped)
			} else {
				cancel(ErrCut)
			}
		case <-over:
		}
	}()
	return ctx, func() {
		close(over)
		<-ended
		cancel(nil)
	}
}
