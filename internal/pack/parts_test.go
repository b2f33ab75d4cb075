package pack

import (
	"bytes"
	"compress/zlib"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lighter-oci/lighter/internal/layer"
)

func read(t *testing.T, files []layer.File, path string) string {
	t.Helper()
	for _, f := range files {
		if f.Path != path {
			continue
		}
		rc, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(rc)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	return ""
}

// Who runs it has a number, a name and a home, whatever was asked for.
func TestAccounts(t *testing.T) {
	for user, want := range map[string]string{
		"":          "65532:65532 nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin",
		"app":       "65532:65532 app:x:65532:65532:app:/home/app:/sbin/nologin",
		"1000":      "1000:1000 nonroot:x:1000:1000:nonroot:/home/nonroot:/sbin/nologin",
		"app:2000":  "65532:2000 app:x:65532:2000:app:/home/app:/sbin/nologin",
		"1000:2000": "1000:2000 nonroot:x:1000:2000:nonroot:/home/nonroot:/sbin/nologin",
		"app:staff": "65532:65532 app:x:65532:65532:app:/home/app:/sbin/nologin",
		"root":      "0:0 root:x:0:0:root:/root:/sbin/nologin",
		"0:5":       "0:5 root:x:0:0:root:/root:/sbin/nologin",
	} {
		files, err := foundation(user, nil)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(read(t, files, "/etc/passwd")), "\n")
		if got := accountOf(user).String() + " " + lines[len(lines)-1]; got != want {
			t.Errorf("%q: %s\nwant %s", user, got, want)
		}
	}
}

// The certificates are ones that this machine's own parser takes.
func TestRoots(t *testing.T) {
	rest, n := []byte(roots()), 0
	for ; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if c, err := x509.ParseCertificate(block.Bytes); err != nil || !c.IsCA {
			t.Errorf("certificate %d: %v", n, err)
		}
	}
	if n < 100 || len(rest) > 0 {
		t.Errorf("%d certificates, and %d bytes that are none", n, len(rest))
	}
}

// A remote becomes an address for everybody, without what logs in.
func TestSourceURL(t *testing.T) {
	for remote, want := range map[string]string{
		"git@github.com:acme/app.git":             "https://github.com/acme/app",
		"ssh://git@git.example.com:2222/acme/app": "https://git.example.com/acme/app",
		"https://user:token@example.com/a/b.git":  "https://example.com/a/b",
		"http://example.com:8080/a":               "http://example.com:8080/a",
		"/srv/git/app.git":                        "",
		"file:///srv/git/app.git":                 "",
		"../app":                                  "",
		"":                                        "",
	} {
		if got := sourceURL(remote); got != want {
			t.Errorf("%q: %q, want %q", remote, got, want)
		}
	}
}

// Origin is what git says, and says so where the work tree has changes.
func TestOrigin(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	if got := Origin(t.Context(), dir); len(got) > 0 {
		t.Errorf("outside of git: %v", got)
	}
	git := func(args ...string) string {
		out, err := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@example.com"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %s", args, out)
		}
		return strings.TrimSpace(string(out))
	}
	file := filepath.Join(dir, "file")
	change := func(content string) {
		if err := os.WriteFile(file, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	git("init", "-q")
	git("remote", "add", "origin", "git@example.com:a/b.git")
	change("one")
	git("add", "file")
	git("commit", "-qm", "one")
	git("tag", "v1.0.0")
	head := git("rev-parse", "HEAD")
	for _, dirty := range []string{"", "-dirty"} {
		got := fmt.Sprint(Origin(t.Context(), dir))
		if want := "map[org.opencontainers.image.revision:" + head + dirty + " org.opencontainers.image.source:https://example.com/a/b]"; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		change("two")
	}
}

// What cargo-auditable writes, and what is none of it.
func TestAuditable(t *testing.T) {
	write := func(text string) io.Reader {
		var b bytes.Buffer
		z := zlib.NewWriter(&b)
		if _, err := io.WriteString(z, text); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return &b
	}
	got, err := auditable(write(`{"packages":[{"name":"cc","version":"1.0.0","source":"crates.io","kind":"build"},
		{"name":"app","version":"0.1.0+x","source":"local","root":true},{"name":"serde","version":"1.0.2","source":"crates.io"}]}`))
	want := "[{app 0.1.0+x pkg:cargo/app@0.1.0%2Bx true} {serde 1.0.2 pkg:cargo/serde@1.0.2 false}]"
	if s := fmt.Sprint(got); err != nil || s != want {
		t.Errorf("%s, %v\nwant %s", s, err, want)
	}
	for name, r := range map[string]io.Reader{"no zlib": strings.NewReader("text"), "no JSON": write("text")} {
		if _, err := auditable(r); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// A directory comes along as it is, but for what a umask decides.
func TestCollect(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"a": 0o664, "sub/run": 0o775, "sub/secret": 0o600} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "sub", ".git"), 0o777); err != nil { // which has no place in an image
		t.Fatal(err)
	}
	for to, want := range map[string]string{
		"/etc/app/": "[/etc/app drwxr-xr-x  /etc/app/a -rw-r--r--  /etc/app/link Lrwxrwxrwx a /etc/app/sub drwxr-xr-x  /etc/app/sub/run -rwxr-xr-x  /etc/app/sub/secret -rw------- ]",
		"/":         "[/a -rw-r--r--  /link Lrwxrwxrwx a /sub drwxr-xr-x  /sub/run -rwxr-xr-x  /sub/secret -rw------- ]",
	} {
		files, err := collect(File{From: dir, To: to})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range files {
			got = append(got, f.Path+" "+f.Mode.String()+" "+f.Link)
		}
		if s := fmt.Sprint(got); s != want {
			t.Errorf("%s: %s\nwant %s", to, s, want)
		}
	}
	if _, err := collect(File{From: os.DevNull, To: "/x"}); err == nil || !strings.Contains(err.Error(), "is no file, directory or link") {
		t.Errorf("%v", err)
	}
	if _, err := collect(File{From: filepath.Join(dir, "nothing"), To: "/x"}); err == nil || !strings.Contains(err.Error(), "file for /x: ") {
		t.Errorf("%v", err)
	}
}
