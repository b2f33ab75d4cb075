package daemon

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain hides the machine's own daemons from every test: one that looks for
// whichever answers, and does not find what it means, must not load into the
// podman of whoever runs it.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ld")
	if err != nil {
		panic(err)
	}
	if err := os.Unsetenv("CONTAINER_HOST"); err != nil {
		panic(err)
	}
	for key, value := range map[string]string{
		"CONTAINERS_STORAGE_CONF": filepath.Join(dir, "storage.conf"), // a driver that does not exist: podman fails
		"DOCKER_HOST":             "unix://" + dir + "/none",
		"CONTAINERD_ADDRESS":      dir + "/none",
	} {
		if err := os.Setenv(key, value); err != nil {
			panic(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "storage.conf"), []byte("[storage]\ndriver = \"none\"\ngraphroot = \""+dir+"/root\"\nrunroot = \""+dir+"/run\"\n"), 0o644); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// TestDetectNone: one line that says where it was looked for and why each
// place failed, and a next step.
func TestDetectNone(t *testing.T) {
	dir := tempDir(t)
	t.Setenv("PATH", dir)
	write(t, filepath.Join(dir, "listed"), "")
	env := only("HOME", dir, "DOCKER_HOST", "unix://"+dir+"/d.sock", "CONTAINERD_ADDRESS", dir+"/listed")
	_, err := Detect(context.Background(), "", Options{Getenv: env})
	want := "no Docker, podman or containerd answers: " +
		"docker: unix://" + dir + "/d.sock: dial unix " + dir + "/d.sock: connect: no such file or directory; " +
		"containerd: " + dir + "/listed: dial unix " + dir + "/listed: connect: connection refused"
	if err == nil || err.Error() != want || !strings.Contains(hint(err), "DOCKER_HOST") {
		t.Errorf("error\n%v\nwant\n%s\nhint %q", err, want, hint(err))
	}

	if _, err = Detect(context.Background(), "podman", Options{Getenv: env}); err == nil || !strings.Contains(err.Error(), "no podman command in PATH") {
		t.Errorf("podman, which is not named but asked for: %v", err)
	}

	_, err = Detect(context.Background(), "docker", Options{Getenv: env})
	want = "docker does not answer: unix://" + dir + "/d.sock: dial unix " + dir + "/d.sock: connect: no such file or directory"
	if err == nil || err.Error() != want || hint(err) == "" {
		t.Errorf("error\n%v\nwant\n%s", err, want)
	}

	_, err = Detect(context.Background(), "rkt", Options{Getenv: env})
	if err == nil || err.Error() != `unknown daemon "rkt"` || hint(err) == "" {
		t.Errorf("error %v, hint %q", err, hint(err))
	}

	for _, host := range []string{"fd://3", "no address", "ssh://"} {
		_, err = Detect(context.Background(), "docker", Options{Getenv: only("HOME", dir, "DOCKER_HOST", host)})
		if err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v", host, err)
		}
	}
}

// TestDetectSilent: a socket that takes connections and says nothing does not
// hold up a user's Ctrl-C.
func TestDetectSilent(t *testing.T) {
	dir := tempDir(t)
	for _, kind := range []string{"docker", "containerd"} {
		socket := filepath.Join(dir, kind)
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				cancel()
			}
		}()
		_, err = Detect(ctx, kind, Options{Getenv: only("HOME", dir, "DOCKER_HOST", "unix://"+socket, "CONTAINERD_ADDRESS", socket)})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v", kind, err)
		}
		l.Close()
	}
}

// TestDockerContext: broken choices are errors, not another Docker.
func TestDockerContext(t *testing.T) {
	dir := tempDir(t)
	opts := Options{Getenv: only("DOCKER_CONFIG", dir, "XDG_RUNTIME_DIR", "/run/user/1000")}
	check := func(want string) {
		t.Helper()
		var got []string
		places, err := dockerEndpoints(opts)
		for _, p := range places {
			got = append(got, p.host)
		}
		if err != nil {
			got = append(got, err.Error())
		}
		if s := strings.Join(got, " "); !strings.HasPrefix(s, want) {
			t.Errorf("got %q, want %q", s, want)
		}
	}
	usual := "unix:///var/run/docker.sock unix:///run/user/1000/docker.sock"
	check(usual)
	config := filepath.Join(dir, "config.json")
	write(t, config, `{"currentContext":"default"}`)
	check(usual)
	write(t, config, `{"currentContext":`)
	check(config + ": unexpected end of JSON input")
	write(t, config, `{"currentContext":"far"}`)
	check(`docker context "far": open `)
	addContext(t, dir, "far", `{"Name":"far","Endpoints":{}}`)
	check(`docker context "far" has no docker endpoint`)
	addContext(t, dir, "far", `{"Name":"far","Endpoints":{"docker":{"Host":"ssh://me@far"}}}`)
	check("ssh://me@far")
	addContext(t, dir, "near", `{"Name":"near","Endpoints":{"docker":{"Host":"unix:///near.sock"}}}`)
	opts.Getenv = only("DOCKER_CONFIG", dir, "DOCKER_CONTEXT", "near")
	check("unix:///near.sock")
	opts.Getenv = only("DOCKER_CONFIG", dir, "DOCKER_CONTEXT", "near", "DOCKER_HOST", "tcp://host:1")
	check("tcp://host:1")
}

