package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The Dockerfiles are those of Docker's guides: manifests and modules first, then
// the sources; a small base behind it. The second of each has the cache mounts
// that they go on to; of Rust there is one more, whose cargo keeps in its mount what
// ours keeps here. golang, rust and alpine stand for those images: the first
// two are Debian with the compiler that this machine has, the third holds what
// Alpine's does, of Debian's packages.
const (
	goUsual = `FROM golang AS build
ENV PATH=/usr/local/go/bin:$PATH GOPROXY=file:///proxy GOSUMDB=off GOTOOLCHAIN=local GOMODCACHE=/mod GOCACHE=/cache
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=bind,from=proxy,target=/proxy go mod download
COPY . .
RUN CGO_ENABLED=0 go build -o /app .
FROM alpine
COPY --from=build /app /usr/local/bin/app
ENTRYPOINT ["/usr/local/bin/app"]
`
	goMounts = `FROM golang AS build
ENV PATH=/usr/local/go/bin:$PATH GOPROXY=file:///proxy GOSUMDB=off GOTOOLCHAIN=local GOMODCACHE=/mod GOCACHE=/cache
WORKDIR /src
RUN --mount=type=cache,target=/mod --mount=type=bind,source=go.sum,target=go.sum --mount=type=bind,source=go.mod,target=go.mod \
    --mount=type=bind,from=proxy,target=/proxy go mod download
RUN --mount=type=cache,target=/mod --mount=type=cache,target=/cache --mount=type=bind,target=. \
    CGO_ENABLED=0 go build -o /app .
FROM alpine
COPY --from=build /app /usr/local/bin/app
ENTRYPOINT ["/usr/local/bin/app"]
`
	// musl's target links statically by itself; Debian's Rust has GNU's only.
	rustUsual = `FROM rust AS build
ENV RUSTFLAGS=-Ctarget-feature=+crt-static
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY vendor vendor
COPY . .
RUN cargo build --release --locked --target TRIPLE && cp target/TRIPLE/release/rg /app
FROM alpine
COPY --from=build /app /usr/local/bin/app
ENTRYPOINT ["/usr/local/bin/app"]
`
	// What cargo-chef does: the crates are compiled in a step of their own.
	rustDeps = `FROM rust AS build
ENV RUSTFLAGS=-Ctarget-feature=+crt-static
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs ./
COPY .cargo .cargo
COPY vendor vendor
COPY crates/core/app.rs crates/core/app.rs
RUN echo 'fn main() {}' >crates/core/main.rs && cargo build --release --locked --target TRIPLE
COPY . .
RUN touch crates/core/main.rs && cargo build --release --locked --target TRIPLE && cp target/TRIPLE/release/rg /app
FROM alpine
COPY --from=build /app /usr/local/bin/app
ENTRYPOINT ["/usr/local/bin/app"]
`
	rustMounts = `FROM rust AS build
ENV RUSTFLAGS=-Ctarget-feature=+crt-static
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/src/target cargo build --release --locked --target TRIPLE && cp target/TRIPLE/release/rg /app
FROM alpine
COPY --from=build /app /usr/local/bin/app
ENTRYPOINT ["/usr/local/bin/app"]
`
)

