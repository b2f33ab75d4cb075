package term_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
)

func sha(c string) string { return "sha256:" + strings.Repeat(c, 64) }

// inspected is an image with one of everything.
func inspected() report.Inspection {
	size := func(n int64) *int64 { return &n }
	made := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	epoch := time.Unix(1_700_000_000, 0).UTC()
	base := report.InspectedLayer{
		Digest: sha("a"), DiffID: sha("1"), MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Codec: "gzip",
		Size: 29_300_000, SharedWith: []string{"linux/arm64"}, CreatedBy: "/bin/sh -c #(nop) ADD file:abc in / ",
	}
	own := report.InspectedLayer{
		Digest: sha("b"), DiffID: sha("2"), MediaType: "application/vnd.oci.image.layer.v1.tar+zstd", Codec: "zstd", Level: 9, Encoder: "libzstd 1.5.7",
		Epoch: &epoch, Size: 4_020_000, SeekTable: true, Frames: 3, TarSize: size(20_000_000), SharedWith: []string{}, CreatedBy: "RUN make # buildkit",
	}
	wrong := report.InspectedLayer{
		Digest: sha("c"), DiffID: sha("3"), MediaType: "application/vnd.docker.image.rootfs.diff.tar.zstd", Codec: "zstd",
		TypeProblem: "no specification has that media type, and some clients refuse it", Size: 812, TOC: "zstd:chunked", SharedWith: []string{},
		CreatedBy: "COPY app /app # buildkit", RecordError: "no part of a blob can be read",
	}
	foreign := report.InspectedLayer{Digest: sha("d"), DiffID: sha("4"), MediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Size: 100, Foreign: true, SharedWith: []string{}}
	config := report.ImageConfig{
		Digest: sha("e"), Created: &made, Author: "Ann\x1b[31m", Entrypoint: []string{"/app", "--dir", "a b"}, Cmd: []string{"sh", "-c", "a && b <c"},
		User: "1000", Workdir: "/srv", Env: []report.EnvVar{{Name: "PATH", Value: "/usr/bin:/bin"}, {Name: "EVIL", Value: "x\x1b]0;title\ay\nz"}},
		Ports: []string{"53/udp", "8080/tcp"}, Volumes: []string{"/data"}, Labels: map[string]string{"b": "2", "a": "1\u202e"}, StopSignal: "SIGINT",
		History: []report.HistoryStep{{Created: &made, CreatedBy: base.CreatedBy, Layer: 1}, {CreatedBy: "ENV PATH=/usr/bin:/bin", Comment: "buildkit.dockerfile.v0"}, {CreatedBy: own.CreatedBy, Layer: 2}, {CreatedBy: wrong.CreatedBy, Layer: 3}},
	}
	return report.Inspection{
		Image: "docker://registry.example/app:1", Digest: sha("0"), MediaType: "application/vnd.oci.image.index.v1+json", Size: 33_500_000,
		Annotations: map[string]string{"org.opencontainers.image.source": "https://example.com/app"},
		Platforms: []report.PlatformImage{
			{
				Platform: "linux/amd64", Digest: sha("5"), MediaType: "application/vnd.oci.image.manifest.v1+json", PullSize: 33_322_000,
				Annotations: map[string]string{"key": "value"}, Config: config, Layers: []report.InspectedLayer{base, own, wrong},
			},
			{
				Platform: "linux/arm64", Digest: sha("6"), MediaType: "application/vnd.docker.distribution.manifest.v2+json", PullSize: 4_020_900, TarSize: size(20_000_000),
				IndexAnnotations: map[string]string{"io.github.containers.compression.zstd": "true"},
				Config:           report.ImageConfig{Digest: sha("7"), Created: &time.Time{}, Entrypoint: []string{}, Cmd: []string{}, Env: []report.EnvVar{}, Ports: []string{}, Volumes: []string{}, History: []report.HistoryStep{{CreatedBy: "lost"}}},
				Layers:           []report.InspectedLayer{own, foreign},
			},
		},
		Attestations: []report.Attestation{
			{Digest: sha("8"), Subject: sha("5"), Platform: "linux/amd64", Predicates: []string{"https://slsa.dev/provenance/v1", "https://spdx.dev/Document"}, Size: 12_000},
			{Digest: sha("9"), Subject: sha("f"), Predicates: []string{}, Size: 300},
		},
		Artifacts: []report.Artifact{{Digest: sha("f"), Kind: "application/vnd.cncf.helm.config.v1+json", Size: 900}},
	}
}

func TestInspection(t *testing.T) {
	proven := inspected()
	proven.Proofs = []report.Proof{{Ref: "app:1", Want: "zstd", Layers: []report.Proven{
		{Digest: sha("a"), Codec: "gzip", Verdict: report.Verdict{Reason: "it came with the base image", Fix: "lighter convert app:1 NAME"}},
		{Digest: sha("b"), Codec: "zstd:9", Verdict: report.Verdict{OK: true}},
	}}}
	for name, c := range map[string]struct {
		out term.Output
		i   report.Inspection
	}{
		"inspection.golden":            {term.Output{}, inspected()},
		"inspection-narrow.golden":     {term.Output{OutWidth: 70, Color: true}, inspected()},
		"inspection.json.golden":       {term.Output{JSON: true}, inspected()},
		"inspection-proof.golden":      {term.Output{OutWidth: 80}, proven},
		"inspection-proof.json.golden": {term.Output{JSON: true}, proven},
	} {
		var out, err bytes.Buffer
		c.out.Out, c.out.Err = &out, &err
		if e := c.out.Inspection(c.i); e != nil {
			t.Fatal(e)
		}
		golden(t, name, out.String())
		if said := strings.Contains(err.String(), "1 of 2 layers is not zstd"); said != (name == "inspection-proof.json.golden") {
			t.Errorf("%s: on standard error: %q", name, err.String())
		}
		if strings.ContainsAny(strings.ReplaceAll(out.String(), "\x1b[", ""), "\x1b\a\u202e") {
			t.Errorf("%s: a control character reached the terminal", name)
		}
	}
}

// Raw is byte for byte, but for a terminal.
func TestRaw(t *testing.T) {
	in := "{\"a\":\"\u009b31m\u202e\"}\r\n"
	for width, want := range map[int]string{0: in, 80: `{"a":"\u009b31m\u202e"}` + "\n\n"} {
		var out bytes.Buffer
		if err := (&term.Output{Out: &out, OutWidth: width}).Raw([]byte(in)); err != nil || out.String() != want {
			t.Errorf("width %d: %q, %v, want %q", width, out.String(), err, want)
		}
	}
}
