package project

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

func TestPlaces(t *testing.T) {
	got := Places([]byte("a = 1\n\n[t.u]\n  b = [1,\n 2]\n[[w]]\nx = 1\n[[w]]\n y.z = 1\ni = { j = 2 }\n"))
	want := map[string]string{
		"a": "1:1", "t": "3:2", "t.u": "3:4", "t.u.b": "4:3", "t.u.b[0]": "4:8", "t.u.b[1]": "5:2",
		"w": "6:3", "w[0]": "6:3", "w[0].x": "7:1", "w[1]": "8:3", "w[1].y": "9:2", "w[1].y.z": "9:4", "w[1].i": "10:1", "w[1].i.j": "10:7",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if got := Places([]byte("a = [")); len(got) > 0 {
		t.Errorf("of no TOML: %v", got)
	}
}

// A key that others find wrong is named where it stands.
func TestPlace(t *testing.T) {
	t.Chdir(t.TempDir())
	text := bom + "image = 'a'\n[toolchain]\n  incremental = true\n"
	if err := os.WriteFile(Name, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	p, err := Load(Name)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"toolchain.incremental": Name + ":3:3", "toolchain.flags": Name} {
		if got := p.Place(key); got != want {
			t.Errorf("%s is at %s, want %s", key, got, want)
		}
	}
	p.Path = filepath.Join(filepath.Dir(p.Path), "gone.toml")
	if got := p.Place("image"); got != "gone.toml" {
		t.Errorf("of a file that is gone: %s", got)
	}
}
