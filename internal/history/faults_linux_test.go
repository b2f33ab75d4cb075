package history

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lighter-oci/lighter/internal/event"
)

// A disk that fills up under a build costs its record, or a part of that, and one
// error; what was recorded before is whole, and with room again everything works.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("lighter-test", dir, "tmpfs", 0, "size=2m,mode=700"); err != nil {
		t.Fatalf("mount a small disk: %v; run the tests as root", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s, said := opened(t, Options{Dir: filepath.Join(dir, "history")})
	first := record(t, s, Begun{Project: "first"}, Outcome{State: Done}, small()...)

	r, err := s.Begin(Begun{Project: "large"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 { // 6 MB
		r.Add(event.Event{Log: &event.Log{Step: "s", Data: []byte(strings.Repeat(string(rune('a'+i%26)), 30<<10) + "\n")}})
	}
	if err := r.End(t.Context(), Outcome{State: Failed, Error: "its own"}); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("said %v", err)
	}
	if _, err := s.Begin(Begun{Project: "none"}); err != nil && !strings.Contains(err.Error(), "no space left") {
		t.Error(err)
	}
	if got := follow(t, s, first, 0); len(got) != len(small()) {
		t.Errorf("what was there has %d events", len(got))
	}
	if b, err := s.Build(t.Context(), r.ID()); err != nil || !b.State.Over() {
		t.Errorf("while the disk is full, %+v, %v", b, err)
	}
	if list, err := s.List(t.Context(), Filter{States: []State{Running}}); err != nil || len(list) > 0 {
		t.Errorf("while the disk is full, these run: %+v, %v", list, err)
	}
	if got := follow(t, s, r.ID(), 0); len(got) == 0 {
		t.Error("while the disk is full, nothing of it can be read")
	}
	room := filepath.Join(dir, "history", "running", r.ID()+journalExt)
	if info, err := os.Stat(room); err == nil && info.Size() < 1<<20 {
		t.Errorf("the journal that stayed has %d bytes", info.Size())
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=40m"); err != nil {
		t.Fatal(err)
	}
	b, err := s.Build(t.Context(), r.ID())
	if err != nil || !b.State.Over() || b.Log < 1<<20 {
		t.Errorf("%+v, %v", b, err)
	}
	for i, e := range follow(t, s, r.ID(), 0) {
		if e.Seq != uint64(i)+1 || len(e.Log.Data) != 30<<10+1 {
			t.Fatalf("event %d: number %d, %d bytes", i, e.Seq, len(e.Log.Data))
		}
	}
	again := record(t, s, Begun{Project: "again"}, Outcome{State: Done}, small()...)
	if list, err := s.List(t.Context(), Filter{States: []State{Done}}); err != nil || len(list) < 2 || list[0].ID != again {
		t.Errorf("%+v, %v", list, err)
	}
	for _, w := range *said {
		if !strings.Contains(w, "no space left") && !strings.Contains(w, "full") {
			t.Error(w)
		}
	}
}
