package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/lighter-oci/lighter/internal/image"
)

// way is how one host is spoken to.
type way struct {
	host       string
	configured bool // by the user, in the file or in Options.Insecure
	plain, tls bool // in plain HTTP, and with TLS
	over       *http.Transport
}

// errPlain says that a host would have to be spoken to without encryption.
type errPlain struct{ host string }

func (e errPlain) Error() string { return e.host + " would be spoken to in plain HTTP" }

// errOnlyPlain answers for TLS where the configuration says http and no more.
var errOnlyPlain = errors.New("it is configured to speak plain HTTP")

// way answers how a host is spoken to. Errors are a *HostError.
func (c *Client) way(host string) (*way, error) {
	configs, err := c.configs()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.ways[host]; w != nil {
		return w, nil
	}
	config, configured := configs.Hosts[host]
	for _, listed := range c.opts.Insecure {
		if host == listed {
			yes := true
			config, configured = HostConfig{PlainHTTP: &yes, Insecure: &yes}, true
		}
	}
	trustful := config.Insecure != nil && *config.Insecure
	w := &way{host: host, configured: configured, plain: image.LoopbackHost(host), tls: true, over: c.verifying}
	if config.PlainHTTP != nil {
		w.plain, w.tls = *config.PlainHTTP, trustful || !*config.PlainHTTP
	}
	if trustful || len(config.RootCAs)+len(config.KeyPairs)+len(config.TLSConfigDir) > 0 {
		w.over = c.verifying.Clone()
		if err := trust(w.over.TLSClientConfig, config); err != nil {
			return nil, &HostError{configs.File, fmt.Sprintf("registry %q: %v", host, err), "name files that are there and hold PEM"}
		}
		w.over.TLSClientConfig.InsecureSkipVerify = trustful
	}
	c.ways[host] = w
	return w, nil
}

// trust adds what a section names to what the system trusts.
func trust(to *tls.Config, config HostConfig) error {
	authorities, pairs := config.RootCAs, config.KeyPairs
	for _, dir := range config.TLSConfigDir {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			file := filepath.Join(dir, e.Name())
			if strings.HasSuffix(file, ".crt") {
				authorities = append(authorities, file)
			}
			if base, ok := strings.CutSuffix(file, ".cert"); ok {
				pairs = append(pairs, keyPair{Certificate: file, Key: base + ".key"})
			}
		}
	}
	if len(authorities) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			return err
		}
		for _, file := range authorities {
			pem, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if !pool.AppendCertsFromPEM(pem) {
				return fmt.Errorf("%s holds no certificate", file)
			}
		}
		to.RootCAs = pool
	}
	for _, pair := range pairs {
		cert, err := tls.LoadX509KeyPair(pair.Certificate, pair.Key)
		if err != nil {
			return fmt.Errorf("%s: %w", pair.Certificate, err)
		}
		to.Certificates = append(to.Certificates, cert)
	}
	return nil
}

// wire is the way out for everything that is sent on behalf of one registry, to
// its token server and after redirects too. What is configured of the registry
// holds there as well, unless that host is configured itself.
//
// go-containerregistry falls back to plain HTTP for private addresses too;
// here that is refused before a byte is sent.
type wire struct {
	client *Client
	home   *way
}

func (w wire) RoundTrip(req *http.Request) (*http.Response, error) {
	over, err := w.over(req)
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	return over.RoundTrip(req)
}

func (w wire) over(req *http.Request) (http.RoundTripper, error) {
	host := req.URL.Host
	if host == name.DefaultRegistry { // as go-containerregistry calls it
		host = hub
	}
	way, err := w.client.way(host)
	if err != nil {
		return nil, err
	}
	plain := way.plain
	if !way.configured && w.home.configured {
		plain, way = plain || w.home.plain, w.home
	}
	switch {
	case req.URL.Scheme == "http" && !plain:
		return nil, errPlain{host}
	case req.URL.Scheme == "https" && !way.tls && way.host == host:
		return nil, errOnlyPlain
	}
	return way.over, nil
}

// Registry answers a host ("docker.io", "localhost:5000") as
// go-containerregistry knows it, and the way there: to its token server and
// after its redirects, too. Reads are tried again as Options.Attempts says.
func (c *Client) Registry(host string) (name.Registry, http.RoundTripper, error) {
	return c.registry(host, c.opts.Attempts)
}

func (c *Client) registry(host string, attempts int) (name.Registry, http.RoundTripper, error) {
	way, err := c.way(host)
	if err != nil {
		return name.Registry{}, nil, err
	}
	var opts []name.Option
	if way.plain {
		opts = append(opts, name.Insecure)
	}
	parsed, err := name.NewRegistry(host, opts...)
	if err != nil {
		return parsed, nil, fmt.Errorf("registry %.200q: %w", host, err)
	}
	send := &retrying{next: wire{c, way}, attempts: attempts, backoff: c.opts.Backoff}
	return parsed, transport.NewUserAgent(send, c.opts.UserAgent), nil
}
