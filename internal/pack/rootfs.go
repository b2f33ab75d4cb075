package pack

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/lighter-oci/lighter/internal/layer"
)

// nonroot is who runs what is packed: the number that distroless images and ko
// have for nobody in particular.
const nonroot = 65532

// binDir is where binaries go: in every base's search path, and never a link.
const binDir = "/usr/local/bin"

// certificates is where programs look for them; Go, OpenSSL and Rust's crates
// all know Debian's place.
const certificates = "/etc/ssl/certs/ca-certificates.crt"

// File goes from this machine into the image.
type File struct {
	From string       // a file, a directory or a link
	To   string       // absolute; with / at its end the directory
	Mode *fs.FileMode // of files; nil is their own
	UID  int
	GID  int
}

// account is the user of an image on scratch, where nobody else makes one.
type account struct {
	name, group string
	uid, gid    int
}

// accountOf reads NAME|UID[:GROUP|GID]. Whoever has no number gets nonroot's.
func accountOf(user string) account {
	name, group, hasGroup := strings.Cut(user, ":")
	a := account{"nonroot", "", nonroot, nonroot}
	if uid, err := strconv.Atoi(name); err == nil {
		a.uid, a.gid = uid, uid
	} else if name != "" {
		a.name = name
	}
	a.group = a.name
	switch gid, err := strconv.Atoi(group); {
	case hasGroup && err == nil:
		a.gid = gid
	case group == "root":
		a.gid = 0
	case group != "":
		a.group = group
	}
	if a.name == "root" || a.uid == 0 {
		a.name, a.uid = "root", 0
		if !hasGroup {
			a.gid = 0
		}
	}
	return a
}

// String is what a config names the user by: Kubernetes holds only numbers
// against runAsNonRoot.
func (a account) String() string { return fmt.Sprintf("%d:%d", a.uid, a.gid) }

// text is a small file.
func text(name, content string) layer.File {
	return layer.File{Path: name, Mode: 0o644, Size: int64(len(content)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(content)), nil
	}}
}

// foundation is what an image on scratch has besides the project's own files.
func foundation(user string, include []string) ([]layer.File, error) {
	a := accountOf(user)
	passwd, group := "root:x:0:0:root:/root:/sbin/nologin\n", "root:x:0:\n"
	var files []layer.File
	if a.uid != 0 {
		home := "/home/" + a.name
		passwd += fmt.Sprintf("%s:x:%d:%d:%s:%s:/sbin/nologin\n", a.name, a.uid, a.gid, a.name, home)
		files = append(files, layer.File{Path: home, Mode: fs.ModeDir | 0o700, UID: a.uid, GID: a.gid})
	}
	if a.gid != 0 {
		group += fmt.Sprintf("%s:x:%d:\n", a.group, a.gid)
	}
	files = append(files, text("/etc/passwd", passwd), text("/etc/group", group))
	for _, what := range include {
		switch what {
		case "certificates":
			files = append(files, text(certificates, roots()))
		case "tmp":
			files = append(files, layer.File{Path: "/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777})
		case "tzdata":
			zones, err := timeZones()
			if err != nil {
				return nil, err
			}
			files = append(files, zones...)
		}
	}
	return files, nil
}

// roots are Mozilla's certificates, as this binary was built with them: the same
// on every machine, where those of the system would differ. Like the bundles of
// distributions it cannot say what some of them are limited to.
func roots() string {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // to memory
	}
	return out.String()
}

// zoneDirs is where systems keep time zones: Linux, macOS.
var zoneDirs = []string{"/usr/share/zoneinfo", "/var/db/timezone/zoneinfo"}

// timeZones are this machine's.
func timeZones() ([]layer.File, error) {
	i := slices.IndexFunc(zoneDirs, func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, "UTC"))
		return err == nil
	})
	if i < 0 {
		return nil, errors.New(`include = ["tzdata"]: there are no time zones on this machine: install tzdata`)
	}
	files, err := collect(File{From: zoneDirs[i], To: "/usr/share/zoneinfo"})
	return slices.DeleteFunc(files, func(f layer.File) bool {
		for _, twin := range []string{"/usr/share/zoneinfo/right", "/usr/share/zoneinfo/posix"} { // the same again
			if f.Path == twin || strings.HasPrefix(f.Path, twin+"/") {
				return true
			}
		}
		return strings.HasPrefix(f.Link, "/") // localtime, out of the image
	}), err
}

// collect are the entries that a File stands for.
func collect(f File) ([]layer.File, error) {
	to := f.To
	if strings.HasSuffix(to, "/") {
		if info, err := os.Stat(f.From); err == nil && !info.IsDir() {
			to += filepath.Base(f.From)
		}
	}
	from, err := filepath.EvalSymlinks(f.From)
	if err != nil {
		return nil, fmt.Errorf("file for %s: %w", f.To, err)
	}
	var out []layer.File
	err = filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		if d.Name() == ".git" && rel != "." { // whose configuration may log in
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		at := path.Join("/", to, filepath.ToSlash(rel))
		if at == "/" {
			return nil
		}
		entry, err := f.entry(name, at, d)
		if err == nil && entry != nil {
			out = append(out, *entry)
		}
		return err
	})
	return out, err
}

// entry is one file, directory or link; nil is what no image has.
func (f File) entry(name, at string, d fs.DirEntry) (*layer.File, error) {
	info, err := d.Info()
	if err != nil {
		return nil, err
	}
	// What others may write depends on the umask of whoever checked it out.
	e := layer.File{Path: at, Mode: info.Mode() &^ 0o022, UID: f.UID, GID: f.GID}
	switch {
	case d.IsDir():
		e.Mode = fs.ModeDir | 0o755
	case d.Type()&fs.ModeSymlink != 0:
		if e.Link, err = os.Readlink(name); err != nil {
			return nil, err
		}
		e.Mode = fs.ModeSymlink | 0o777
	case d.Type().IsRegular():
		if f.Mode != nil {
			e.Mode = *f.Mode
		}
		e.Size = info.Size()
		e.Open = func() (io.ReadCloser, error) { return os.Open(name) }
	case name == f.From: // of a directory they are left out
		return nil, fmt.Errorf("file for %s: %s is no file, directory or link", f.To, f.From)
	default:
		return nil, nil
	}
	return &e, nil
}
