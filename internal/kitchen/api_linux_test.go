package kitchen

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/lighter-oci/lighter/internal/history"
)

// description is openapi.json with what it says of each answer.
type description struct {
	t        *testing.T
	compiler *jsonschema.Compiler
	paths    map[string]map[string]struct {
		Responses map[string]any
	}
}

func described(t *testing.T) *description {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(openAPI))
	if err != nil {
		t.Fatal(err)
	}
	d := &description{t: t, compiler: jsonschema.NewCompiler()}
	if err := d.compiler.AddResource("openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	var raw struct {
		Paths json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(openAPI, &raw); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw.Paths, &d.paths); err != nil {
		t.Fatal(err)
	}
	return d
}

// holds tells what an answer has that the description does not, or the other way.
func (d *description) holds(path, method string, code int, body string) {
	d.t.Helper()
	at := fmt.Sprintf("openapi.json#/paths/%s/%s/responses/%d/content/application~1json/schema", strings.ReplaceAll(path, "/", "~1"), method, code)
	schema, err := d.compiler.Compile(strings.ReplaceAll(strings.ReplaceAll(at, "{", "%7B"), "}", "%7D"))
	if err != nil {
		d.t.Errorf("%s %s answers %d, which is not described: %v", method, path, code, err)
		return
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
	if err == nil {
		err = schema.Validate(v)
	}
	if err != nil {
		d.t.Errorf("%s %s, %d: %v\n%.500s", method, path, code, err, body)
	}
}

// Every address for programs is described, and there is nothing else in the
// description.
func TestOpenAPIHasAllRoutes(t *testing.T) {
	d := described(t)
	s := kitchenFor(t, nil, nil)
	want := []string{"GET /api/openapi.json", "GET /metrics", "GET /api/v1/builds/{id}/log", "GET /api/v1/builds/{id}/events"}
	want = append(want, slices.Collect(maps.Keys(s.answers()))...)
	var got []string
	for path, methods := range d.paths {
		for method := range methods {
			got = append(got, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("described:\n%s\nserved:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestOpenAPIHoldsAgainstAnswers(t *testing.T) {
	d := described(t)
	s := kitchenFor(t, map[string]string{"web": "log hello\nlog error: no", "bad": "fail it broke"}, nil)
	id := begin(t, s, `{"project":"web","verb":"build"}`)[0]
	await(t, s, id, history.Done)
	bad := begin(t, s, `{"project":"bad","verb":"build"}`)[0]
	await(t, s, bad, history.Failed)
	for _, tt := range []struct {
		method, path, at, body string
		code                   int
	}{
		{"get", "/api/v1/projects", "/api/v1/projects", "", 200},
		{"get", "/api/v1/projects/{project}", "/api/v1/projects/web", "", 200},
		{"get", "/api/v1/projects/{project}", "/api/v1/projects/nope", "", 404},
		{"get", "/api/v1/projects/{project}/plan", "/api/v1/projects/web/plan", "", 422},
		{"get", "/api/v1/builds", "/api/v1/builds?state=done&state=failed&q=web", "", 200},
		{"get", "/api/v1/builds", "/api/v1/builds?project=nope", "", 200},
		{"post", "/api/v1/builds", "/api/v1/builds", `{"project":"web","verb":"build"}`, 202},
		{"post", "/api/v1/builds", "/api/v1/builds", `{"project":"web","verb":"x"}`, 422},
		{"post", "/api/v1/builds", "/api/v1/builds", `x`, 400},
		{"get", "/api/v1/builds/{id}", "/api/v1/builds/" + id, "", 200},
		{"get", "/api/v1/builds/{id}", "/api/v1/builds/" + bad, "", 200},
		{"get", "/api/v1/builds/{id}", "/api/v1/builds/nope", "", 404},
		{"get", "/api/v1/builds/{id}/report", "/api/v1/builds/" + id + "/report", "", 200},
		{"post", "/api/v1/builds/{id}/stop", "/api/v1/builds/" + id + "/stop", "", 202},
		{"get", "/api/v1/queue", "/api/v1/queue", "", 200},
		{"get", "/api/v1/compare", "/api/v1/compare?a=" + id + "&b=" + bad, "", 200},
		{"get", "/api/v1/compare", "/api/v1/compare?a=" + id + "&b=nope", "", 404},
	} {
		code, text := request(t, s, strings.ToUpper(tt.method), tt.at, tt.body, "Content-Type", "application/json")
		if code != tt.code {
			t.Errorf("%s %s: %d, want %d: %.300s", tt.method, tt.at, code, tt.code, text)
			continue
		}
		d.holds(tt.path, tt.method, code, text)
		if code >= 400 && strings.Contains(text, `"next":""`) {
			t.Errorf("%s %s says no next step: %s", tt.method, tt.at, text)
		}
	}
	if code, text := request(t, s, "POST", "/api/v1/builds", `{}`); code != 415 || strings.Contains(text, `"next":""`) {
		t.Errorf("%d %s", code, text)
	}
	await(t, s, id, history.Done)
}

func TestAPIEvents(t *testing.T) {
	s := kitchenFor(t, map[string]string{"web": "log one\nlog two"}, nil)
	id := begin(t, s, `{"project":"web","verb":"build"}`)[0]
	await(t, s, id, history.Done)
	read := func(header ...string) (ids []string, over bool) {
		messages(answer(t, s, "GET", "/api/v1/builds/"+id+"/events", "", header...), func(m message) bool {
			if over = m.event == "over"; !over {
				ids = append(ids, m.id)
			}
			return !over
		})
		return ids, over
	}
	if ids, over := read(); fmt.Sprint(ids) != "[1 2 3 4]" || !over {
		t.Errorf("all: %v %v", ids, over)
	}
	if ids, over := read("Last-Event-ID", "2"); fmt.Sprint(ids) != "[3 4]" || !over {
		t.Errorf("after 2: %v %v", ids, over)
	}
}

func TestMetrics(t *testing.T) {
	s := kitchenFor(t, map[string]string{"web": "log x", "bad": "fail no"}, nil)
	await(t, s, begin(t, s, `{"project":"web","verb":"build"}`)[0], history.Done)
	await(t, s, begin(t, s, `{"project":"bad","verb":"build"}`)[0], history.Failed)
	want := []string{
		`lighter_builds_total{project="bad",verb="build",state="failed"} 1`,
		`lighter_builds_total{project="web",verb="build",state="done"} 1`,
		`lighter_build_seconds_bucket{project="web",le="+Inf"} 1`,
		`lighter_kitchen_builds_running 0`,
		`lighter_steps_total{project="web"} 1`,
	}
	var text string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		_, text = request(t, s, "GET", "/metrics", "")
		if !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(text, w+"\n") }) {
			return
		}
	}
	t.Errorf("want %s\ngot\n%s", strings.Join(want, "\n"), text)
}

// A webhook is told, signed, and told again where it was not there.
func TestWebhooks(t *testing.T) {
	got := make(chan *http.Request, 9)
	bodies := make(chan []byte, 9)
	tries := 0
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tries++; tries == 1 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		body, _ := io.ReadAll(r.Body)
		got <- r
		bodies <- body
	}))
	defer target.Close()
	secret := []byte("0123456789abcdef")
	s := kitchenFor(t, map[string]string{"web": "log x", "bad": "fail no"}, func(o *Options) {
		o.Config.Webhooks = []Webhook{{URL: target.URL + "/secret-path", States: []string{"failed"}, secret: secret}}
	})
	s.hooks.first = 10 * time.Millisecond
	await(t, s, begin(t, s, `{"project":"web","verb":"build"}`)[0], history.Done)
	id := begin(t, s, `{"project":"bad","verb":"build"}`)[0]
	await(t, s, id, history.Failed)
	r, body := <-got, <-bodies
	var said Hooked
	if err := json.Unmarshal(body, &said); err != nil || said.Build.ID != id || said.Build.Error != "no" || said.URL != s.URL()+"b/"+id {
		t.Errorf("%s: %v", body, err)
	}
	sign := r.Header.Get("Lighter-Signature")
	var at int64
	if _, err := fmt.Sscanf(sign, "t=%d,", &at); err != nil || Sign(secret, time.Unix(at, 0), body) != sign || Sign([]byte("another"), time.Unix(at, 0), body) == sign {
		t.Errorf("signature %q", sign)
	}
	if tries != 2 {
		t.Errorf("%d tries", tries)
	}
}
