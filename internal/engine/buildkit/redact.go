package buildkit

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/moby/buildkit/client"

	"github.com/lighter-oci/lighter/internal/engine"
)

// redactor replaces the values of the build's secrets wherever a status would
// show them. A log that ends in the beginning of a secret is held back that
// far, until the next piece shows what it was.
type redactor struct {
	values [][]byte
	held   map[logStream]*client.VertexLog
}

type logStream struct {
	vertex string
	stream int
}

const (
	// minSecret is the shortest value that is looked for, bytes: shorter ones
	// would tear ordinary words apart.
	minSecret = 4
	// maxSecret is the most that BuildKit lets one have.
	maxSecret = 500 << 10
)

var redacted = []byte("[secret]")

func newRedactor(secrets map[string][]byte) *redactor {
	r := &redactor{held: map[logStream]*client.VertexLog{}}
	for _, value := range secrets {
		for line := range bytes.SplitSeq(value, []byte("\n")) {
			if line = bytes.TrimSpace(line); len(line) >= minSecret {
				r.values = append(r.values, line)
			}
		}
	}
	// The longest first, so that a value is not left half shown.
	slices.SortFunc(r.values, func(a, b []byte) int { return len(b) - len(a) })
	return r
}

// readSecrets reads every secret once: a pipe has its value only once, and the
// engine and the redactor must see the same.
//
// A pipe that nobody writes to is waited for until ctx ends.
func readSecrets(ctx context.Context, secrets []engine.Secret) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, s := range secrets {
		if s.Env != "" {
			out[s.ID] = []byte(os.Getenv(s.Env))
			continue
		}
		value, err := until(ctx, func() ([]byte, error) { return readSecret(s.File) })
		if err != nil {
			return nil, fmt.Errorf("secret %s: %w", s.ID, err)
		}
		out[s.ID] = value
	}
	return out, nil
}

// hiddenValues are the values that nobody may see: the secrets, and passwords
// in the URLs of contexts.
func hiddenValues(req engine.Request, secrets map[string][]byte) map[string][]byte {
	hidden := maps.Clone(secrets)
	for name, context := range req.NamedContexts {
		hidePassword(hidden, "context "+name, context)
	}
	hidePassword(hidden, "context", req.Context)
	return hidden
}

// hidePassword adds the password in a URL, as it is written there and as it is
// meant.
func hidePassword(hidden map[string][]byte, name, address string) {
	_, rest, ok := strings.Cut(address, "://")
	login, _, ok2 := strings.Cut(rest, "@")
	if !ok || !ok2 || strings.Contains(login, "/") {
		return
	}
	user, password, ok := strings.Cut(login, ":")
	if !ok {
		password = user // a token alone
	}
	hidden[name] = []byte(password)
	if plain, err := url.PathUnescape(password); err == nil && plain != password {
		hidden[name+" "] = []byte(plain)
	}
}

// until is what f answers, or why ctx ended before. An f that is stuck in the
// kernel, opening a pipe, stays there until the process ends.
func until[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		value, err := f()
		done <- answer{value, err}
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	value, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return nil, err
	}
	if len(value) > maxSecret {
		return nil, fmt.Errorf("%s has more than the %d bytes that a secret may have", path, maxSecret)
	}
	return value, nil
}

// status cleans s in place.
func (r *redactor) status(s *client.SolveStatus) {
	if len(r.values) == 0 {
		return
	}
	for _, l := range s.Logs {
		r.log(l)
	}
	s.Logs = slices.DeleteFunc(s.Logs, func(l *client.VertexLog) bool { return len(l.Data) == 0 })
	for _, v := range s.Vertexes {
		v.Name, v.Error = r.text(v.Name), r.text(v.Error)
	}
	for _, st := range s.Statuses {
		st.ID, st.Name = r.text(st.ID), r.text(st.Name)
	}
	for _, w := range s.Warnings {
		w.Short = r.clean(w.Short)
		for i := range w.Detail {
			w.Detail[i] = r.clean(w.Detail[i])
		}
	}
}

func (r *redactor) log(l *client.VertexLog) {
	key := logStream{l.Vertex.String(), l.Stream}
	data := l.Data
	if h := r.held[key]; h != nil {
		data = append(h.Data, data...)
		delete(r.held, key)
	}
	data = r.clean(data)
	if n := r.partial(data); n > 0 {
		h := *l
		h.Data = slices.Clone(data[len(data)-n:])
		r.held[key] = &h
		data = data[:len(data)-n]
	}
	l.Data = data
}

// partial is how many bytes at the end of b could be the beginning of a value.
func (r *redactor) partial(b []byte) int {
	longest := 0
	for _, v := range r.values {
		for n := min(len(v)-1, len(b)); n > longest; n-- {
			if bytes.HasSuffix(b, v[:n]) {
				longest = n
			}
		}
	}
	return longest
}

// rest is what was still held back when the build ended.
func (r *redactor) rest() *client.SolveStatus {
	s := &client.SolveStatus{}
	for _, l := range r.held {
		s.Logs = append(s.Logs, l)
	}
	clear(r.held)
	return s
}

func (r *redactor) text(s string) string { return string(r.clean([]byte(s))) }

func (r *redactor) clean(b []byte) []byte {
	for _, v := range r.values {
		b = bytes.ReplaceAll(b, v, redacted)
	}
	return b
}
