package kitchen

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/lighter-oci/lighter/internal/report"
)

//go:embed assets
var assetFiles embed.FS

// asset is a file of the pages, by a name that changes with its content.
type asset struct {
	name, kind string
	data, gz   []byte
}

type assets struct {
	byName map[string]asset  // "kitchen-0123abcd.css"
	urls   map[string]string // by "kitchen.css"
}

func readAssets() (assets, error) {
	a := assets{map[string]asset{}, map[string]string{}}
	err := fs.WalkDir(assetFiles, "assets", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := assetFiles.ReadFile(p)
		if err != nil {
			return err
		}
		ext := path.Ext(p)
		if ext == ".css" { // pictures and log lines have their style from where they are made
			data = append(append(data, report.PictureCSS...), report.LogCSS...)
		}
		kind := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}[ext]
		var gz bytes.Buffer
		z, _ := gzip.NewWriterLevel(&gz, gzip.BestCompression)
		_, _ = z.Write(data)
		if err := z.Close(); err != nil {
			return err
		}
		base := path.Base(p)
		name := fmt.Sprintf("%s-%.8x%s", strings.TrimSuffix(base, ext), sha256.Sum256(data), ext)
		a.byName[name] = asset{name, kind, data, gz.Bytes()}
		a.urls[base] = "/assets/" + name
		return nil
	})
	return a, err
}

func (a assets) url(name string) string { return a.urls[name] }

func (s *Server) asset(w http.ResponseWriter, r *http.Request) {
	a, ok := s.assets.byName[r.PathValue("name")]
	if !ok {
		s.refuse(w, r, http.StatusNotFound, "there is no such file", "reload the page: the server is another version than it")
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	data := a.data
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		data = a.gz
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}
