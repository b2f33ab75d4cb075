// Package gha keeps blobs, manifests and names in the cache of GitHub Actions,
// as a registry would. It owns how they are called there, and how a name moves in
// a cache whose entries never change.
//
// GitHub's cache has entries with a key, in scopes: a workflow writes to that of its
// branch, and reads from there, then from the default branch's. An entry is found
// by its key or a prefix of it, of which the newest matches. So each content is an
// entry
//
//	lighter-1-sha256-DIGEST-SIZE#       and, where somebody died while writing that,
//	lighter-1-sha256-DIGEST-SIZE#SUFFIX
//
// and what a name stands for is in the newest of
//
//	lighter-1-name-NAME#1, lighter-1-name-NAME#2, …
//
// as a descriptor that has its manifest's bytes with it.
//
// Nothing can be deleted. GitHub drops what nobody asked for in seven days, and
// what was asked for longest ago where a repository has more than 10 GB.
//
// The service has no specification. What is known of it stands in BuildKit's client
// (github.com/tonistiigi/go-actions-cache), which does the talking here.
package gha

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	actionscache "github.com/tonistiigi/go-actions-cache"

	"github.com/lighter-oci/lighter/internal/image"
)

// Store is the cache of one repository, as one branch sees it. It is safe for
// concurrent use.
type Store struct {
	cache  *actionscache.Cache
	client *http.Client
	wait   time.Duration // between two tries

	mu   sync.Mutex
	urls map[digest.Digest]*entry // of contents that were found
}

var (
	_ image.Source = (*Store)(nil)
	_ image.Target = (*Store)(nil)
)

// Names of the environment of a workflow's steps. Only actions see them; others get
// them from one that hands them on.
const (
	tokenVar = "ACTIONS_RUNTIME_TOKEN"
	urlV2Var = "ACTIONS_RESULTS_URL"
	urlV1Var = "ACTIONS_CACHE_URL"
	isV2Var  = "ACTIONS_CACHE_SERVICE_V2"
)

// Open finds the cache in a workflow's environment. Nothing is asked of it yet.
func Open(getenv func(string) string) (*Store, error) {
	token, v1, v2 := getenv(tokenVar), getenv(urlV1Var), getenv(urlV2Var)
	if isV2, err := strconv.ParseBool(getenv(isV2Var)); err == nil && isV2 || v1 == "" {
		v1 = ""
	} else {
		v2 = ""
	}
	if token == "" || v1+v2 == "" {
		return nil, fmt.Errorf("the cache of GitHub Actions needs %s and %s, which steps get from an action such as crazy-max/ghaction-github-runtime", tokenVar, urlV2Var)
	}
	cache, err := actionscache.New(token, v1+v2, v1 == "", actionscache.Opt{UserAgent: "lighter"})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tokenVar, err)
	}
	return &Store{cache: cache, client: http.DefaultClient, wait: 500 * time.Millisecond, urls: map[digest.Digest]*entry{}}, nil
}

// version is of the keys and what they mean.
const version = "lighter-1-"

