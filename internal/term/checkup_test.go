package term_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
)

func checkup() report.Checkup {
	return report.Checkup{
		Version: "v1.2.3",
		Machine: []report.Check{
			{Name: "system", State: report.CheckOK, Found: "linux/amd64, kernel 6.1.0, 2 CPUs"},
			{Name: "runc", State: report.CheckNo, Found: "not installed", Fix: "apt install runc"},
			{Name: "user namespaces", State: report.CheckNo, Needed: true, Found: "AppArmor refuses user namespaces", Fix: "write this profile:\n\nprofile lighter {\n  userns,\n}"},
			{Name: "overlayfs", State: report.CheckUnknown, Found: "user namespaces come first"},
		},
		Compilers: []report.Check{{Name: "go", State: report.CheckOK, Found: "1.26.0 (/usr/bin/go)"}, {Name: "zig", State: report.CheckNo, Found: "not installed"}},
		Pairs:     []report.Check{{Name: "cargo and Cargo.lock", State: report.CheckNo, Found: "the lock file has version 4, which cargo before 1.78 does not read; this is 0.66.0", Fix: "use a newer Rust, of https://rustup.rs"}},
		Project:   "lighter.toml",
		Targets: []report.Check{
			{Name: "cargo linux/amd64", State: report.CheckOK, Needed: true, Found: "can be compiled for here"},
			{Name: "cargo linux/arm64, variant a", State: report.CheckNo, Needed: true, Found: "no linker, aarch64-linux-gnu-gcc or cargo-zigbuild", Fix: "apt-get install gcc-aarch64-linux-gnu"},
		},
		Daemons: []report.Daemon{
			{Check: report.Check{Name: "docker", State: report.CheckOK, Found: "docker 20.10.24 (unix:///var/run/docker.sock)"}, Version: "20.10.24"},
			{Check: report.Check{Name: "podman", State: report.CheckOK, Found: "podman 5.8.0 (/s)"}, Version: "5.8.0", ReadsZstd: true},
			{Check: report.Check{Name: "containerd", State: report.CheckNo, Found: "nobody listens"}},
		},
		Credentials: []report.CredentialCheck{
			{Source: "/c.json", Problem: "the credential helper docker-credential-x is not installed", Fix: "install it"},
			{Registry: "docker.io", Account: "ann\x1b[31m", Source: "/config.json"},
			{Registry: "ghcr.io/team", Source: "docker-credential-x (/config.json)"},
		},
		Registries: []report.RegistryCheck{
			{
				Registry: "ghcr.io/team/app", Repository: "ghcr.io/team/app", Left: []string{"ghcr.io/team/app:lighter-doctor@sha256:00\x1b]0;x\a"},
				Checks: []report.Check{
					{Name: "answers", State: report.CheckOK, Needed: true, Found: "registry/2.0"},
					{Name: "mixed index", State: report.CheckNo, Found: "it is refused: status 400 (MANIFEST_INVALID no\u202e\x1b[31m)"},
				},
			},
			{
				Registry: "127.0.0.1:1", Repository: "127.0.0.1:1/lighter-doctor", Left: []string{},
				Checks: []report.Check{
					{Name: "answers", State: report.CheckNo, Needed: true, Found: "connection refused", Fix: "is a registry running at 127.0.0.1:1?"},
					{Name: "login", State: report.CheckUnknown, Needed: true, Found: "not asked: it failed before"},
				},
			},
		},
	}
}

func TestCheckup(t *testing.T) {
	healthy := checkup()
	healthy.Registries, healthy.Credentials = []report.RegistryCheck{}, []report.CredentialCheck{}
	for name, c := range map[string]struct {
		out     term.Output
		checkup report.Checkup
	}{
		"checkup.golden":         {term.Output{OutWidth: 80}, checkup()},
		"checkup-color.golden":   {term.Output{OutWidth: 50, Color: true}, checkup()},
		"checkup.json.golden":    {term.Output{JSON: true}, checkup()},
		"checkup-healthy.golden": {term.Output{}, healthy},
	} {
		var out bytes.Buffer
		c.out.Out = &out
		if err := c.out.Checkup(c.checkup); err != nil {
			t.Fatal(err)
		}
		golden(t, name, out.String())
		if strings.ContainsAny(strings.ReplaceAll(out.String(), "\x1b[", ""), "\x1b\a\u202e") {
			t.Errorf("%s: a control character reached the terminal", name)
		}
	}
	if checkup().OK() || !healthy.OK() {
		t.Error("what works is not told from what does not")
	}
}
