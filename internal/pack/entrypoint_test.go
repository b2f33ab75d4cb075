package pack

import (
	"errors"
	"io"
	"testing"

	"github.com/lighter-oci/lighter/internal/layer"
)

// An entrypoint that is not there is found before anybody starts it.
func TestEntrypoint(t *testing.T) {
	files := []layer.File{{Path: "/opt/run"}, {Path: "/opt/link", Link: "../usr/local/bin/app"}, {Path: "/opt/loose", Link: "nothing"}}
	programs := []layer.File{{Path: "/usr/local/bin/app"}}
	for _, tt := range []struct {
		Spec
		there bool
	}{
		{Spec{}, true},
		{Spec{Entrypoint: []string{"/usr/local/bin/app", "serve"}}, true},
		{Spec{Entrypoint: []string{"app"}}, true},
		{Spec{Entrypoint: []string{"/opt/link"}}, true},
		{Spec{Entrypoint: []string{"./run"}, Workdir: "/opt"}, true},
		{Spec{Entrypoint: []string{"run"}, Env: map[string]string{"PATH": "/bin:/opt"}}, true},
		{Spec{Entrypoint: []string{"/bin/sh"}, Base: &Base{}}, true}, // for the base to have
		{Spec{Entrypoint: []string{"sh", "-c", "app"}}, false},
		{Spec{Entrypoint: []string{"/app"}}, false},
		{Spec{Entrypoint: []string{"/opt/loose"}}, false},
		{Spec{Entrypoint: []string{"./run"}}, false},
		{Spec{Entrypoint: []string{"run"}}, false},
	} {
		err := tt.starts(files, programs)
		var missing *entrypointError
		if (err == nil) != tt.there || err != nil && !errors.As(err, &missing) {
			t.Errorf("%v: %v", tt.Entrypoint, err)
		}
	}
}

// Files of a project replace what would be there anyway, and not each other.
func TestFilesOnce(t *testing.T) {
	dir := t.TempDir()
	own := File{From: dir, To: "/etc"}
	files, err := Spec{Files: []File{own, own, {From: "entrypoint.go", To: "/etc/passwd"}}}.files()
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, f := range files {
		count[f.Path]++
	}
	if count["/etc"] != 1 || count["/etc/passwd"] != 1 || count["/etc/group"] != 1 {
		t.Errorf("%v", count)
	}
	files, err = Spec{Files: []File{{From: "entrypoint.go", To: "/x"}, {From: "pack.go", To: "/x"}}}.files()
	if err != nil {
		t.Fatal(err)
	}
	if err := layer.WriteFiles(io.Discard, files, Spec{}.time(), true); err == nil {
		t.Error("one of two files was lost")
	}
}