// names that a key can have in it: keys are separated by commas, and ours by "#".
var names = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._/-]{0,127}$`)

func nameKey(name string) (string, error) {
	if !names.MatchString(name) {
		return "", fmt.Errorf("GitHub's cache: %.200q: want a name of letters, digits and ._/-, at most 128", name)
	}
	return version + "name-" + name + "#", nil
}

func digestKey(d digest.Digest) string {
	return version + d.Algorithm().String() + "-" + d.Encoded() + "-"
}

// entry is content in the cache.
type entry struct {
	key  string
	url  string // for a while
	size int64  // of a content; -1 of others
}

// find is the newest entry whose key begins with prefix; nil where there is none.
func (s *Store) find(ctx context.Context, prefix string) (*entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e, err := s.cache.Load(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("GitHub's cache: look up: %w", err)
	}
	if e == nil {
		return nil, nil
	}
	rest, ok := strings.CutPrefix(e.Key, prefix)
	if !ok {
		return nil, fmt.Errorf("GitHub's cache: asked for %s and got %.200q", prefix, e.Key)
	}
	size, err := strconv.ParseInt(rest[:max(0, strings.IndexByte(rest, '#'))], 10, 64)
	if err != nil {
		size = -1
	}
	return &entry{e.Key, e.URL, size}, nil
}

// content finds a blob or manifest. An error wraps image.ErrNotFound where there is
// none.
func (s *Store) content(ctx context.Context, d digest.Digest, anew bool) (*entry, error) {
	s.mu.Lock()
	e := s.urls[d]
	s.mu.Unlock()
	if e != nil && !anew {
		return e, nil
	}
	e, err := s.find(ctx, digestKey(d))
	if err == nil && e == nil {
		err = fmt.Errorf("GitHub's cache has no %s: %w", d, image.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.urls[d] = e
	s.mu.Unlock()
	return e, nil
}

// Resolve implements image.Source: ref is a name or a digest.
func (s *Store) Resolve(ctx context.Context, ref string) (ocispec.Descriptor, error) {
	if d, err := digest.Parse(ref); err == nil {
		e, err := s.content(ctx, d, false)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		desc := ocispec.Descriptor{Digest: d, Size: e.size}
		if desc.Data, err = image.ReadAll(ctx, s, desc); err != nil {
			return ocispec.Descriptor{}, err
		}
		desc.MediaType = image.ManifestType(desc.Data)
		return desc, nil
	}
	prefix, err := nameKey(ref)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	e, err := s.find(ctx, prefix)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if e == nil {
		return ocispec.Descriptor{}, fmt.Errorf("GitHub's cache has nothing called %s: %w", ref, image.ErrNotFound)
	}
	return s.named(ctx, ref, e)
}

// named is what a name's entry says.
func (s *Store) named(ctx context.Context, name string, e *entry) (desc ocispec.Descriptor, err error) {
	body, err := s.get(ctx, e.url, "")
	if err != nil {
		return desc, fmt.Errorf("GitHub's cache: read %s: %w", name, err)
	}
	b, err := io.ReadAll(io.LimitReader(body, 2*image.MaxJSON)) // base64 takes a third more
	if err = errors.Join(err, body.Close()); err != nil {
		return desc, fmt.Errorf("GitHub's cache: read %s: %w", name, err)
	}
	if err := json.Unmarshal(b, &desc); err != nil {
		return desc, fmt.Errorf("GitHub's cache: %s is no manifest (%w): %w", name, err, image.ErrCorrupt)
	}
	if err := image.CheckContent(desc, desc.Data); err != nil {
		return desc, fmt.Errorf("GitHub's cache: %s: %w", name, err)
	}
	return desc, nil
}

// Fetch implements image.Source.
func (s *Store) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	body, err := s.read(ctx, desc, "")
	if err != nil {
		return nil, err
	}
	return image.Verified(body, desc)
}

// FetchRange implements image.Source.
func (s *Store) FetchRange(ctx context.Context, desc ocispec.Descriptor, offset, length int64) (io.ReadCloser, error) {
	start, end, err := image.Span(desc, offset, length)
	if err != nil {
		return nil, err
	}
	if start == end {
		return io.NopCloser(strings.NewReader("")), nil
	}
	return s.read(ctx, desc, fmt.Sprintf("bytes=%d-%d", start, end-1))
}

// read opens a content, or a range of it.
func (s *Store) read(ctx context.Context, desc ocispec.Descriptor, span string) (io.ReadCloser, error) {
	if err := image.CheckDescriptor(desc); err != nil {
		return nil, err
	}
	for _, anew := range []bool{false, true} { // addresses are good for a while
		e, err := s.content(ctx, desc.Digest, anew)
		if err != nil {
			return nil, err
		}
		body, err := s.get(ctx, e.url, span)
		if refused := (*statusError)(nil); errors.As(err, &refused) && refused.code/100 == 4 && !anew {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("GitHub's cache: read %s: %w", desc.Digest, err)
		}
		return body, nil
	}
	panic("unreachable")
}

// statusError is an answer of the place where contents lie.
type statusError struct {
	code   int
	status string
}

func (e *statusError) Error() string { return "its storage answers " + e.status }

// tries is how often a content is asked for whose storage has trouble.
const tries = 4

// get opens an address, which says by itself who may read.
func (s *Store) get(ctx context.Context, url, span string) (io.ReadCloser, error) {
	want := http.StatusOK
	for try := 1; ; try++ {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, err
		}
		if span != "" {
			req.Header.Set("Range", span)
			want = http.StatusPartialContent
		}
		resp, err := s.client.Do(req)
		if err == nil && resp.StatusCode == want {
			return resp.Body, nil
		}
		if err == nil {
			_ = resp.Body.Close()
			err = &statusError{resp.StatusCode, resp.Status}
			if resp.StatusCode/100 != 5 && resp.StatusCode != http.StatusTooManyRequests {
				return nil, err
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if try == tries {
			return nil, err
		}
		if err := pause(ctx, time.Duration(try)*s.wait); err != nil {
			return nil, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writable is an error where the workflow may not write, as those that somebody
// else's pull request runs.
func (s *Store) writable() error {
	if slices.ContainsFunc(s.cache.Scopes(), func(sc actionscache.Scope) bool { return sc.Permission&actionscache.PermissionWrite != 0 }) {
		return nil
	}
	return fmt.Errorf("GitHub's cache is only to be read in this workflow: %w", os.ErrPermission)
}
