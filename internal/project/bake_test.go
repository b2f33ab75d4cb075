package project_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lighter-oci/lighter/internal/project"
)

// bake reads files given by name and text, with an environment.
func bake(t *testing.T, env map[string]string, files ...string) (project.Bake, error) {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	for i := 0; i < len(files); i += 2 {
		write(t, filepath.Join(dir, files[i]), files[i+1])
	}
	found := project.FindBake(".")
	if len(found) == 0 {
		t.Fatal("no bake file was found")
	}
	return project.LoadBake(found, func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	})
}

const bakeFile = `
variable "TAG" { default = "dev" }
variable "REPO" {
  default     = "${REGISTRY}/app"
  description = "where it goes"
}
variable "REGISTRY" { default = "registry.example.com" }
variable "DEBUG" { default = false }
variable "UNSET" {}
owner = "team-${TAG}"

function "tag" {
  params = [name]
  result = ["${REPO}-${name}:${TAG}"]
}

group "default" { targets = ["app"] }
group "all" { targets = ["app", "tools", "all"] }

target "_base" {
  context    = "src"
  dockerfile = "build/Dockerfile"
  args       = { A = "1", B = 2, C = null, U = UNSET }
  platforms  = ["linux/amd64"]
  secret     = ["id=a,env=A", { type = "file", id = "b", src = "x,y" }]
}

# What is inherited is added to or replaced.
target "app" {
  inherits  = ["_base"]
  tags      = concat(tag("x"), [for s in ["y"] : "${REPO}:${upper(s)}"])
  args      = { B = DEBUG ? "debug" : "release" }
  labels    = { owner = owner }
  platforms = ["linux/arm64", BAKE_CMD_CONTEXT == "" ? "" : "linux/amd64"]
  secret    = ["id=c"]
  no-cache  = DEBUG
  cache-from = [{ type = "registry", ref = "${REPO}:cache" }, "type=gha"]
}

target "tools" {
  name   = "tools-${sanitize(v.os)}-${n}"
  matrix = { v = [{ os = "a.b" }, { os = "c" }], n = [1, 2] }
  target = v.os
  args   = { N = n }
}
`

func TestBake(t *testing.T) {
	b, err := bake(t, map[string]string{"TAG": "1.2", "owner": "nobody"}, "docker-bake.hcl", bakeFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"_base", "app", "tools-a_b-1", "tools-a_b-2", "tools-c-1", "tools-c-2"}, b.Names()); diff != "" {
		t.Error(diff)
	}
	name, app, err := b.Target("")
	if err != nil || name != "app" {
		t.Fatal(name, err)
	}
	want := project.Target{
		"context": {"src"}, "dockerfile": {"build/Dockerfile"},
		"tags":       {"registry.example.com/app-x:1.2", "registry.example.com/app:Y"},
		"args":       {"A=1", "B=2", "U=", "B=release"}, // the last wins, as on a command line
		"labels":     {"owner=team-1.2"},
		"platforms":  {"linux/arm64", "linux/amd64"},
		"secret":     {"id=a,env=A", `id=b,"src=x,y",type=file`, "id=c"},
		"no-cache":   {"false"},
		"cache-from": {"ref=registry.example.com/app:cache,type=registry", "type=gha"},
	}
	if diff := cmp.Diff(want, app); diff != "" {
		t.Error(diff)
	}
	_, tool, err := b.Target("tools-a_b-2")
	if diff := cmp.Diff(project.Target{"target": {"a.b"}, "args": {"N=2"}}, tool); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// The environment decides in the kind of the default, and an override in what
// it names.
func TestBakeOverrides(t *testing.T) {
	b, err := bake(t, map[string]string{"DEBUG": "true"}, "docker-bake.hcl", bakeFile,
		"docker-bake.override.json", `{"variable": {"TAG": {"default": "over"}}, "target": {"app": {"tags": ["r/${TAG}:1"], "args": {"Z": "${TAG}"}}}}`)
	if err != nil {
		t.Fatal(err)
	}
	_, app, err := b.Target("app")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(project.Target{"tags": {"r/over:1"}, "args": {"A=1", "B=2", "U=", "B=debug", "Z=over"}, "no-cache": {"true"}},
		project.Target{"tags": app["tags"], "args": app["args"], "no-cache": app["no-cache"]}); diff != "" {
		t.Error(diff)
	}
}

func TestBakeErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"target \"a\" {\n", "docker-bake.hcl:1:12: Unclosed configuration block: "},
		{"targt \"a\" {}\n", "docker-bake.hcl:1:1: targt: no such block; did you mean target?"},
		{"x = \"${y}\"\n", "docker-bake.hcl:1:8: Unknown variable: "},
		{"x = uper(\"a\")\n", "docker-bake.hcl:1:5: Call to unknown function: There is no function named \"uper\". Did you mean \"upper\"?"},
		{"x = y\ny = x\n", "docker-bake.hcl:1:5: x needs itself"},
		{"variable \"N\" { default = 1 }\n", "docker-bake.hcl:1:26: the environment says N=\"many\": want number"},
		{"target \"a\" {\n  tag = [\"x\"]\n}\n", "docker-bake.hcl:2:3: target.a.tag: lighter takes no such attribute; did you mean tags?"},
		{"target \"a\" {\n  tags = \"x\"\n}\n", "docker-bake.hcl:2:10: tags: want an array, not string"},
		{"target \"a\" {\n  args = [1]\n}\n", "docker-bake.hcl:2:10: args: want a table, not tuple"},
		{"target \"a\" {\n  args = { X = [] }\n}\n", "docker-bake.hcl:2:10: args: X: want a string, not tuple"},
		{"target \"a\" {\n  context = {}\n}\n", "docker-bake.hcl:2:13: context: want a string, not object"},
		{"target \"a\" {\n  matrix = { x = [\"1\"] }\n}\n", "docker-bake.hcl:2:3: a matrix wants name = …, with its axes in it"},
		{"target \"a\" {\n  name = x\n  matrix = { x = [] }\n}\n", "docker-bake.hcl:3:3: x: want an array of values"},
		{"target \"a\" {\n  name = x\n  matrix = \"x\"\n}\n", "docker-bake.hcl:3:3: want matrix = { AXIS = [VALUE, …] }"},
		{"target \"a\" {\n  name = \"b\"\n  matrix = { x = range(20), y = range(20) }\n}\n", "docker-bake.hcl:3:3: over 256 combinations"},
		{"target \"a\" {\n  tags = [\"x\"]\n  sub {}\n}\n", "docker-bake.hcl:3:3: Unexpected \"sub\" block: "},
	} {
		_, err := bake(t, map[string]string{"N": "many"}, "docker-bake.hcl", tt.text)
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s\n%v, want\n%s", tt.text, err, tt.want)
		}
	}
}

func TestBakeTargetErrors(t *testing.T) {
	b, err := bake(t, nil, "docker-bake.json", `{
		"group": {"many": {"targets": ["a", "b"]}, "loop": {"targets": ["loop"]}, "gone": {"targets": ["nowhere"]}},
		"target": {"a": {}, "b": {}, "c": {"inherits": ["d"]}, "d": {"inherits": ["c"]}, "e": {"inherits": ["bb"]},
			"linked": {"contexts": {"base": "target:a"}}}}`)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"":       "docker-bake.json has no target default: pick one with --variant: a, b, c, d, e, linked",
		"many":   "docker-bake.json: the group many has several targets, and one build makes one: pick it with --variant: a, b",
		"loop":   `docker-bake.json has no target "loop"; `,
		"gone":   `docker-bake.json has no target "gone"; `,
		"linke":  `docker-bake.json has no target "linke"; did you mean linked?`,
		"c":      "docker-bake.json: c inherits from itself",
		"e":      `docker-bake.json: e inherits from "bb", which is no target; did you mean b?`,
		"linked": "docker-bake.json: the context base of linked is target:a: lighter builds one target at a time: make it a stage of the Dockerfile",
	} {
		if _, _, err := b.Target(name); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", name, err, want)
		}
	}
}

func FuzzBake(f *testing.F) {
	f.Add([]byte(bakeFile), false)
	f.Add([]byte(`{"target": {"a": {"tags": ["${upper("x")}"]}}}`), true)
	f.Fuzz(func(t *testing.T, data []byte, isJSON bool) {
		name := "docker-bake.hcl"
		if isJSON {
			name = "docker-bake.json"
		}
		path := filepath.Join(t.TempDir(), name)
		write(t, path, string(data))
		b, err := project.LoadBake([]string{path}, func(string) (string, bool) { return "", false })
		if err != nil {
			return
		}
		for _, name := range b.Names() {
			_, _, _ = b.Target(name) // ends, and does not panic
		}
	})
}
