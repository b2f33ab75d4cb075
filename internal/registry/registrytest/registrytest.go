// Package registrytest owns the registry that tests talk to: Debian's
// docker-registry as a process of the test, on a port of its own, gone when
// the test ends. Faulty puts a real reverse proxy with faults in front.
//
// It is never imported by production code and never pretends to be a registry
// itself.
package registrytest

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Options of a registry. The zero value is an open one over plain HTTP.
type Options struct {
	// Users maps names to passwords. Where it has any, nobody else gets in.
	Users map[string]string
	// Token asks for bearer tokens, from a token server of the test, instead
	// of basic authentication. Without Users everybody may pull and nobody push.
	Token bool
	// TokenLife is how long a token is valid; 0 is five minutes.
	TokenLife time.Duration
	// TLS serves HTTPS with a certificate signed by Server.CAFile; the token server, too.
	TLS bool
	// Dir keeps the blobs; "" is a temporary directory. Two servers on one
	// directory, one after the other, show the same images.
	Dir string
	// ReadOnly refuses everything that would change something, and NoDelete
	// whatever would take something away, as registries do by default.
	ReadOnly, NoDelete bool
}

// Server is a running registry.
type Server struct {
	Addr   string // host:port, as written in front of a repository
	Dir    string // root of the file system storage
	CAFile string // PEM of the authority, with Options.TLS
	Tokens *Tokens

	cmd  *exec.Cmd
	log  *logBuffer
	done chan struct{} // closed when the process and its output have ended
	once sync.Once
}

// startTimeout is generous: the process listens after 30–60 ms on an idle
// machine (measured), but tests of many packages share two cores.
const startTimeout = 30 * time.Second

// Start runs a registry until the test ends; its log is shown where the test
// failed. Without the docker-registry binary the test fails.
func Start(t testing.TB, opts Options) *Server {
	t.Helper()
	bin, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Fatalf("docker-registry is needed (apt-get install docker-registry): %v", err)
	}
	dir := t.TempDir()
	s := &Server{Dir: opts.Dir, log: &logBuffer{}, done: make(chan struct{})}
	if s.Dir == "" {
		s.Dir = filepath.Join(dir, "data")
	}
	cfg := filepath.Join(dir, "config.yml")
	write(t, cfg, s.config(t, dir, opts))

	cmd := exec.Command(bin, "serve", cfg)
	cmd.SysProcAttr = dieWithParent()
	// It takes fresh buffers for every upload: a third of its time was garbage
	// collection (200 copies of small images: 49 CPU seconds, and 36 with this).
	cmd.Env = append(cleanEnv(os.Environ()), "GOGC=800")
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = cmd.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.cmd = cmd
	addr := make(chan string, 1)
	go func() {
		defer close(s.done)
		s.log.follow(bufio.NewReader(out), addr)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			t.Logf("log of the registry %s:\n%s", s.Addr, s.log.tail())
		}
	})
	select {
	case s.Addr = <-addr:
	case <-s.done:
		t.Fatalf("docker-registry ended before it listened:\n%s", s.log.tail())
	case <-time.After(startTimeout):
		t.Fatalf("docker-registry does not listen after %v:\n%s", startTimeout, s.log.tail())
	}
	return s
}

// Ref is a reference in this registry, as in s.Ref("app:1").
func (s *Server) Ref(name string) string { return s.Addr + "/" + name }

// URL is the scheme and address, without a slash at the end.
func (s *Server) URL() string {
	if s.CAFile != "" {
		return "https://" + s.Addr
	}
	return "http://" + s.Addr
}

// Stop ends the process and returns when it is gone. Further calls do nothing.
func (s *Server) Stop() {
	s.once.Do(func() {
		_ = s.cmd.Process.Kill()
		<-s.done
	})
}

// config answers the registry's YAML. Port 0 lets the kernel choose; the
// process logs what it got, so that no port is guessed and then lost.
func (s *Server) config(t testing.TB, dir string, opts Options) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 0.1\nlog:\n  level: info\n")
	fmt.Fprintf(&b, "storage:\n  filesystem:\n    rootdirectory: %q\n  delete:\n    enabled: %t\n", s.Dir, !opts.NoDelete)
	fmt.Fprintf(&b, "  maintenance:\n    readonly:\n      enabled: %t\n", opts.ReadOnly)
	fmt.Fprintf(&b, "http:\n  addr: 127.0.0.1:0\n  secret: test\n")
	var ca *authority
	if opts.TLS {
		ca = newAuthority(t)
		s.CAFile = filepath.Join(dir, "ca.pem")
		write(t, s.CAFile, ca.certPEM)
		crt, key := ca.serverPair(t)
		write(t, filepath.Join(dir, "tls.crt"), crt)
		write(t, filepath.Join(dir, "tls.key"), key)
		fmt.Fprintf(&b, "  tls:\n    certificate: %q\n    key: %q\n",
			filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	}
	switch {
	case opts.Token:
		s.Tokens = startTokens(t, opts, ca)
		bundle := filepath.Join(dir, "token.pem")
		write(t, bundle, s.Tokens.ca.certPEM)
		fmt.Fprintf(&b, "auth:\n  token:\n    realm: %q\n    service: %q\n    issuer: %q\n    rootcertbundle: %q\n",
			s.Tokens.URL, tokenService, tokenIssuer, bundle)
	case len(opts.Users) > 0:
		file := filepath.Join(dir, "htpasswd")
		write(t, file, htpasswd(t, opts.Users))
		fmt.Fprintf(&b, "auth:\n  htpasswd:\n    realm: test\n    path: %q\n", file)
	}
	return []byte(b.String())
}

// htpasswd answers one bcrypt line a user, the only kind the registry reads.
func htpasswd(t testing.TB, users map[string]string) []byte {
	var b bytes.Buffer
	for name, password := range users {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s:%s\n", name, hash)
	}
	return b.Bytes()
}

// cleanEnv drops the variables by which the registry would override its file.
func cleanEnv(env []string) []string {
	var out []string
	for _, kv := range env {
		if !strings.HasPrefix(kv, "REGISTRY_") && !strings.HasPrefix(kv, "OTEL_") {
			out = append(out, kv)
		}
	}
	return out
}

func write(t testing.TB, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// logBuffer keeps the end of a log.
type logBuffer struct {
	mu    sync.Mutex
	lines []string
}

const keptLines = 30

// follow reads lines until the end and sends the first address that one says
// the registry listens on.
func (l *logBuffer) follow(r *bufio.Reader, addr chan<- string) {
	found := false
	for {
		line, err := r.ReadString('\n')
		if line != "" {
			l.mu.Lock()
			l.lines = append(l.lines, line)
			if len(l.lines) > keptLines {
				l.lines = l.lines[1:]
			}
			l.mu.Unlock()
		}
		if _, after, ok := strings.Cut(line, "listening on "); ok && !found {
			found = true
			addr <- after[:strings.IndexAny(after+"\n", "\", \n")]
		}
		if err != nil {
			return
		}
	}
}

func (l *logBuffer) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "")
}
