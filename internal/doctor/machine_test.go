package doctor_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lighter-oci/lighter/internal/doctor"
	"github.com/lighter-oci/lighter/internal/report"
)

func program(t *testing.T, dir, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// Every place is looked into in the order of a push, helpers are asked for
// their lists only, and no value comes out.
func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	program(t, dir, "docker-credential-store", `test "$1" = list && echo '{"https://index.docker.io/v1/":"ann","https://index.docker.io/v1/access-token":"x","quay.io":"<token>"}'`)
	program(t, dir, "docker-credential-cloud", `test "$1" = list && echo '{"https://cloud.example":"bob"}'`)
	program(t, dir, "docker-credential-broken", "echo pa55word; exit 1")
	write := func(name, content string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("docker/config.json", `{"credsStore":"store","credHelpers":{"cloud.example":"cloud","bad.example":"broken","gone.example":"absent"},
		"auths":{"ghcr.io":{"auth":"YW5uOnBhNTV3b3Jk"},"cloud.example":{},"quay.io":{"auth":"YW5uOnBhNTV3b3Jk"}}}`)
	write("run/containers/auth.json", `{"auths":{"ghcr.io/team":{"auth":"Y2FybDpwYTU1d29yZA=="},"ghcr.io":{"auth":"Y2FybDpwYTU1d29yZA=="},"t.example":{"identitytoken":"pa55word"}}}`)
	write("config/containers/auth.json", `{"auths": pa55word`)
	env := map[string]string{"DOCKER_CONFIG": dir + "/docker", "XDG_RUNTIME_DIR": dir + "/run", "XDG_CONFIG_HOME": dir + "/config", "HOME": dir}
	found := doctor.Credentials(t.Context(), func(key string) string { return env[key] })
	var got []string
	for _, c := range found {
		got = append(got, strings.ReplaceAll(strings.TrimSpace(fmt.Sprintf("%s %s %s %s", c.Registry, c.Account, c.Source, c.Problem)), dir, ""))
	}
	docker := "/docker/config.json"
	want := []string{
		docker + " the credential helper docker-credential-absent is not installed",
		docker + " the credential helper docker-credential-broken does not list what it has: exit status 1",
		"/config/containers/auth.json it is no Docker configuration",
		"bad.example  docker-credential-broken (" + docker + ")",
		"cloud.example bob docker-credential-cloud (" + docker + ")",
		"docker.io ann docker-credential-store (" + docker + ")",
		"ghcr.io ann " + docker,
		"ghcr.io/team carl /run/containers/auth.json",
		"gone.example  docker-credential-absent (" + docker + ")",
		"quay.io  docker-credential-store (" + docker + ")",
		"t.example  /run/containers/auth.json",
	}
	for i := range got {
		got[i] = strings.TrimLeft(got[i], " ")
	}
	if diff := cmp.Diff(want, sorted(got)); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(fmt.Sprintf("%+v", found), "pa55word") {
		t.Errorf("a value is shown: %+v", found)
	}
}

// sorted puts the two helpers that fail, which a map orders, into one order.
func sorted(list []string) []string {
	if len(list) > 1 && list[0] > list[1] {
		list[0], list[1] = list[1], list[0]
	}
	return list
}

// What is in the environment, and where podman is told to look, counts too.
func TestCredentialsElsewhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mine.json")
	if err := os.WriteFile(file, []byte(`{"auths":{"a.example":{"auth":"YW5uOng="}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"DOCKER_AUTH_CONFIG": `{"auths":{"https://b.example/v2/":{"auth":"Ym9iOng="}}}`, "REGISTRY_AUTH_FILE": file, "HOME": "/nowhere"}
	got := doctor.Credentials(t.Context(), func(key string) string { return env[key] })
	want := []report.CredentialCheck{
		{Registry: "a.example", Account: "ann", Source: file},
		{Registry: "b.example", Account: "bob", Source: "$DOCKER_AUTH_CONFIG"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := doctor.Credentials(t.Context(), func(string) string { return "/nowhere" }); len(got) > 1 {
		t.Errorf("%+v", got)
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
