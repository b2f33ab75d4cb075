package doctor

import "testing"

func TestReadsZstd(t *testing.T) {
	for name, want := range map[string]struct {
		version string
		reads   bool
	}{
		"docker 28.5.2 (unix:///var/run/docker.sock)":                   {"28.5.2", true},
		"docker 23.0.0-rc.1 (x)":                                        {"23.0.0-rc.1", true},
		"docker 20.10.24+dfsg1 (unix:///var/run/docker.sock)":           {"20.10.24+dfsg1", false},
		"docker dev (x)":                                                {"dev", false},
		"podman 4.3.1 (/var/lib/containers/storage)":                    {"4.3.1", true},
		"containerd v2.1.4 (unix:///run/x.sock, namespace default)":     {"2.1.4", true},
		"containerd 1.6.20~ds1 (unix:///run/x.sock, namespace default)": {"1.6.20~ds1", true},
		"containerd 1.4.13~ds1 (unix:///run/x.sock, namespace default)": {"1.4.13~ds1", false},
		"docker": {"", false},
	} {
		if version, reads := readsZstd(name); version != want.version || reads != want.reads {
			t.Errorf("%s: %s, %v", name, version, reads)
		}
	}
}
