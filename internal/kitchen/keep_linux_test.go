package kitchen

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/history"
)

// What the configuration says is kept is all that is kept: by the server, and by who
// builds without it.
func TestHistoryIsKeptAsConfigured(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kitchen.toml")
	write(t, path, "[history]\nmax-age = \"48h\"\n")
	config, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	var old []string
	s := kitchenFor(t, map[string]string{"shop": "log hello"}, func(o *Options) {
		o.Config = config
		for age := range 12 { // days; of the ten last of a project none is too old
			rec, err := o.History.Begin(history.Begun{Project: "shop", Verb: "build", Started: time.Now().AddDate(0, 0, age-20)})
			if err == nil {
				err = rec.End(t.Context(), history.Outcome{State: history.Done})
			}
			if err != nil {
				t.Fatal(err)
			}
			old = append(old, rec.ID())
		}
	})
	left := func(n int) {
		t.Helper()
		list, err := s.store.List(t.Context(), history.Filter{})
		for deadline := time.Now().Add(20 * time.Second); err == nil && len(list) != n && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			list, err = s.store.List(t.Context(), history.Filter{})
		}
		if err != nil || len(list) != n {
			t.Errorf("%d builds are left, not %d; %v", len(list), n, err)
		}
	}
	left(10)
	// Another process, which has no configuration.
	cmd := exec.CommandContext(t.Context(), os.Args[0], "build")
	cmd.Dir = s.places[0].dir
	cmd.Env = append(os.Environ(), IDVariable+"="+s.store.NewID(), HowVariable+"=cli")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	left(10)
	if _, err := s.store.Build(t.Context(), old[2]); err == nil {
		t.Error("the oldest is still there")
	}
	for text, want := range map[string]history.Limits{
		"":                                {Age: 48 * time.Hour, Bytes: history.DefaultMaxBytes}, // as it is
		"[history]\nmax-size = \"1KB\"\n": {Age: history.DefaultMaxAge, Bytes: 1000},
		"[history]\n":                     {Age: history.DefaultMaxAge, Bytes: history.DefaultMaxBytes},
	} {
		write(t, path, text)
		if s.opt.Config, err = LoadConfig(path); err != nil {
			t.Fatal(err)
		}
		if err := s.store.SetLimits(t.Context(), history.Limits{Age: 48 * time.Hour}); err != nil {
			t.Fatal(err)
		}
		if err := s.limit(); err != nil {
			t.Fatal(err)
		}
		if got, err := s.store.Limits(t.Context()); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"[history]\nmax-age = \"180 days\"\n": "kitchen.toml:2:11: ", "[history]\nmax-age = \"-1h\"\n": "want a duration such as 720h",
		"[history]\nmax-size = \"much\"\n": "kitchen.toml:2:12: ", "[history]\nmax-age = 30\n": "want a duration such as 720h", "[history]\nage = \"1h\"\n": "history.age",
	} {
		write(t, path, text)
		if _, err := LoadConfig(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
