package doctor_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lighter-oci/lighter/internal/doctor"
	"github.com/lighter-oci/lighter/internal/report"
)

func program(t *testing.T, dir, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func states(checks []report.Check) map[string]report.Check {
	out := map[string]report.Check{}
	for _, c := range checks {
		out[c.Name] = c
	}
	return out
}

// A machine that has everything, and one that has nothing.
func TestMachine(t *testing.T) {
	state := t.TempDir()
	if err := os.Chmod(state, 0o700); err != nil {
		t.Fatal(err)
	}
	got := states(doctor.Machine(t.Context(), doctor.MachineOptions{State: state}))
	for name, part := range map[string]string{"system": "linux/", "runc": "runc)", "user namespaces": "", "overlayfs": "works in ", "engine": "not running; starts on demand in " + state} {
		if c := got[name]; c.State != report.CheckOK || !strings.Contains(c.Found, part) {
			t.Errorf("%s: %+v", name, c)
		}
	}
	if left, err := os.ReadDir(state); err != nil || len(left) > 0 {
		t.Errorf("left in the state: %v, %v", left, err)
	}

	t.Setenv("PATH", t.TempDir())
	if err := os.Chmod(state, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(state, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got = states(doctor.Machine(t.Context(), doctor.MachineOptions{State: state}))
	if c := got["runc"]; c.State != report.CheckNo || !strings.Contains(c.Fix, "apt install runc") {
		t.Errorf("%+v", c)
	}
	if c := got["engine"]; c.State != report.CheckNo || !strings.Contains(c.Fix, "chmod 700") {
		t.Errorf("%+v", c)
	}
	if c := got["overlayfs"]; c.State != report.CheckUnknown {
		t.Errorf("%+v", c)
	}
	got = states(doctor.Machine(t.Context(), doctor.MachineOptions{State: state, Engine: "tcp://x:1"}))
	if c := got["engine"]; c.State != report.CheckUnknown || !strings.Contains(c.Found, "tcp://x:1") {
		t.Errorf("%+v", c)
	}
	for _, c := range doctor.Compilers(t.Context()) {
		if c.State != report.CheckNo {
			t.Errorf("%+v", c)
		}
	}
}

// A podman that answers reads zstd; what does not answer says where it was
// looked for.
func TestDaemons(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	t.Setenv("DOCKER_HOST", "unix://"+dir+"/none.sock")
	t.Setenv("CONTAINERD_ADDRESS", dir+"/neither.sock")
	t.Setenv("CONTAINER_HOST", "")
	program(t, dir, "podman", `echo '{"host":{"os":"linux","arch":"amd64"},"store":{"graphRoot":"/s","graphDriverName":"overlay"},"version":{"Version":"5.8.0"}}'`)
	d := doctor.Daemons(t.Context())
	if len(d) != 3 || d[0].State != report.CheckNo || !strings.Contains(d[0].Found, "none.sock") || strings.Contains(d[0].Found, "does not answer") {
		t.Errorf("%+v", d)
	}
	if d[1].State != report.CheckOK || d[1].Version != "5.8.0" || !d[1].ReadsZstd {
		t.Errorf("%+v", d[1])
	}
	if d[2].State != report.CheckNo || !strings.Contains(d[2].Found, "neither.sock") {
		t.Errorf("%+v", d[2])
	}
}
