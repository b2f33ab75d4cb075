package project

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/lighter-oci/lighter/internal/image"
)

// InitOptions say what Init writes.
type InitOptions struct {
	GitHub bool   // a workflow, too
	Action string // version of the action in it, as "v0.1.0"
}

// Initialized is what Init did.
type Initialized struct {
	Kind    string   // what the directory looks like, as "Go module"; "" for nothing known
	Written []string // paths, from the working directory
	Kept    []string // that were there already
	Image   string   // its name in the file
	Build   bool     // there is a Dockerfile, which build needs
}

// Init writes a file for the project in dir, and a workflow where that is asked
// for. It replaces nothing; where all is there already, that is an error.
func Init(dir string, opt InitOptions) (Initialized, error) {
	if info, err := os.Stat(dir); err != nil {
		return Initialized{}, err
	} else if !info.IsDir() {
		return Initialized{}, fmt.Errorf("%s is no directory", dir)
	}
	f := look(dir)
	f.GitHub = opt.GitHub
	if p, err := Load(filepath.Join(dir, Name)); err == nil && p.Image != "" {
		f.Image = p.Image
	}
	done := Initialized{Kind: f.Kind, Image: f.Image, Build: f.Dockerfile}
	type draft struct {
		name, text string
		with       any
	}
	drafts := []draft{{Name, draftText, f}}
	if opt.GitHub {
		ref, err := image.ParseReference(f.Image)
		if err != nil {
			return done, err
		}
		drafts = append(drafts, draft{filepath.Join(".github", "workflows", "image.yml"), workflowText, map[string]any{"Action": opt.Action, "Host": ref.Host, "Packs": f.OnlyPacks()}})
	}
	for _, d := range drafts {
		path := filepath.Join(dir, d.name)
		text, err := fill(d.text, d.with)
		if err != nil {
			return done, err
		}
		switch err := create(path, text); {
		case os.IsExist(err):
			done.Kept = append(done.Kept, Shown(path))
		case err != nil:
			return done, err
		default:
			done.Written = append(done.Written, Shown(path))
		}
	}
	if len(done.Written) == 0 {
		return done, fmt.Errorf("%s is there already, and stays as it is: remove it for a new one", strings.Join(done.Kept, " and "))
	}
	return done, nil
}

//go:embed draft.toml.tmpl
var draftText string

//go:embed workflow.yml.tmpl
var workflowText string

// fill fills a template, whose marks leave TOML's brackets and GitHub's braces
// alone.
func fill(text string, with any) ([]byte, error) {
	t, err := template.New("").Delims("<%", "%>").Funcs(template.FuncMap{"q": quote, "list": list}).Parse(text)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, with)
	return b.Bytes(), err
}

// list is a TOML array of strings.
func list(of []string) string {
	var quoted []string
	for _, s := range of {
		quoted = append(quoted, quote(s))
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// quote is a TOML string: JSON's, but for one character.
func quote(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always is
	return strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), "\x7f", `\u007f`)
}

// create writes a file that is not there, whole or not at all.
func create(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := f.Close(); err != nil {
		os.Remove(path)
		return err
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}
