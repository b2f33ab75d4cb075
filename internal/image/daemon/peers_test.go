package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The daemons of these tests are real, started on directories of their own and
// ended with the test. containerd and podman are those in PATH. Docker is
// Debian's 20.10, unpacked and not installed; LIGHTER_TEST_DOCKERD names the
// dockerd of a newer one, which is then tested with both of its stores.

// peer is one daemon as the tests see it.
type peer struct {
	target Target
	sent   func() int64                           // bytes that went into its socket so far; nil where it has none
	run    func(t *testing.T, name string) string // what a container of the image prints
	has    func(t *testing.T, name string) bool   // whether there is an image of that name or ID
	remove func(t *testing.T, names ...string)    // removes images
	left   func(t *testing.T) []string            // what a load that failed has left behind
	whole  bool                                   // takes an index as it is
	dir    string                                 // where its socket is
}

// tempDir is a short directory, since sockets are in it, which is unmounted
// and removed after everything that was started in it has ended.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ld")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Error(err)
		}
		var below []string
		for line := range strings.Lines(string(mounts)) {
			if f := strings.Fields(line); strings.HasPrefix(f[4], dir+"/") {
				below = append(below, f[4])
			}
		}
		for _, m := range slices.Backward(below) {
			if err := syscall.Unmount(m, syscall.MNT_DETACH); err != nil {
				t.Errorf("unmount %s: %v", m, err)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// start runs a daemon until the test ends and waits for its socket.
func start(t *testing.T, socket string, env []string, command string, args ...string) {
	t.Helper()
	cmd := exec.Command(command, args...)
	cmd.Env = append(os.Environ(), env...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Errorf("%s does not end; killed", command)
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", command, log.Bytes()[max(0, log.Len()-4000):])
		}
	})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("unix", socket)
		if err == nil {
			c.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended: %v\n%s", command, err, log.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer: %v", command, err)
		}
	}
}

// output runs a command and returns its stdout; an error ends the test.
func output(t *testing.T, env []string, command string, args ...string) string {
	t.Helper()
	out, err := try(env, command, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func try(env []string, command string, args ...string) (string, error) {
	cmd := exec.Command(command, args...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", command, strings.Join(args, " "), err, stderr.String())
	}
	return string(out), err
}

// counted is a socket that forwards to another and counts what goes in.
func counted(t *testing.T, socket string) (front string, sent func() int64) {
	t.Helper()
	front = socket + ".front"
	l, err := net.Listen("unix", front)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var n atomic.Int64
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go forward(in, socket, &n)
		}
	}()
	return front, n.Load
}

func forward(in net.Conn, socket string, n *atomic.Int64) {
	defer in.Close()
	out, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer out.Close()
	go func() {
		_, _ = io.Copy(in, out)
		in.Close()
	}()
	_, _ = io.Copy(io.MultiWriter(out, tally{n}), in)
	_ = out.(*net.UnixConn).CloseWrite()
}

type tally struct{ n *atomic.Int64 }

func (t tally) Write(p []byte) (int, error) {
	t.n.Add(int64(len(p)))
	return len(p), nil
}

// only is an environment of these variables.
func only(vars ...string) func(string) string {
	return func(key string) string {
		for i := 0; i < len(vars); i += 2 {
			if vars[i] == key {
				return vars[i+1]
			}
		}
		return ""
	}
}

