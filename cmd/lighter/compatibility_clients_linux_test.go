package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/engine/buildkit"
)

// A client is one row of the matrix. Its commands are shell scripts; $DIR is its
// own directory, $CELL a new one below that for each pull, $REF the image.
type client struct {
	name    string // of the row, before its version
	note    string // and behind it
	suite   string // Debian release of hack/peers.sh that it comes from; "" is this machine
	version string // command that prints it
	config  string // file in $DIR that daemon reads
	daemon  string // in the foreground, with its socket at $DIR/sock; "" where it needs none
	// pull fetches the image into storage that has nothing of it, and writes
	// a tar of its files; what else is in there does not matter.
	pull string
	// read takes the files out of $CELL instead, where the client unpacks none.
	read func(cell string) (tree, error)
	// refuses has words of the error with which it refuses layers of zstd; ""
	// where it reads them.
	refuses string
	// races tells that of several variants it fetches another one each time.
	races bool
}

const (
	podmanPull = storageConf + `
podman pull -q --tls-verify=false $REF >&2
tar -cf - -C "$(podman image mount $REF)" srv`

	buildahPull = storageConf + `
buildah mount "$(buildah from --tls-verify=false $REF)" > $CELL/mounted
tar -cf - -C "$(cat $CELL/mounted)" srv`

	storageConf = `
export CONTAINERS_STORAGE_CONF=$CELL/storage.conf
cat > $CELL/storage.conf <<END
[storage]
driver = "overlay"
graphroot = "$CELL/root"
runroot = "$CELL/run"
[storage.options]
${PULL_OPTIONS:-}
END`

	skopeoPull = `skopeo copy -q --src-tls-verify=false --dest-decompress docker://$REF dir:$CELL`

	umociPull = `
skopeo copy -q --src-tls-verify=false docker://$REF oci:$CELL/layout:1
umoci unpack --image $CELL/layout:1 $CELL/bundle >&2
tar -cf - -C $CELL/bundle/rootfs srv`

	containerdConfig = `version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.internal.v1.opt"]
`
	containerdDaemon = `exec containerd --config $DIR/config --address $DIR/sock --root $DIR/root --state $DIR/state`
	containerdPull   = `
export CONTAINERD_ADDRESS=$DIR/sock
ctr image pull --plain-http $REF >&2
ctr image mount $REF $CELL >&2
tar -cf - -C $CELL srv
ctr image unmount --rm $CELL >&2
ctr image rm --sync $REF >&2`

	dockerDaemon = `exec dockerd --config-file $DIR/config --data-root $DIR/data --exec-root $DIR/exec --pidfile $DIR/pid \
--host unix://$DIR/sock --iptables=false --ip6tables=false --bridge=none`
	dockerPull = `
export DOCKER_HOST=unix://$DIR/sock
docker pull -q $REF >&2
id=$(docker create $REF none)
docker export $id
docker rm $id >&2
docker rmi $REF >&2`

	buildkitDaemon = `buildkitd --root $DIR/root --addr unix://$DIR/sock --otel-socket-path $DIR/otel`
	buildkitPull   = `
export BUILDKIT_HOST=unix://$DIR/sock
echo FROM $REF > $CELL/Dockerfile
buildctl build --frontend dockerfile.v0 --local context=$CELL --local dockerfile=$CELL --output type=tar,dest=-
buildctl prune --all >&2`

	lighterPull = `
echo FROM $REF > $CELL/Dockerfile
lighter --state $CELL/state --engine=inprocess build -q -o - $CELL`
)