// addContext writes a context as `docker context create` does, and returns the
// directory of its certificates.
func addContext(t *testing.T, config, name, meta string) string {
	t.Helper()
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	certs := filepath.Join(config, "contexts", "tls", id, "docker")
	for _, dir := range []string{filepath.Join(config, "contexts", "meta", id), certs} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(config, "contexts", "meta", id, "meta.json"), meta)
	return certs
}

// TestDockerHosts reaches one Docker in every way there is.
func TestDockerHosts(t *testing.T) {
	p := dockerPeer(t, false)
	src := newSource(t)
	base := src.base(t, "zstd:3")
	load := func(t *testing.T, name string, getenv func(string) string) {
		p.target, p.sent = detect(t, "docker", Options{Getenv: getenv}), nil
		p.load(t, src, src.image(t, base, src.hello(t, name)), name)
		if got := p.run(t, name); got != name {
			t.Errorf("prints %q", got)
		}
	}

	t.Run("context", func(t *testing.T) {
		dir := tempDir(t)
		addContext(t, dir, "mine", `{"Name":"mine","Endpoints":{"docker":{"Host":"unix://`+p.dir+`/d.sock"}}}`)
		write(t, filepath.Join(dir, "config.json"), `{"currentContext":"mine"}`)
		load(t, "by-context", only("DOCKER_CONFIG", dir))
	})

	t.Run("tcp", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		serve(t, l, p.dir+"/d.sock")
		load(t, "by-tcp", only("DOCKER_HOST", "tcp://"+l.Addr().String(), "HTTP_PROXY", "http://127.0.0.1:1"))
	})

	t.Run("tls", func(t *testing.T) {
		certs := tempDir(t)
		l, err := tls.Listen("tcp", "127.0.0.1:0", certificates(t, certs))
		if err != nil {
			t.Fatal(err)
		}
		serve(t, l, p.dir+"/d.sock")
		host := "tcp://" + l.Addr().String()
		load(t, "by-tls", only("DOCKER_HOST", host, "DOCKER_TLS_VERIFY", "1", "DOCKER_CERT_PATH", certs))

		dir := tempDir(t)
		to := addContext(t, dir, "tls", `{"Name":"tls","Endpoints":{"docker":{"Host":"`+host+`"}}}`)
		output(t, nil, "cp", certs+"/ca.pem", certs+"/cert.pem", certs+"/key.pem", to)
		load(t, "by-tls-context", only("DOCKER_CONFIG", dir, "DOCKER_CONTEXT", "tls"))

		other := tempDir(t)
		certificates(t, other)
		_, err = Detect(context.Background(), "docker", Options{Getenv: only("DOCKER_HOST", host, "DOCKER_TLS_VERIFY", "1", "DOCKER_CERT_PATH", other)})
		if err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
			t.Errorf("with another CA: %v", err)
		}
	})

	// The ssh here logs in nowhere; what it runs on the other side is real.
	t.Run("ssh", func(t *testing.T) {
		bin, _ := dockerd(t)
		dir := tempDir(t)
		write(t, filepath.Join(dir, "ssh"), `#!/bin/sh
echo "$@" >>`+dir+`/log
echo $$ >>`+dir+`/pids
while [ "$1" != -- ]; do shift; done
shift 2
DOCKER_HOST=unix://`+p.dir+`/d.sock exec sh -c "exec $*"
`)
		t.Setenv("PATH", dir+":"+bin+":"+os.Getenv("PATH"))
		load(t, "by-ssh", only("DOCKER_HOST", "ssh://me@far"))

		write(t, filepath.Join(dir, "ssh"), "#!/bin/sh\necho far: >&2; echo no route >&2; exit 255\n")
		_, err := Detect(context.Background(), "docker", Options{Getenv: only("DOCKER_HOST", "ssh://me@far")})
		if err == nil || !strings.Contains(err.Error(), "far: no route") || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %v", err)
		}
		log, err := os.ReadFile(filepath.Join(dir, "log"))
		if err != nil || !strings.Contains(string(log), "-l me") {
			t.Errorf("ssh was run with %q, %v", log, err)
		}
		pids, err := os.ReadFile(filepath.Join(dir, "pids"))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d logins", len(strings.Fields(string(pids))))
		for _, pid := range strings.Fields(string(pids)) {
			if !gone(pid) {
				t.Errorf("ssh %s still runs", pid)
			}
		}
	})
}

// gone waits until a process has ended.
func gone(pid string) bool {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, os.ErrNotExist) {
			return true
		}
	}
	return false
}

// serve forwards what comes to l to a socket.
func serve(t *testing.T, l net.Listener, socket string) {
	t.Cleanup(func() { l.Close() })
	go func() {
		var n atomic.Int64
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go forward(c, socket, &n)
		}
	}()
}

// certificates writes ca.pem, cert.pem and key.pem for a client and returns
// what a server needs that takes no other.
func certificates(t *testing.T, dir string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, filepath.Join(dir, "ca.pem"), cert)
	write(t, filepath.Join(dir, "cert.pem"), cert)
	write(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})))
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(cert))
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
}
