package registry_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// listed is what h has, one line each, what does not work first.
func (h *home) listed(t *testing.T) []string {
	t.Helper()
	found, wrong := h.credentials().List(t.Context())
	var lines []string
	for _, w := range wrong {
		lines = append(lines, w.Source+": "+w.Reason)
		if w.Hint() == "" {
			t.Errorf("%v: no next step", w)
		}
	}
	for _, c := range found {
		lines = append(lines, c.Host+": "+c.Account+" from "+c.Source)
		if c.Found() {
			t.Errorf("%v can be revealed", c)
		}
	}
	if s := fmt.Sprintf("%+v %+v", found, wrong); strings.Contains(s, "pa55word") {
		t.Errorf("a value is shown: %s", s)
	}
	for i := range lines {
		lines[i] = strings.ReplaceAll(lines[i], h.dir, "")
	}
	return lines
}

// Every place is looked into in the order of a lookup, helpers are asked for
// their lists only, and no value comes out.
func TestList(t *testing.T) {
	helper(t, "store", `test "$1" = list && echo '{"https://index.docker.io/v1/":"ann","https://index.docker.io/v1/access-token":"x","quay.io":"<token>"}'`)
	helper(t, "cloud", `test "$1" = list && echo '{"https://cloud.example":"bob"}'`)
	helper(t, "broken", "echo pa55word; exit 1")
	h := newHome(t)
	h.write(t, ".docker/config.json", `{"credsStore":"store","credHelpers":{"cloud.example":"cloud","bad.example":"broken","gone.example":"absent"},
		"auths":{"ghcr.io":{"auth":"YW5uOnBhNTV3b3Jk"},"cloud.example":{},"quay.io":{"auth":"YW5uOnBhNTV3b3Jk"}}}`)
	h.write(t, "run/containers/auth.json", `{"auths":{"ghcr.io/team":{"auth":"Y2FybDpwYTU1d29yZA=="},"ghcr.io":{"auth":"Y2FybDpwYTU1d29yZA=="},"t.example":{"identitytoken":"pa55word"}}}`)
	h.write(t, ".config/containers/auth.json", "{\n\"auths\": pa55word")
	h.env["XDG_RUNTIME_DIR"] = h.dir + "/run"
	docker := "/.docker/config.json"
	want := []string{
		docker + ": the credential helper docker-credential-broken does not list what it has: exit status 1",
		docker + ": the credential helper docker-credential-absent is not installed",
		"/.config/containers/auth.json:2: invalid character 'p' looking for beginning of value",
		"bad.example:  from docker-credential-broken (" + docker + ")",
		"cloud.example: bob from docker-credential-cloud (" + docker + ")",
		"docker.io: ann from docker-credential-store (" + docker + ")",
		"ghcr.io: ann from " + docker,
		"ghcr.io/team: carl from /run/containers/auth.json",
		"gone.example:  from docker-credential-absent (" + docker + ")",
		"quay.io:  from docker-credential-store (" + docker + ")",
		"t.example:  from /run/containers/auth.json",
	}
	if diff := cmp.Diff(want, h.listed(t)); diff != "" {
		t.Error(diff)
	}
}

// What is in the environment, and where podman is told to look, counts too.
func TestListElsewhere(t *testing.T) {
	h := newHome(t)
	h.env["DOCKER_AUTH_CONFIG"] = `{"auths":{"https://b.example/v2/":{"auth":"Ym9iOng="},"https://index.docker.io/v1":{"auth":"Ym9iOng="}}}`
	h.env["REGISTRY_AUTH_FILE"] = h.write(t, "mine.json", `{"auths":{"a.example":{"auth":"YW5uOng="}}}`)
	want := []string{"a.example: ann from /mine.json", "b.example: bob from $DOCKER_AUTH_CONFIG", "docker.io: bob from $DOCKER_AUTH_CONFIG"}
	if diff := cmp.Diff(want, h.listed(t)); diff != "" {
		t.Error(diff)
	}
}