// clients are the rows, in the order of the table: older before newer.
func clients(t *testing.T) []client {
	stock, err := exec.Command("../../hack/stock.sh").Output()
	if err != nil {
		t.Fatalf("hack/stock.sh, which builds buildkitd: %v", err)
	}
	bin := strings.TrimSpace(string(stock))
	docker := client{name: "Docker", version: "dockerd --version", daemon: dockerDaemon, pull: dockerPull}
	containerd := client{name: "containerd", version: "containerd --version", config: containerdConfig, daemon: containerdDaemon, pull: containerdPull}
	podman := client{name: "podman", version: "podman --version", pull: podmanPull}
	buildah := client{name: "buildah", version: "buildah --version", pull: buildahPull}
	skopeo := client{name: "skopeo", version: "skopeo --version", pull: skopeoPull, read: skopeoTree}
	umoci := client{name: "umoci", note: ", through skopeo", version: "umoci --version", pull: umociPull}

	oldDocker, newDocker, dockerInContainerd := docker.of("bookworm"), docker.of("sid"), docker.of("sid")
	oldDocker.config, oldDocker.refuses = `{}`, "archive/tar: invalid tar header"
	newDocker.config = `{"features": {"containerd-snapshotter": false}}`
	dockerInContainerd.config, dockerInContainerd.note = `{"features": {"containerd-snapshotter": true}}`, ", containerd's store"
	newContainerd := containerd.of("sid")
	newContainerd.races = true
	podmanByParts := podman.of("sid")
	podmanByParts.note = ", `enable_partial_images`"
	podmanByParts.pull = `PULL_OPTIONS='pull_options = {enable_partial_images = "true"}'` + podmanPull
	oldUmoci := umoci.of("bookworm")
	oldUmoci.refuses = "blob is not correct mediatype"
	return []client{
		oldDocker, newDocker, dockerInContainerd,
		containerd.of("bookworm"), newContainerd,
		podman.of("bookworm"), podman.of("sid"), podmanByParts,
		buildah.of("bookworm"), buildah.of("sid"),
		skopeo.of("bookworm"), skopeo.of("sid"),
		oldUmoci, umoci.of("sid"),
		{name: "BuildKit", version: "echo " + buildkit.Version, daemon: "exec " + bin + "/" + buildkitDaemon, pull: "PATH=" + bin + ":$PATH" + buildkitPull},
		{name: "lighter's engine, BuildKit", version: "echo " + buildkit.Version, pull: lighterPull},
	}
}

// of is the client as a release of Debian has it.
func (c client) of(suite string) client {
	c.suite = suite
	return c
}

// command is a script of the client, in its own Debian where it has one.
func (c *client) command(dir, script string, env ...string) (*exec.Cmd, error) {
	cache, err := benchCache()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("sh", "-euc", script)
	if c.suite != "" {
		cmd = exec.Command("../../hack/in-peers.sh", "-s", c.suite, "-b", dir, "sh", "-euc", script)
	}
	cmd.Env = append([]string{"DIR=" + dir, "HOME=" + dir, "LIGHTER_CACHE=" + cache, "PATH=" + os.Getenv("PATH"), "GOCOVERDIR=" + os.Getenv("GOCOVERDIR")}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.WaitDelay = time.Second
	return cmd, nil
}

// output runs a script to its end and answers what it wrote.
func (c *client) output(dir, script string, env ...string) ([]byte, error) {
	cmd, err := c.command(dir, script, env...)
	if err != nil {
		return nil, err
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}

// title is the name of the row with the version that the client says it has.
func (c *client) title(t *testing.T, dir string) string {
	t.Helper()
	out, err := c.output(dir, c.version)
	version := regexp.MustCompile(`\d+(\.\d+)+`).Find(out)
	if err != nil || version == nil {
		t.Fatalf("%s has no version in it: %v", out, err)
	}
	return fmt.Sprintf("%s %s%s", c.name, version, c.note)
}

// start starts the daemon, which ends with the test.
func (c *client) start(t *testing.T, dir string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(c.config), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd, err := c.command(dir, c.daemon)
	if err != nil {
		t.Fatal(err)
	}
	log := &logged{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("the daemon does not end; killed")
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			text := log.String()
			t.Logf("the daemon said:\n%s", text[max(0, len(text)-4000):])
		}
	})
	eventually(t, "the daemon listens", func() bool {
		select {
		case <-ended:
			t.Fatalf("the daemon ended: %s", cmd.ProcessState)
		default:
		}
		conn, err := net.Dial("unix", filepath.Join(dir, "sock"))
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
}

// skopeoTree lays the layers that skopeo has decompressed over one another.
func skopeoTree(cell string) (tree, error) {
	data, err := os.ReadFile(filepath.Join(cell, "manifest.json"))
	if err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	files := tree{}
	for _, l := range m.Layers {
		layer, err := os.ReadFile(filepath.Join(cell, l.Digest.Encoded()))
		if err != nil {
			return nil, err
		}
		if err := files.apply(bytes.NewReader(layer)); err != nil {
			return nil, fmt.Errorf("layer %s: %w", l.Digest, err)
		}
	}
	return files, nil
}
