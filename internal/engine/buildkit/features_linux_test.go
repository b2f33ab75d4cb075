package buildkit

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	controlapi "github.com/moby/buildkit/api/services/control"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/crypto/ssh"

	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// TestDockerfile builds what Dockerfiles can say, on one engine.
func TestDockerfile(t *testing.T) {
	e := startEngine(t, Options{})

	t.Run("heredocs, arguments, labels and targets", func(t *testing.T) {
		dir := project(t, map[string]string{"busybox": "", "Dockerfile": "# syntax=docker/dockerfile:1\n" + shell + `
ARG WHO=nobody
RUN <<EOF
echo "hello $WHO" >/hello
EOF
COPY <<-here /heredoc
	from a heredoc
here
FROM shell AS never
RUN echo must not run; exit 1
FROM shell AS last
RUN echo last >/last
`})
		resp, events := e.mustBuild(engine.Request{
			Context: dir, Target: "shell", BuildArgs: map[string]string{"WHO": "world"},
			Labels: map[string]string{"a": "b"}, Outputs: toImage(),
		})
		files := e.files(resp.Digest)
		if files["hello"] != "hello world\n" || files["heredoc"] != "from a heredoc\n" {
			t.Errorf("files %q, %q", files["hello"], files["heredoc"])
		}
		var cfg ocispecs.Image
		e.json(resp.ConfigDigest, &cfg)
		if cfg.Config.Labels["a"] != "b" {
			t.Errorf("labels %v", cfg.Config.Labels)
		}
		for name := range steps(events) {
			if strings.Contains(name, "never") || strings.Contains(name, "last") {
				t.Errorf("unused stage ran: %s", name)
			}
		}
	})

	t.Run("secrets reach no layer, log or history", func(t *testing.T) {
		secret := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(secret, []byte("hunter2-hunter2\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		dir := project(t, map[string]string{"busybox": "", "Dockerfile": shell +
			"RUN --mount=type=secret,id=token wc -c </run/secrets/token >/size && cat /run/secrets/token\n"})
		resp, events := e.mustBuild(engine.Request{Context: dir, Secrets: []engine.Secret{{ID: "token", File: secret}}, Outputs: toImage()})
		files := e.files(resp.Digest)
		if strings.TrimSpace(files["size"]) != "16" {
			t.Errorf("the step did not see the secret: %q", files["size"])
		}
		for name, data := range files {
			if strings.Contains(data, "hunter2") && name != "bin/busybox" {
				t.Errorf("secret in layer file %s", name)
			}
		}
		raw, _ := json.Marshal(events)
		if strings.Contains(logs(events), "hunter2") || bytes.Contains(raw, []byte("hunter2")) {
			t.Error("secret in the events")
		}
		if !strings.Contains(logs(events), "[secret]") {
			t.Errorf("the log does not show where the secret was: %q", logs(events))
		}
	})

	t.Run("a build with secrets leaves no record, finished or cancelled", func(t *testing.T) {
		t.Setenv("TOKEN", "hunter2-hunter2")
		history, err := e.bk.ControlClient().ListenBuildHistory(t.Context(), &controlapi.BuildHistoryRequest{ActiveOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		for name, end := range map[string]string{"finished": "true", "cancelled": "sleep 60"} {
			dir := project(t, map[string]string{"busybox": "", "Dockerfile": shell +
				"RUN --mount=type=secret,id=t cat /run/secrets/t && echo printed && " + end + "\n"})
			ctx, cancel := context.WithCancel(t.Context())
			_, err := e.Build(ctx, engine.Request{Context: dir, Secrets: []engine.Secret{{ID: "t", Env: "TOKEN"}}}, func(ev event.Event) {
				if ev.Log != nil && bytes.Contains(ev.Log.Data, []byte("printed")) && name == "cancelled" {
					cancel()
				}
			})
			cancel()
			if (err == nil) != (name == "finished") {
				t.Fatalf("%s: %v", name, err)
			}
		}
		// The first that the history hears of is the one without.
		e.mustBuild(engine.Request{Context: project(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}), Labels: map[string]string{"without": "1"}})
		ev, err := history.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if attrs := ev.Record.FrontendAttrs; attrs["label:without"] == "" {
			t.Errorf("a record of %v", attrs)
		}
	})

	t.Run("cache mounts and bind mounts", func(t *testing.T) {
		dir := project(t, map[string]string{"busybox": "", "src/a": "A", "Dockerfile": shell + `
ARG N
RUN --mount=type=cache,target=/cache --mount=type=bind,source=src,target=/src \
    echo $N >>/cache/runs; cat /cache/runs /src/a >/out
`})
		e.mustBuild(engine.Request{Context: dir, BuildArgs: map[string]string{"N": "1"}, Outputs: toImage()})
		resp, _ := e.mustBuild(engine.Request{Context: dir, BuildArgs: map[string]string{"N": "2"}, Outputs: toImage()})
		if got := e.files(resp.Digest)["out"]; got != "1\n2\nA" {
			t.Errorf("out = %q", got)
		}
	})

	t.Run("dockerignore, COPY --link, Dockerfile elsewhere", func(t *testing.T) {
		dir := project(t, map[string]string{"keep": "k", "drop": "d", ".dockerignore": "drop\n"})
		df := filepath.Join(project(t, map[string]string{"x.Dockerfile": "FROM scratch\nCOPY --link . /\n"}), "x.Dockerfile")
		resp, _ := e.mustBuild(engine.Request{Context: dir, Dockerfile: df, Outputs: toImage()})
		files := e.files(resp.Digest)
		if files["keep"] != "k" || files["drop"] != "" {
			t.Errorf("files %v", files)
		}
	})

	t.Run("named contexts", func(t *testing.T) {
		base := project(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /base\n"})
		layout := filepath.Join(t.TempDir(), "layout")
		e.mustBuild(engine.Request{Context: base, Outputs: []engine.Output{{
			Entry: engine.Entry{Type: "oci", Attrs: map[string]string{"tar": "false"}}, Dest: layout,
		}}})
		other := project(t, map[string]string{"file": "other"})
		dir := project(t, map[string]string{"Dockerfile": "FROM base\nCOPY --from=other file /file\n"})
		resp, _ := e.mustBuild(engine.Request{Context: dir, Outputs: toImage(), NamedContexts: map[string]string{
			"base": "oci-layout://" + layout, "other": other,
		}})
		files := e.files(resp.Digest)
		if files["file"] != "other" || files["base"] == "" {
			t.Errorf("files %v", files)
		}
	})

	t.Run("standard input", func(t *testing.T) {
		// No Dockerfile on a disk, and a syntax line that is answered all the same.
		resp, _ := e.mustBuild(engine.Request{Context: "-", Stdin: strings.NewReader("# syntax=docker/dockerfile:1\nFROM scratch\nCOPY <<x /in\nstdin\nx\n"), Outputs: toImage()})
		if got := e.files(resp.Digest)["in"]; got != "stdin\n" {
			t.Errorf("Dockerfile on stdin: %q", got)
		}
		var b bytes.Buffer
		tw := tar.NewWriter(&b)
		for name, data := range map[string]string{"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "tar"} {
			tw.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o644})
			io.WriteString(tw, data)
		}
		tw.Close()
		resp, _ = e.mustBuild(engine.Request{Context: "-", Stdin: &b, Outputs: toImage()})
		if got := e.files(resp.Digest)["a"]; got != "tar" {
			t.Errorf("tar on stdin: %q", got)
		}
		dir := project(t, map[string]string{"a": "ctx"})
		resp, _ = e.mustBuild(engine.Request{Context: dir, Dockerfile: "-", Stdin: strings.NewReader("FROM scratch\nCOPY a /b\n"), Outputs: toImage()})
		if got := e.files(resp.Digest)["b"]; got != "ctx" {
			t.Errorf("-f -: %q", got)
		}
	})

	t.Run("git context", func(t *testing.T) {
		repo := project(t, map[string]string{"sub/Dockerfile": "FROM scratch\nCOPY f /f\n", "sub/f": "git"})
		for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "."}, {"-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "x"}, {"update-server-info"}} {
			cmd := exec.Command("git", args...)
			cmd.Dir = repo
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("git %v: %v: %s", args, err, out)
			}
		}
		url := serveGit(t, filepath.Join(repo, ".git"))
		resp, _ := e.mustBuild(engine.Request{Context: url + "#main:sub", Outputs: toImage()})
		if got := e.files(resp.Digest)["f"]; got != "git" {
			t.Errorf("file from git: %q", got)
		}
		resp, _ = e.mustBuild(engine.Request{Context: url + "#main:sub", Dockerfile: "-", Stdin: strings.NewReader("FROM scratch\nCOPY f /other\n"), Outputs: toImage()})
		if got := e.files(resp.Digest)["other"]; got != "git" {
			t.Errorf("git context with -f -: %q", got)
		}
	})

	t.Run("several platforms, cross-compiling on the build platform", func(t *testing.T) {
		dir := project(t, map[string]string{"busybox": "", "Dockerfile": strings.Replace(shell, "FROM scratch", "FROM --platform=$BUILDPLATFORM scratch", 1) + `
ARG TARGETARCH
RUN echo built for $TARGETARCH >/built
FROM scratch
COPY --from=shell /built /built
`})
		resp, _ := e.mustBuild(engine.Request{Context: dir, Platforms: []string{"linux/amd64", "linux/arm64"}, Outputs: toImage()})
		var idx ocispecs.Index
		e.json(resp.Digest, &idx)
		for _, m := range idx.Manifests {
			want := "built for " + m.Platform.Architecture + "\n"
			if got := e.files(m.Digest.String())["built"]; got != want {
				t.Errorf("%s: %q", m.Platform.Architecture, got)
			}
		}
		if len(idx.Manifests) != 2 {
			t.Errorf("%d manifests", len(idx.Manifests))
		}
	})

	t.Run("attestations and annotations", func(t *testing.T) {
		dir := project(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /x\n"})
		resp, _ := e.mustBuild(engine.Request{Context: dir, Outputs: toImage(),
			Attests: map[string]string{"provenance": "mode=max"}, Annotations: []string{"index:who=me", "manifest:what=that"}})
		var idx ocispecs.Index
		e.json(resp.Digest, &idx)
		if len(idx.Manifests) != 2 || idx.Annotations["who"] != "me" {
			t.Fatalf("index %+v", idx)
		}
		if m := e.manifest(idx.Manifests[0].Digest.String()); m.Annotations["what"] != "that" {
			t.Errorf("annotations %v", m.Annotations)
		}
	})

	t.Run("SBOM by a generator", func(t *testing.T) {
		reg := registrytest.Start(t, registrytest.Options{})
		scanner := project(t, map[string]string{"busybox": "", "Dockerfile": shell + `
COPY <<'end' /scan
cat >$BUILDKIT_SCAN_DESTINATION/sbom.spdx.json <<statement
{"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://spdx.dev/Document",
 "predicate": {"SPDXID": "SPDXRef-DOCUMENT", "files": "$(ls $BUILDKIT_SCAN_SOURCE)"}}
statement
end
ENTRYPOINT ["/bin/sh", "/scan"]
`})
		e.mustBuild(engine.Request{Context: scanner, Outputs: pushTo(reg.Ref("scanner:1"))})
		dir := project(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /scanned\n"})
		resp, _ := e.mustBuild(engine.Request{Context: dir, Outputs: toImage(), Attests: map[string]string{"sbom": "generator=" + reg.Ref("scanner:1")}})
		var idx ocispecs.Index
		e.json(resp.Digest, &idx)
		if len(idx.Manifests) != 2 {
			t.Fatalf("index %+v", idx)
		}
		statement, err := content.ReadBlob(t.Context(), e.Content(), e.manifest(idx.Manifests[1].Digest.String()).Layers[0])
		if err != nil || !bytes.Contains(statement, []byte("scanned")) {
			t.Errorf("%v: %s", err, statement)
		}
	})

	t.Run("ssh", func(t *testing.T) {
		dir := project(t, map[string]string{"busybox": "", "Dockerfile": shell + `
RUN --mount=type=ssh test -S "$SSH_AUTH_SOCK" && echo $SSH_AUTH_SOCK >/socket
`})
		resp, _ := e.mustBuild(engine.Request{Context: dir, Outputs: toImage(), SSH: []engine.SSH{{ID: "default", Paths: []string{sshKey(t)}}}})
		if files := e.files(resp.Digest); files["socket"] == "" {
			t.Errorf("the step saw no agent: %v", files["socket"])
		}
	})

	t.Run("outputs", func(t *testing.T) {
		dir := project(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /x\n"})
		out := t.TempDir()
		e.mustBuild(engine.Request{Context: dir, Outputs: []engine.Output{
			{Entry: engine.Entry{Type: "local"}, Dest: filepath.Join(out, "local")},
			{Entry: engine.Entry{Type: "tar"}, Dest: filepath.Join(out, "fs.tar")},
			{Entry: engine.Entry{Type: "oci"}, Dest: filepath.Join(out, "oci.tar")},
			{Entry: engine.Entry{Type: "docker"}, Dest: filepath.Join(out, "docker.tar")},
		}})
		for _, name := range []string{"local/x", "fs.tar", "oci.tar", "docker.tar"} {
			if info, err := os.Stat(filepath.Join(out, name)); err != nil || info.Size() == 0 {
				t.Errorf("%s: %v", name, err)
			}
		}
		if left, _ := filepath.Glob(filepath.Join(out, ".*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})

	t.Run("check", func(t *testing.T) {
		dir := project(t, map[string]string{"Dockerfile": "from scratch as X\nCOPY . /\n"})
		resp, _ := e.mustBuild(engine.Request{Context: dir, Check: true})
		if !resp.CheckFailed || !strings.Contains(resp.CheckReport, "ConsistentInstructionCasing") {
			t.Errorf("report %q", resp.CheckReport)
		}
	})
}

func TestErrors(t *testing.T) {
	e := startEngine(t, Options{})
	files := func(df string) string {
		return project(t, map[string]string{"busybox": "", "Dockerfile": df})
	}
	for _, tt := range []struct {
		name string
		req  engine.Request
		want string // in the error
		hint string // in its hint
	}{
		{"no context", engine.Request{Context: "/does/not/exist"}, `context "/does/not/exist" does not exist`, "directory"},
		{"no Dockerfile", engine.Request{Context: t.TempDir()}, "no Dockerfile at ", "-f FILE"},
		{"syntax error", engine.Request{Context: files("FROM scratch\n\nBOGUS x\n")}, "Dockerfile:3: unknown instruction: BOGUS", ""},
		{"unknown stage", engine.Request{Context: files("FROM scratch\n"), Target: "nope"}, `no stage "nope"`, "--target"},
		{"failing step", engine.Request{Context: files(shell + "RUN exit 7\n")}, "Dockerfile:4: ", "output"},
		{"missing file", engine.Request{Context: files("FROM scratch\nCOPY nope /\n")}, "Dockerfile:2: ", ""},
		{"unreachable registry", engine.Request{Context: files("FROM 127.0.0.1:1/x\n")}, "connection refused", "running"},
		{"unreachable push", engine.Request{Context: files("FROM scratch\nCOPY . /\n"), Outputs: pushTo("127.0.0.1:1/x")}, "connection refused", "running"},
		{"zstd and Docker media types", engine.Request{Context: files("FROM scratch\nCOPY . /\n"), Outputs: toImage("oci-mediatypes=false")}, "OCI media types", ""},
		{"unknown output", engine.Request{Context: files("FROM scratch\n"), Outputs: []engine.Output{{Entry: engine.Entry{Type: "nope"}}}}, `output type "nope"`, ""},
		{"no layout", engine.Request{Context: files("FROM b\n"), NamedContexts: map[string]string{"b": "oci-layout:///nope"}}, "is no OCI layout", "tar -xf"},
		{"bad network", engine.Request{Context: files("FROM scratch\n"), Network: "bogus"}, "--network", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := e.build(tt.req)
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want one line with %q", err, tt.want)
			}
			var h interface{ Hint() string }
			if tt.hint != "" && (!errors.As(err, &h) || !strings.Contains(h.Hint(), tt.hint)) {
				t.Errorf("error %q lacks a hint with %q", err, tt.hint)
			}
		})
	}
}

// sshKey writes a private key as ssh-keygen does.
func sshKey(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "id_ed25519")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