func detect(t *testing.T, want string, opts Options) Target {
	t.Helper()
	target, err := Detect(context.Background(), want, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(target.Name())
	return target
}

func containerdPeer(t *testing.T) *peer {
	dir := tempDir(t)
	socket := filepath.Join(dir, "c.sock")
	config := filepath.Join(dir, "config.toml")
	write(t, config, `version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.internal.v1.opt"]
root = "`+dir+`/root"
state = "`+dir+`/state"
`)
	start(t, socket, nil, "containerd", "--config", config, "--address", socket)
	front, sent := counted(t, socket)
	env := only("CONTAINERD_ADDRESS", front)
	ctr := []string{"CONTAINERD_ADDRESS=" + socket}
	n := 0
	return &peer{
		target: detect(t, "containerd", Options{Getenv: env}), sent: sent, whole: true, dir: dir,
		left: func(t *testing.T) []string {
			return strings.Split(strings.TrimSpace(output(t, ctr, "ctr", "content", "active")), "\n")[1:]
		},
		run: func(t *testing.T, name string) string {
			n++
			return output(t, ctr, "ctr", "run", "--rm", name, fmt.Sprintf("c%d", n))
		},
		has: func(t *testing.T, name string) bool {
			return output(t, ctr, "ctr", "image", "ls", "-q", "name=="+name) != ""
		},
		remove: func(t *testing.T, names ...string) {
			output(t, ctr, "ctr", append([]string{"image", "rm", "--sync"}, names...)...)
		},
	}
}

// podmanEnv is a podman store in a directory of its own.
func podmanEnv(t *testing.T) string {
	dir := tempDir(t)
	write(t, filepath.Join(dir, "storage.conf"), "[storage]\ndriver = \"overlay\"\ngraphroot = \""+dir+"/root\"\nrunroot = \""+dir+"/run\"\n")
	write(t, filepath.Join(dir, "containers.conf"), "[engine]\nimage_copy_tmp_dir = \""+dir+"/tmp\"\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n")
	if err := os.Mkdir(filepath.Join(dir, "tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONTAINERS_STORAGE_CONF", filepath.Join(dir, "storage.conf"))
	t.Setenv("CONTAINERS_CONF", filepath.Join(dir, "containers.conf"))
	t.Setenv("PODMAN_IGNORE_CGROUPSV1_WARNING", "1")
	t.Setenv("TMPDIR", filepath.Join(dir, "tmp"))
	return dir
}

func podmanPeer(t *testing.T) *peer {
	dir := podmanEnv(t)
	env := only()
	return &peer{
		target: detect(t, "podman", Options{Getenv: env}), dir: dir,
		left: func(t *testing.T) []string { return files(t, filepath.Join(dir, "tmp")) },
		run: func(t *testing.T, name string) string {
			return output(t, nil, "podman", "run", "--rm", "--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", name)
		},
		has: func(t *testing.T, name string) bool {
			_, err := try(nil, "podman", "image", "exists", name)
			return err == nil
		},
		remove: func(t *testing.T, names ...string) {
			output(t, nil, "podman", append([]string{"rmi", "--force"}, names...)...)
		},
	}
}

// podmanAPIPeer is the same podman behind its socket.
func podmanAPIPeer(t *testing.T, variable, want string) *peer {
	p := podmanPeer(t)
	socket := filepath.Join(p.dir, "p.sock")
	start(t, socket, nil, "podman", "system", "service", "--time=0", "unix://"+socket)
	front, sent := counted(t, socket)
	env := only(variable, "unix://"+front)
	p.target, p.sent = detect(t, want, Options{Getenv: env}), sent
	return p
}

// podmanRemotePeer is the same podman through a podman command that believes
// it is on another machine.
func podmanRemotePeer(t *testing.T) *peer {
	p := podmanAPIPeer(t, "CONTAINER_HOST", "podman")
	dir := p.dir
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	real, err := exec.LookPath("podman")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(bin, "podman"), "#!/bin/sh\nexec "+real+" --remote --url unix://"+dir+"/p.sock.front \"$@\"\n")
	path := os.Getenv("PATH")
	t.Setenv("PATH", bin+":"+path)
	p.target = detect(t, "podman", Options{Getenv: only()})
	t.Setenv("PATH", path)
	return p
}

// dockerd returns the directory of Docker's binaries and whether they are of a
// Docker that reads zstd and has two stores.
func dockerd(t *testing.T) (dir string, modern bool) {
	t.Helper()
	if d := os.Getenv("LIGHTER_TEST_DOCKERD"); d != "" {
		return filepath.Dir(d), true
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(cache, "lighter-test", "docker-20.10")
	dir = filepath.Join(root, "bin")
	if _, err := os.Stat(dir); err == nil {
		return dir, false
	}
	work := tempDir(t)
	if _, err := try(nil, "sh", "-c", "cd "+work+" && apt-get download docker.io && dpkg -x docker.io_*.deb . && mkdir bin && cp -a usr/bin/docker usr/sbin/dockerd usr/sbin/docker-proxy bin"); err != nil {
		t.Fatal("these tests need Debian's docker.io 20.10: ", err)
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	output(t, nil, "cp", "-a", filepath.Join(work, "bin"), dir+".new")
	if err := os.Rename(dir+".new", dir); err != nil {
		t.Fatal(err)
	}
	return dir, false
}

func dockerPeer(t *testing.T, containerdStore bool) *peer {
	bin, _ := dockerd(t)
	dir := tempDir(t)
	socket := filepath.Join(dir, "d.sock")
	config := "{}"
	if containerdStore {
		config = `{"features":{"containerd-snapshotter":true}}`
	}
	write(t, filepath.Join(dir, "daemon.json"), config)
	env := []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
	start(t, socket, env, filepath.Join(bin, "dockerd"), "--config-file", dir+"/daemon.json", "--data-root", dir+"/data",
		"--exec-root", dir+"/exec", "--pidfile", dir+"/pid", "--host", "unix://"+socket, "--iptables=false", "--bridge=none")
	front, sent := counted(t, socket)
	getenv := only("DOCKER_HOST", "unix://"+front)
	cli := func(args ...string) (string, error) {
		return try(env, "docker", append([]string{"--host", "unix://" + socket}, args...)...)
	}
	must := func(t *testing.T, args ...string) string {
		t.Helper()
		out, err := cli(args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	return &peer{
		target: detect(t, "docker", Options{Getenv: getenv}), sent: sent, dir: dir, whole: containerdStore,
		left: func(t *testing.T) []string { return files(t, filepath.Join(dir, "data", "tmp")) },
		run: func(t *testing.T, name string) string {
			return must(t, "run", "--rm", "--network=none", name)
		},
		has: func(t *testing.T, name string) bool {
			_, err := cli("image", "inspect", name)
			return err == nil
		},
		remove: func(t *testing.T, names ...string) {
			must(t, append([]string{"rmi", "--force"}, names...)...)
		},
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// files are the names below dir, directories left out; none where dir is missing.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, path)
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return names
}
