package doctor

import (
	"context"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/lighter-oci/lighter/internal/image/daemon"
	"github.com/lighter-oci/lighter/internal/report"
)

// Daemons asks Docker, podman and containerd whether they answer, where their
// own clients would look for them.
func Daemons(ctx context.Context) []report.Daemon {
	found := []report.Daemon{{Check: report.Check{Name: "docker"}}, {Check: report.Check{Name: "podman"}}, {Check: report.Check{Name: "containerd"}}}
	var g errgroup.Group
	for i := range found {
		g.Go(func() error {
			d := &found[i]
			t, err := daemon.Detect(ctx, d.Name, daemon.Options{})
			if err != nil {
				d.State, d.Found = report.CheckNo, silent(strings.TrimPrefix(err.Error(), d.Name+" does not answer: "))
				return nil
			}
			d.State = report.CheckOK
			d.Found = t.Name()
			d.Version, d.ReadsZstd = readsZstd(t.Name())
			return nil
		})
	}
	_ = g.Wait() // nothing in there fails
	return found
}

// silent is why a daemon does not answer, with its socket once.
func silent(why string) string {
	socket, _, _ := strings.Cut(strings.TrimPrefix(why, "unix://"), ": ")
	if why != socket && (strings.HasSuffix(why, "no such file or directory") || strings.HasSuffix(why, "connection refused")) && !strings.Contains(why, "; ") {
		return "not running (" + socket + ")"
	}
	return why
}

// readsZstd takes "docker 28.5.2 (unix:///var/run/docker.sock)" apart. zstd
// layers are read by Docker since 23, by containerd since 1.5, and by every
// podman that lighter speaks to.
func readsZstd(name string) (version string, reads bool) {
	words := strings.Fields(name)
	if len(words) < 2 {
		return "", false
	}
	version = strings.TrimPrefix(words[1], "v")
	parts := strings.SplitN(version, ".", 3)
	major, _ := strconv.Atoi(parts[0]) // what is no number is an old version
	minor := 0
	if len(parts) > 1 {
		minor, _ = strconv.Atoi(parts[1])
	}
	switch words[0] {
	case "docker":
		return version, major >= 23
	case "containerd":
		return version, major > 1 || major == 1 && minor >= 5
	}
	return version, words[0] == "podman"
}
