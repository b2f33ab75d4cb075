package project_test

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/lighter-oci/lighter/internal/project"
)

var update = flag.Bool("update", false, "write the golden files anew")

const schemaFile = "../../docs/lighter.schema.json"

// The schema that is shipped is the one that the types have.
func TestSchemaIsCurrent(t *testing.T) {
	got, err := project.Schema()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(schemaFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is behind the types: run go test ./internal/project -update\n%s", schemaFile, diff)
	}
}

// What the parser takes the schema takes, and what has a wrong key, kind or
// shape both refuse: an editor says nothing that lighter does not.
func TestSchemaAndParserAgree(t *testing.T) {
	schema := compile(t)
	whole, err := os.ReadFile("testdata/whole.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		text  string
		takes bool
	}{
		{string(whole), true},
		{"", true},
		{"image = 'app'\ncache = 'auto'\ntoolchain = 'zig'\nchecks.a = 'b'", true},
		{"imag = 'app'", false},
		{"image = 1", false},
		{"platforms = 'linux/amd64'", false},
		{"platforms = ['linux/amd64', 'linux/amd64']", false},
		{"force-compression = 'yes'", false},
		{"cache = 1", false},
		{"cache = { layer = 'x' }", false},
		{"cache = { mounts = 'x', max-size = '1.5 TiB', max-age = '1h30m', when = 'success' }", true},
		{"cache = { mounts = 'x', max-size = '10XB' }", false},
		{"cache = { mounts = 'x', max-size = 10 }", false},
		{"cache = { mounts = 'x', max-age = '-1h' }", false},
		{"cache = { mounts = 'x', when = 'never' }", false},
		{"toolchain = 'cargp'", false},
		{"toolchain = { use = 'make' }", false},
		{"toolchain = { use = 'rust', incremental = true }", true},
		{"toolchain = { incremental = 'yes' }", false},
		{"files = [{ from = 'a' }]", false},
		{"files = [{ from = 'a', to = 'b' }]", false},
		{"files = [{ from = 'a', to = '/b', mode = '9' }]", false},
		{"expose = [8080, '53/udp']", true},
		{"expose = ['53/udq']", false},
		{"user = 0", true},
		{"user = 'a b'", false},
		{"checks.a = []", false},
		{"secrets.a = 'x'", false},
		{"contexts = { base = 'oci-layout://../base:v1', b = 'docker-image://alpine:3', c = '../dir', d = 'https://example.com/x.git' }", true},
		{"contexts = 'base=x'", false},
		{"contexts.base = ['x']", false},
		{"contexts.base = ''", false},
		{"variants.a = { contexts = { base = 1 } }", false},
		{"args.A = 1", false},
		{"variants.a = { tags = ['x y'] }", false},
		{"variants.a = { target = '' }", false},
	} {
		_, parsed := project.Parse("f", []byte(tt.text))
		var doc map[string]any
		if err := toml.Unmarshal([]byte(tt.text), &doc); err != nil {
			t.Fatal(err)
		}
		if doc == nil {
			doc = map[string]any{}
		}
		valid := schema.Validate(doc)
		if (parsed == nil) != tt.takes || (valid == nil) != tt.takes {
			t.Errorf("%s\nparser: %v\nschema: %v\nwant both to take it: %v", tt.text, parsed, valid, tt.takes)
		}
	}
}

func compile(t *testing.T) *jsonschema.Schema {
	t.Helper()
	raw, err := project.Schema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), project.SchemaURL) {
		t.Fatal("the schema does not say where it is")
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	if err := c.AddResource(project.SchemaURL, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(project.SchemaURL)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What the README shows is what lighter reads.
func TestReadmeParses(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(readme), "```toml\n")
	text, _, found := strings.Cut(after, "```")
	if !found {
		t.Fatal("the README shows no lighter.toml")
	}
	if p := parse(t, text); len(p.Variants) != 5 {
		t.Errorf("%d variants, and the README says four and one", len(p.Variants))
	}
}
