package buildkit

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// serveGit serves a bare repository over the dumb HTTP protocol.
func serveGit(t *testing.T, dir string) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Symlink(dir, filepath.Join(root, "repo.git")); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.FileServer(http.Dir(root))}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return "http://" + l.Addr().String() + "/repo.git"
}
