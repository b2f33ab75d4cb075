package cachemount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Session is the end of a stream that asks an Agent, on behalf of somebody who
// may read and write an artifact. One operation runs at a time.
type Session struct {
	c  *conn
	mu sync.Mutex
}

// NewSession greets the agent at the other end of stream, and owns it from then
// on. Errors wrap ErrCut or ErrVersion.
func NewSession(ctx context.Context, stream io.ReadWriteCloser) (*Session, error) {
	s := &Session{c: newConn(stream)}
	if err := s.do(ctx, func() error { return greet(s.c) }); err != nil {
		s.c.close()
		return nil, err
	}
	return s, nil
}

// greet sends a hello while the other side does.
func greet(c *conn) error {
	sent := make(chan error, 1)
	go func() { sent <- c.send(msgHello, hello{wireVersion}) }()
	var h hello
	err := c.expect(msgHello, &h)
	if err == nil && h.Version != wireVersion {
		err = fmt.Errorf("%w: %d here, %d there; use one lighter for both", ErrVersion, wireVersion, h.Version)
	}
	if err != nil {
		c.close()
	}
	return errors.Join(err, <-sent)
}

// Close ends the stream; the agent's Serve returns.
func (s *Session) Close() error {
	s.c.close()
	return nil
}

// do runs one operation. A context that ends takes the stream with it: what the
// agent was at is undone.
func (s *Session) do(ctx context.Context, f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, s.c.close)()
	err := f()
	if errors.Is(err, ErrVersion) || errors.Is(err, ErrCut) {
		s.c.close() // nobody knows where the stream stands
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// importMount has the agent make the directory root what m says.
func (s *Session) importMount(ctx context.Context, root string, m *Mount, from *store, o ImportOptions) (out ImportResult, err error) {
	err = s.do(ctx, func() error {
		req := importRequest{Root: root, Packs: m.Packs, Tree: m.Tree.Digest, Option: o}
		if err := s.c.send(msgImport, req); err != nil {
			return err
		}
		if err := s.sendTree(ctx, m, from); err != nil {
			return err
		}
		for {
			msg, err := s.c.next()
			if err != nil {
				return err
			}
			switch msg.kind {
			case msgWant:
				if err := s.give(ctx, msg, m, from); err != nil {
					return err
				}
			default:
				return msg.decode(msgResult, &out)
			}
		}
	})
	return out, err
}

// sendTree sends a mount's tree; nothing for none.
func (s *Session) sendTree(ctx context.Context, m *Mount, from *store) error {
	return s.stream(func(w io.Writer) error {
		if m.Tree.Digest == "" {
			return nil
		}
		r, err := from.whole(ctx, m.Tree)
		if err != nil {
			return err
		}
		_, err = io.Copy(struct{ io.Writer }{w}, struct{ io.Reader }{r})
		return errors.Join(err, r.Close())
	})
}

// give sends what the agent wants.
func (s *Session) give(ctx context.Context, msg message, m *Mount, from *store) error {
	var want wanted
	if err := msg.decode(msgWant, &want); err != nil {
		return err
	}
	if want.Tree {
		return s.sendTree(ctx, m, from)
	}
	packs := m.Packs
	for _, r := range want.Ranges {
		if r.Pack < 0 || r.Pack >= len(packs) || r.Offset < 0 || r.Length < 0 || r.Length > packs[r.Pack].Size-r.Offset {
			return fmt.Errorf("%w: it wants %d bytes at %d of pack %d of %d", ErrVersion, r.Length, r.Offset, r.Pack, len(packs))
		}
	}
	return s.stream(func(w io.Writer) error { return from.ranges(ctx, w, packs, want.Ranges) })
}

// stream sends data and its end. Where that fails here, the agent is told and
// its answer awaited; where the agent fails, that is the error.
func (s *Session) stream(f func(w io.Writer) error) error {
	w := &heeding{c: s.c}
	err := f(w)
	if w.theirs != nil {
		_ = s.c.send(msgEnd, nil)
		return w.theirs
	}
	if err == nil {
		return s.c.send(msgEnd, nil)
	}
	if errors.Is(err, ErrCut) {
		return err
	}
	if serr := s.c.send(msgFailure, failure{Kind: "stopped", Message: err.Error()}); serr != nil {
		return errors.Join(err, serr)
	}
	for { // until the agent has undone what it was at
		if _, aerr := s.c.next(); aerr != nil {
			return err
		}
	}
}

// heeding sends data for as long as the agent has not failed.
type heeding struct {
	c      *conn
	theirs error
}

func (h *heeding) Write(p []byte) (int, error) {
	if h.theirs == nil {
		select {
		case m, ok := <-h.c.in:
			switch {
			case !ok:
				h.theirs = h.c.err
			case m.kind == msgFailure:
				h.theirs = m.failure()
			default:
				h.theirs = fmt.Errorf("%w: %q while it is sent data", ErrVersion, m.kind)
			}
		default:
		}
	}
	if h.theirs != nil {
		return 0, h.theirs
	}
	return h.c.Write(p)
}

// exportMount has the agent send what the directory root holds and base, the
// mount as the artifact has it, does not. What comes is uploaded. While base is
// asked for the agent lists the directory.
func (s *Session) exportMount(ctx context.Context, root string, base func() (*Mount, error), to *store, o ExportOptions) (m *Mount, out Exported, err error) {
	err = s.do(ctx, func() error {
		if err := s.c.send(msgExport, exportRequest{Root: root, Option: o}); err != nil {
			return err
		}
		r := newReceiver(ctx, s, to)
		defer r.abort()
		err := s.stream(func(w io.Writer) (err error) {
			if r.base, err = base(); err != nil {
				return err
			}
			return json.NewEncoder(w).Encode(exportBase{r.base.Packs, r.base.Tree.Digest})
		})
		if err != nil {
			return err
		}
		m, out, err = r.run()
		return err
	})
	return m, out, err
}

// confirm tells the agent that the artifact has m as the contents of root.
func (s *Session) confirm(ctx context.Context, root string, m *Mount) error {
	return s.do(ctx, func() error {
		if err := s.c.send(msgConfirm, confirmRequest{root, m.Packs}); err != nil {
			return err
		}
		return s.c.expect(msgResult, &struct{}{})
	})
}
