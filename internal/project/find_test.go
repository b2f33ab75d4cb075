package project_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lighter-oci/lighter/internal/project"
)

// Files of an image come from the project or from the git work tree that it is in:
// what lies elsewhere is another on the next machine.
func TestFilesFromOutside(t *testing.T) {
	root := t.TempDir()
	t.Setenv("HOME", filepath.Join(root, "home"))
	for _, dir := range []string{"home/ann/mono/.git", "home/ann/mono/app", "home/ann/mono/shared", "home/ann/alone"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc", filepath.Join(root, "home/ann/alone/link")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ in, from, want string }{
		{"mono/app", "conf", ""},
		{"mono/app", "./a/../conf", ""},
		{"mono/app", "../shared/ca.pem", ""},
		{"mono/app", "..", ""},
		{"mono/app", "..conf", ""},
		{"mono/app", filepath.Join(root, "home/ann/mono/shared"), ""},
		{"mono/app", "../../alone", "git work tree: copy"},
		{"mono/app", "x/../../../alone", "git work tree: copy"},
		{"mono/app", "/etc/hosts", ""}, // this machine's, by its full name
		{"mono/app", "~/.ssh/id", "git work tree: copy"},
		{"alone", "link/hosts", ""}, // whoever made it wants it
		{"alone", "../mono/app", "which is in no git work tree: copy"},
		{"alone", "../alonely", "which is in no git work tree: copy"},
	} {
		path := filepath.Join(root, "home/ann", tt.in, "lighter.toml")
		write(t, path, fmt.Sprintf("\xef\xbb\xbfimage = 'x/y'\nfiles = [{ from = 'a', to = '/a' }, { to = '/b', from = %q }]\n", tt.from))
		_, err := project.Load(path)
		switch {
		case tt.want == "" && err != nil, tt.want != "" && err == nil:
			t.Errorf("%s from %s: %v", tt.from, tt.in, err)
		case err != nil && (!strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), ":2:50: files[1].from: ")):
			t.Errorf("%s from %s: %v", tt.from, tt.in, err)
		}
	}
}
