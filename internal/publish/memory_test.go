package publish

import (
	"errors"
	"os"
	"testing"
)

// What was remembered last counts, also when a line is cut short.
func TestRemembers(t *testing.T) {
	dir := t.TempDir()
	m, other := NewMemory(dir, "/a/lighter.toml"), NewMemory(dir, "/b/lighter.toml")
	unlock, err := m.Lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewMemory(dir, "/a/lighter.toml").Lock(); !errors.As(err, new(BusyError)) {
		t.Errorf("two at a time: %v", err)
	}
	if also, err := other.Lock(); err != nil {
		t.Errorf("another project waits: %v", err)
	} else {
		also()
	}
	want := func(p Pending) {
		t.Helper()
		if got, err := m.Read(); err != nil || got != p {
			t.Errorf("%+v, %v; want %+v", got, err, p)
		}
		if got, err := other.Read(); err != nil || got != (Pending{}) {
			t.Errorf("the other: %+v, %v", got, err)
		}
	}
	want(Pending{})
	first, second := Pending{Was: "1", Version: "2"}, Pending{Was: "1", Version: "2", Tagging: true}
	for _, p := range []Pending{first, second} {
		if err := m.Write(p); err != nil {
			t.Fatal(err)
		}
		want(p)
	}
	info, err := os.Stat(m.file)
	if err != nil {
		t.Fatal(err)
	}
	for cut := info.Size() - 2; cut > 40; cut -= 7 {
		if err := os.Truncate(m.file, cut); err != nil {
			t.Fatal(err)
		}
		want(first)
	}
	if err := m.Write(second); err != nil { // behind half a line
		t.Fatal(err)
	}
	want(second)
	if err := m.Forget(); err != nil {
		t.Fatal(err)
	}
	want(Pending{})
	unlock()
	if unlock, err = m.Lock(); err != nil {
		t.Error(err)
	} else {
		unlock()
	}
}
