package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/report"
)

// stream sends a blob of a length that is not said, as layers go that are
// compressed on their way, and then lets package registry send one: what lighter
// does where that is refused is what it has done here.
func (p *probe) stream(ctx context.Context) (string, error) {
	refusal, err := p.streamed(ctx)
	if err != nil {
		return "", err
	}
	repo, err := p.client.Repository(p.ref)
	if err != nil {
		return "", err
	}
	if err := p.layer(ctx, repo); err != nil {
		no := errNo{found: err.Error(), needed: true}
		var failed *registry.Error
		if errors.As(err, &failed) {
			no.found, no.fix = failed.Reason, failed.Next
		}
		if refusal != "" {
			no.found = refusal + ", and lighter cannot push layers: " + no.found
		}
		return "", no
	}
	how := "lighter sends layers in one request, while they are compressed"
	if n := repo.Piece(); n > 0 {
		how = fmt.Sprintf("lighter sends layers in pieces of at most %s, each with its length", report.Bytes(n))
	}
	if refusal == "" {
		return "a body of unknown length arrives: " + how, nil
	}
	return "", errNo{found: refusal + ": " + how}
}

// layer pushes a blob that is too big for a single request of package registry.
func (p *probe) layer(ctx context.Context, repo *registry.Repository) error {
	content := bytes.Repeat([]byte(nonce()), registry.Small/len(nonce())+1)
	b := newBlob("application/octet-stream", content)
	u, err := repo.Upload(ctx)
	if err != nil {
		return err
	}
	defer u.Abort()
	if _, err := u.Write(content); err != nil {
		return err
	}
	if err := u.Commit(ctx, b.desc); err != nil {
		return err
	}
	p.stored = append(p.stored, stored{p.ref.Repository, "blobs", b.desc.Digest.String(), ""})
	return nil
}

// streamed sends a blob without its length, and answers what is wrong with that,
// "" for nothing.
func (p *probe) streamed(ctx context.Context) (refusal string, err error) {
	b := newBlob("application/octet-stream", []byte(strings.Repeat(nonce(), 10)))
	location, err := p.begin(ctx)
	if err != nil {
		return "", err
	}
	defer func() {
		if refusal != "" || err != nil {
			p.cancel(context.WithoutCancel(ctx), p.scopes(), location)
		}
	}()
	a, err := p.send(ctx, request{scopes: p.scopes(), method: http.MethodPatch, path: location, body: b.content, unsized: true,
		header: map[string]string{"Content-Type": "application/octet-stream"}})
	if err != nil {
		return "a body of unknown length breaks the connection", nil
	}
	if a.status/100 != 2 {
		return "a body of unknown length is refused: " + a.says(), nil
	}
	if a.header.Get("Location") != "" {
		if location, err = a.location(); err != nil {
			return "", err
		}
	}
	err = p.commit(ctx, location, b, nil)
	var no errNo
	if errors.As(err, &no) {
		return fmt.Sprintf("a body of unknown length is answered with %d, and does not arrive", a.status), nil
	}
	return "", err
}

// begin asks for an upload.
func (p *probe) begin(ctx context.Context) (location string, err error) {
	a, err := p.send(ctx, request{scopes: p.scopes(), method: http.MethodPost, path: p.ref.Repository + "/blobs/uploads/"})
	if err != nil {
		return "", err
	}
	if a.status != http.StatusAccepted {
		return "", p.refused("an upload", a)
	}
	return a.location()
}

// cancel gives an upload up.
func (p *probe) cancel(ctx context.Context, scopes []string, location string) {
	_, _ = p.send(ctx, request{scopes: scopes, method: http.MethodDelete, path: location}) // else it is forgotten by itself
}

// resume sends a blob in two pieces, and asks in between how much has arrived:
// as after a connection that broke.
func (p *probe) resume(ctx context.Context) (found string, err error) {
	b := p.sample.pieces
	half := len(b.content) / 2
	location, err := p.begin(ctx)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			p.cancel(context.WithoutCancel(ctx), p.scopes(), location)
		}
	}()
	if location, err = p.piece(ctx, location, b.content, 0, half); err != nil {
		return "", err
	}
	a, err := p.send(ctx, request{scopes: p.scopes(), method: http.MethodGet, path: location})
	if err != nil {
		return "", err
	}
	if got := strings.TrimPrefix(a.header.Get("Range"), "bytes="); a.status/100 != 2 || got != fmt.Sprintf("0-%d", half-1) {
		return "", errNo{found: fmt.Sprintf("it does not say how much of an upload it has: status %d, range %.50q", a.status, got)}
	}
	if a.header.Get("Location") != "" {
		if location, err = a.location(); err != nil {
			return "", err
		}
	}
	if location, err = p.piece(ctx, location, b.content, half, len(b.content)); err != nil {
		return "", err
	}
	if err = p.commit(ctx, location, b, nil); err != nil {
		return "", err
	}
	return "an upload that broke goes on where it was", nil
}

// piece sends a part of a blob and answers where the next one goes.
func (p *probe) piece(ctx context.Context, location string, content []byte, from, to int) (string, error) {
	a, err := p.send(ctx, request{scopes: p.scopes(), method: http.MethodPatch, path: location, body: content[from:to],
		header: map[string]string{"Content-Type": "application/octet-stream", "Content-Range": fmt.Sprintf("%d-%d", from, to-1)}})
	if err != nil {
		return location, err
	}
	if a.status != http.StatusAccepted && a.status != http.StatusNoContent {
		return location, p.refused("a piece of a blob", a)
	}
	if a.header.Get("Location") == "" {
		return location, nil
	}
	return a.location()
}
