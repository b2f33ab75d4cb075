package daemon

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/docker/cli/cli/connhelper"
)

// maxConns bounds the requests to one daemon at a time. Over ssh each is a
// login of its own, and sshd drops them at random from ten.
const maxConns = 4

// endpoint is an address at which a Docker API may answer.
type endpoint struct {
	host string // "unix:///var/run/docker.sock"
	tls  string // directory of ca.pem, cert.pem, key.pem; "" for none
	skip bool   // the certificate is not verified
}

// dockerEndpoints are the addresses where Docker may be, in order: the one
// that was named, or the usual ones.
func dockerEndpoints(opts Options) ([]endpoint, error) {
	if host := opts.Getenv("DOCKER_HOST"); host != "" {
		e := endpoint{host: host}
		if opts.Getenv("DOCKER_TLS_VERIFY") != "" {
			if e.tls = opts.Getenv("DOCKER_CERT_PATH"); e.tls == "" {
				e.tls = dockerConfigDir(opts)
			}
		}
		return []endpoint{e}, nil
	}
	e, err := contextEndpoint(opts)
	if err != nil {
		return nil, err
	}
	if e != nil {
		return []endpoint{*e}, nil
	}
	if runtime.GOOS == "windows" {
		return []endpoint{{host: "npipe:////./pipe/docker_engine"}}, nil
	}
	usual := []endpoint{{host: "unix:///var/run/docker.sock"}}
	if dir := opts.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		usual = append(usual, endpoint{host: "unix://" + filepath.Join(dir, "docker.sock")})
	}
	return usual, nil
}

func dockerConfigDir(opts Options) string {
	if dir := opts.Getenv("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	home := opts.Getenv("HOME")
	if home == "" {
		home, _ = os.UserHomeDir() // "" then, and no context is found
	}
	return filepath.Join(home, ".docker")
}

// contextEndpoint is what `docker context use` chose, nil for the default one.
// The files are those of docker/cli, cli/context/store.
func contextEndpoint(opts Options) (*endpoint, error) {
	dir := dockerConfigDir(opts)
	name := opts.Getenv("DOCKER_CONTEXT")
	if name == "" {
		var config struct{ CurrentContext string }
		file := filepath.Join(dir, "config.json")
		if err := readConfig(file, &config); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		name = config.CurrentContext
	}
	if name == "" || name == "default" {
		return nil, nil
	}
	var meta struct {
		Endpoints map[string]struct {
			Host          string
			SkipTLSVerify bool
		}
	}
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	if err := readConfig(filepath.Join(dir, "contexts", "meta", id, "meta.json"), &meta); err != nil {
		return nil, fmt.Errorf("docker context %q: %w", name, err)
	}
	e := &endpoint{host: meta.Endpoints["docker"].Host, skip: meta.Endpoints["docker"].SkipTLSVerify}
	if e.host == "" {
		return nil, fmt.Errorf("docker context %q has no docker endpoint", name)
	}
	certs := filepath.Join(dir, "contexts", "tls", id, "docker")
	if _, err := os.Stat(certs); err == nil {
		e.tls = certs
	}
	return e, nil
}

func readConfig(file string, into any) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// client returns an HTTP client for the endpoint and the URL that its paths
// are appended to.
func (e endpoint) client() (*http.Client, string, error) {
	u, err := url.Parse(e.host)
	if err != nil {
		return nil, "", fmt.Errorf("daemon address: %w", err)
	}
	// No proxy: none stands before a socket, and docker's own client takes
	// none for tcp either unless it is told to.
	t := &http.Transport{MaxConnsPerHost: maxConns, DisableCompression: true}
	base := "http://daemon"
	switch u.Scheme {
	case "unix":
		path := u.Path
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}
	case "npipe":
		path := strings.ReplaceAll(u.Path, "/", `\`)
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dialPipe(ctx, path) }
	case "ssh":
		helper, err := connhelper.GetConnectionHelper(e.host)
		if err != nil {
			return nil, "", err
		}
		t.DialContext = sshDial(helper.Dialer)
	case "tcp", "http", "https":
		base = "http://" + u.Host
		if e.tls != "" || e.skip || u.Scheme == "https" {
			base = "https://" + u.Host
		}
		if t.TLSClientConfig, err = e.tlsConfig(); err != nil {
			return nil, "", err
		}
	default:
		return nil, "", fmt.Errorf("daemon address %q: it begins with unix://, tcp://, ssh:// or npipe://", e.host)
	}
	return &http.Client{Transport: t}, base, nil
}

func (e endpoint) tlsConfig() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: e.skip}
	if e.tls == "" {
		return c, nil
	}
	ca, err := os.ReadFile(filepath.Join(e.tls, "ca.pem"))
	switch {
	case err == nil:
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("%s: no certificate in it", filepath.Join(e.tls, "ca.pem"))
		}
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(e.tls, "cert.pem"), filepath.Join(e.tls, "key.pem"))
	switch {
	case err == nil:
		c.Certificates = []tls.Certificate{cert}
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", e.tls, err)
	}
	return c, nil
}
