package doctor_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// What becomes of an upload whose length is not said is told, with what lighter
// does about it, which is what a push of it has just done.
func TestStreamedUpload(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	const pieces = ": lighter sends layers in pieces of at most 8.39 MB, each with its length"
	refuse := func(status int, body string) registrytest.Fault {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPatch || r.ContentLength >= 0 {
				return false
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
			return true
		}
	}
	swallow := func(sized bool) registrytest.Fault {
		return func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPatch && (sized || r.ContentLength < 0) {
				_, _ = io.Copy(io.Discard, r.Body)
				r.Body, r.ContentLength = http.NoBody, 0
				r.Header.Del("Content-Range")
			}
			return false
		}
	}
	for name, tt := range map[string]struct {
		fault registrytest.Fault
		want  string
		ok    bool
	}{
		"taken":       {nil, "ok: a body of unknown length arrives: lighter sends layers in one request", true},
		"411":         {refuse(411, ""), "no: a body of unknown length is refused: status 411" + pieces, true},
		"413":         {refuse(413, "<html>"), "no: a body of unknown length is refused: status 413" + pieces, true},
		"501":         {refuse(501, ""), "no: a body of unknown length is refused: status 501" + pieces, true},
		"400":         {refuse(400, ""), "no: a body of unknown length is refused: status 400" + pieces, true},
		"dropped":     {swallow(false), "no: a body of unknown length is answered with 202, and does not arrive" + pieces, true},
		"all dropped": {swallow(true), "does not arrive, and lighter cannot push layers: the registry takes a PATCH, and has nothing of it → look at the proxy", false},
		"403":         {refuse(403, ""), "no: a body of unknown length is refused: status 403, and lighter cannot push layers: ", false},
		"cut":         {cut, "no: a body of unknown length breaks the connection, and lighter cannot push layers: ", false},
	} {
		t.Run(name, func(t *testing.T) {
			f := registrytest.NewFaulty(t, s)
			f.Set(tt.fault)
			r := probe(t, t.Context(), f.Addr, login(t, "", "", ""))
			if got := said(r, "streamed upload"); !strings.Contains(got, tt.want) {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
			if r.OK() != tt.ok || len(r.Left) > 0 {
				t.Errorf("ok %v, left %q", r.OK(), r.Left)
			}
		})
	}
}

func cut(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodPatch || r.ContentLength >= 0 {
		return false
	}
	registrytest.Reset(w)
	return true
}
