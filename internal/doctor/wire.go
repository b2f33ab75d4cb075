package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/registry"
)

// wire speaks to one registry, one request after the other, each sent once: a
// probe wants to see every answer as it is. Trying again, falling back and
// mending are what package registry is for.
type wire struct {
	host    name.Registry
	auth    authn.Authenticator
	way     http.RoundTripper       // to the registry, as package registry goes it
	clients map[string]*http.Client // by scopes
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 1 << 20

// requestTime bounds one request. Registries that check a blob before they
// answer take seconds, for the few hundred bytes that are sent here.
const requestTime = 30 * time.Second

// newWire makes one by the way of client, which tries nothing again.
func newWire(ref image.Reference, cred registry.Credential, client *registry.Client) (*wire, error) {
	host, way, err := client.Registry(ref.Host)
	if err != nil {
		return nil, err
	}
	auth := authn.Anonymous
	if cred.Found() {
		account, password, token := cred.Reveal()
		auth = authn.FromConfig(authn.AuthConfig{Username: account, Password: password, IdentityToken: token})
	}
	return &wire{host, auth, way, map[string]*http.Client{}}, nil
}

// answer is a response that has been read.
type answer struct {
	status int
	header http.Header
	body   []byte
	from   *url.URL // of the request that got it
}

// request is one thing to ask. path is below /v2/, or a whole URL.
type request struct {
	scopes []string
	method string
	path   string
	header map[string]string
	body   []byte
	// unsized sends the body without saying how long it is.
	unsized bool
}

// send asks. An error means that no answer came.
func (w *wire) send(ctx context.Context, q request) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	client, err := w.client(ctx, q.scopes)
	if err != nil {
		return nil, err
	}
	return w.sendBy(ctx, client, q)
}

// ping asks without a handshake, over TLS first.
func (w *wire) ping(ctx context.Context) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	client := &http.Client{Transport: w.way, CheckRedirect: onlyReads}
	at := "://" + w.host.RegistryStr() + "/v2/"
	a, err := w.sendBy(ctx, client, request{method: http.MethodGet, path: "https" + at})
	if err != nil && w.host.Scheme() == "http" {
		plain, plainErr := w.sendBy(ctx, client, request{method: http.MethodGet, path: "http" + at})
		if plainErr == nil && plain.status != http.StatusBadRequest { // which says "client sent HTTP to an HTTPS server"
			return plain, nil
		}
	}
	return a, err
}

func (w *wire) sendBy(ctx context.Context, client *http.Client, q request) (*answer, error) {
	at := q.path
	if !strings.Contains(at, "://") {
		at = w.host.Scheme() + "://" + w.host.RegistryStr() + "/v2/" + q.path
	}
	req, err := http.NewRequestWithContext(ctx, q.method, at, bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	if q.unsized {
		req.ContentLength, req.GetBody = -1, nil
	}
	for key, value := range q.header {
		req.Header.Set(key, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	return &answer{resp.StatusCode, resp.Header, body, resp.Request.URL}, nil
}

// client performs the handshake for scopes; each set has its own token, so that
// one who may not delete loses nothing else.
func (w *wire) client(ctx context.Context, scopes []string) (*http.Client, error) {
	key := strings.Join(scopes, " ")
	if c := w.clients[key]; c != nil {
		return c, nil
	}
	rt, err := transport.NewWithContext(ctx, w.host, w.auth, w.way, scopes)
	if err != nil {
		return nil, err
	}
	c := &http.Client{Transport: rt, CheckRedirect: onlyReads}
	w.clients[key] = c
	return c, nil
}

// onlyReads follows the redirects of a GET: another method would become one.
func onlyReads(req *http.Request, via []*http.Request) error {
	if via[0].Method != http.MethodGet || len(via) > 5 {
		return http.ErrUseLastResponse
	}
	return nil
}

// location is where an upload goes on. It may be elsewhere, but not in this
// machine unless the registry is.
func (a *answer) location() (string, error) {
	location := a.header.Get("Location")
	if location == "" {
		return "", errors.New("it does not say where to upload to")
	}
	u, err := a.from.Parse(location)
	if err != nil || u.User != nil || u.Scheme != "http" && u.Scheme != "https" ||
		image.LoopbackHost(u.Host) && !image.LoopbackHost(a.from.Host) {
		return "", errors.New("it wants the upload to go to where none can go")
	}
	return u.String(), nil
}

// withDigest is an upload's location with the digest that commits it.
func withDigest(location, digest string) string {
	sep := "?"
	if strings.Contains(location, "?") {
		sep = "&"
	}
	return location + sep + "digest=" + url.QueryEscape(digest)
}

// says is what the registry answered, in one clause.
func (a *answer) says() string {
	var doc struct {
		Errors []struct{ Code, Message string }
	}
	s := fmt.Sprintf("status %d", a.status)
	if json.Unmarshal(a.body, &doc) == nil && len(doc.Errors) > 0 {
		s += fmt.Sprintf(" (%.300s)", strings.TrimSpace(doc.Errors[0].Code+" "+doc.Errors[0].Message))
	}
	return s
}