// made answers what a script of hack made.
func made(ctx context.Context, script string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "hack/"+script, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("hack/%s %s: %w", script, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// newPacks is what both projects have in common.
func newPacks(ctx context.Context, opt options, kind, compiler string) (*packBench, map[string]string, error) {
	b := &packBench{opt: opt, name: kind, dir: filepath.Join(opt.dir, "pack-"+kind)}
	var err error
	if b.opt.lighter, err = filepath.Abs(opt.lighter); err != nil {
		return nil, nil, err
	}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return nil, nil, err
	}
	if b.project, err = made(ctx, "projects.sh", kind); err != nil {
		return nil, nil, err
	}
	alpine, err := made(ctx, "base-images.sh", "alpine")
	if err != nil {
		return nil, nil, err
	}
	return b, map[string]string{compiler: "oci-layout://" + filepath.Join(b.project, "base"), "alpine": "oci-layout://" + alpine}, nil
}

func (b *packBench) pack() *way {
	return &way{name: "lighter pack", args: []string{b.opt.lighter, "pack", "-q", "--compression", b.opt.compression, "-t", "REF", "--push"}}
}

// goPacks are the ways to an image of Miniflux.
func goPacks(ctx context.Context, opt options) (*packBench, error) {
	b, contexts, err := newPacks(ctx, opt, "go", "golang")
	if err != nil {
		return nil, err
	}
	contexts["proxy"] = filepath.Join(b.project, "proxy")
	b.source, b.text, b.line = "internal/cli/cli.go", "Show build information", "Show build information, %d"
	b.env = []string{"GOPROXY=file://" + contexts["proxy"], "GOSUMDB=off", "GOTOOLCHAIN=local", "GOFLAGS=-modcacherw", "CGO_ENABLED=0"}
	b.compiler = []string{"go", "version"}
	// Each has caches of its own, cold at first.
	own := func() []string {
		return []string{"GOMODCACHE=HERE/mod", "GOCACHE=HERE/build", "XDG_CACHE_HOME=HERE/cache"}
	}
	pack := b.pack()
	pack.env = own()
	ko, err := made(ctx, "ko.sh")
	if err != nil {
		return nil, err
	}
	// Like lighter's: no symbols, no SBOM, nothing below, and its own cache in use.
	config := filepath.Join(b.dir, "ko.yaml")
	if err := os.WriteFile(config, []byte("defaultLdflags: [-s, -w]\n"), 0o644); err != nil {
		return nil, err
	}
	b.ways = []*way{
		pack,
		{name: "docker build", dockerfile: goUsual, contexts: contexts},
		{name: "docker build, cache mounts", dockerfile: goMounts, contexts: contexts},
		{name: "ko", args: []string{"sh", "-c", `KO_DOCKER_REPO=$(dirname REF)/ko KO_DEFAULTBASEIMAGE=REF-base exec "$0" build --bare --sbom=none --platform=linux/` + runtime.GOARCH + " .", ko},
			env: append(own(), "KO_CONFIG_PATH="+config, "KOCACHE=HERE/ko"), before: func(ref string) error { return emptyImage(ref + "-base") }},
	}
	return b, nil
}

// rustPacks are the ways to an image of ripgrep.
func rustPacks(ctx context.Context, opt options) (*packBench, error) {
	b, contexts, err := newPacks(ctx, opt, "rust", "rust")
	if err != nil {
		return nil, err
	}
	b.source, b.text, b.line = "crates/core/main.rs", `eprintln!("{}", err);`, `eprintln!("{} (%d)", err);`
	b.env = []string{"PATH=/usr/bin:" + os.Getenv("PATH")} // Debian's
	b.compiler = []string{"/usr/bin/rustc", "--version"}
	out, err := exec.CommandContext(ctx, "/usr/bin/rustc", "-vV").Output()
	if err != nil {
		return nil, err
	}
	_, host, _ := bytes.Cut(out, []byte("host: "))
	triple := string(bytes.Fields(host)[0])
	docker := func(name, dockerfile string) *way {
		return &way{name: name, dockerfile: strings.ReplaceAll(dockerfile, "TRIPLE", triple), contexts: contexts}
	}
	incremental, plain := b.pack(), b.pack()
	incremental.name, incremental.project = "lighter pack, incremental", "[toolchain]\nincremental = true\n"
	plain.plain = true
	b.ways = []*way{
		incremental,
		docker("docker build", rustUsual),
		plain,
		docker("docker build, crates first", rustDeps),
		docker("docker build, cache mounts", rustMounts),
		docker("docker build, cache mounts, incremental", strings.Replace(rustMounts, "cargo build", "CARGO_PROFILE_RELEASE_INCREMENTAL=true cargo build", 1)),
	}
	return b, nil
}

// emptyImage is scratch as a name in a registry.
func emptyImage(ref string) error {
	tag, err := name.ParseReference(ref)
	if err != nil {
		return err
	}
	img, err := mutate.ConfigFile(mutate.MediaType(empty.Image, types.OCIManifestSchema1), &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		return err
	}
	return remote.Write(tag, mutate.ConfigMediaType(img, types.OCIConfigJSON))
}

// imageSize is what a machine that has nothing of it pulls: layers and config.
func imageSize(ref string) (int64, error) {
	tag, err := name.ParseReference(ref)
	if err != nil {
		return 0, err
	}
	img, err := remote.Image(tag, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}))
	if err != nil {
		return 0, err
	}
	m, err := img.Manifest()
	if err != nil {
		return 0, err
	}
	size := m.Config.Size
	for _, l := range m.Layers {
		size += l.Size
	}
	return size, nil
}
