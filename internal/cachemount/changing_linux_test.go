package cachemount

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// Files that are written to all the time are left out or whole, never torn.
func TestChangeWhileRead(t *testing.T) {
	p := newPlace(t)
	a := newMachine(t)
	const size, files = 3 << 20, 6
	stop := make(chan struct{})
	var writers sync.WaitGroup
	// A writer that the machine lets wait in the middle leaves a file that is what it
	// seems to be, half and half.
	var rounds [files]struct {
		sync.Mutex // held in a round
		waited     bool
	}
	for i := range files {
		name := fmt.Sprint("f", i)
		a.write(t, name, strings.Repeat("0", size))
		writers.Go(func() {
			f, err := os.OpenFile(a.path(name), os.O_WRONLY, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			for c := 'a'; ; c = 'a' + (c-'a'+1)%26 {
				b := []byte(strings.Repeat(string(c), 64<<10))
				rounds[i].Lock()
				began := time.Now()
				for at := int64(0); at < size; at += int64(len(b)) {
					if _, err := f.WriteAt(b, at); err != nil {
						t.Error(err)
					}
				}
				rounds[i].waited = rounds[i].waited || time.Since(began) > tick/2
				rounds[i].Unlock()
				select { // long enough for a read to begin, and not always to end
				case <-stop:
					return
				case <-time.After(tick + time.Duration(10*i)*time.Millisecond):
				}
			}
		})
	}
	for range 6 {
		got := a.mustPush(t, p, PushOptions{Settle: 1})
		if got.Files+got.Unkept != files {
			t.Errorf("of %d files: %+v", files, got.Exported)
		}
		b := newMachine(t)
		b.mustPull(t, p, ImportOptions{}, Imported)
		entries, err := os.ReadDir(b.Dir)
		must(t, err)
		for _, e := range entries {
			content, err := os.ReadFile(b.path(e.Name()))
			must(t, err)
			round := &rounds[e.Name()[1]-'0']
			round.Lock()
			if !round.waited && string(content) != strings.Repeat(string(content[:1]), size) {
				t.Errorf("%s is torn", e.Name())
			}
			round.waited = false
			round.Unlock()
		}
	}
	close(stop)
	writers.Wait()
}

// A directory that becomes a link meanwhile leads nowhere, neither what is read
// nor what is written.
func TestSwappedDirectory(t *testing.T) {
	outside := tempDir(t)
	must(t, os.WriteFile(outside+"/f", []byte("mine"), 0o644))
	swap := func(m *machine) {
		must(t, os.RemoveAll(m.path("d")))
		must(t, os.Symlink(outside, m.path("d")))
	}
	read, written := newMachine(t), newMachine(t)
	read.write(t, "d/f", "theirs")
	dir, err := openRoot(t.Context(), read.Dir)
	must(t, err)
	defer dir.close()
	at, err := scan(t.Context(), dir.fd, 0)
	must(t, err)
	at.dirs.close()
	swap(read)
	must(t, readFiles(t.Context(), at, []int32{2}, func(p *piece) error {
		if p.what != pieceGone {
			t.Errorf("%+v was read through a link", p)
		}
		return nil
	}))

	into, err := openRoot(t.Context(), written.Dir)
	must(t, err)
	defer into.close()
	u := &unpacker{tree: at.tree, dirs: newStage(at.tree, into.fd, make([]bool, len(at.tree))), left: make([]int32, len(at.tree))}
	if _, err := u.dirs.get(1); err != nil { // makes it
		t.Fatal(err)
	}
	u.dirs.open = map[int32]*openDir{}
	swap(written)
	if err := u.write(2, 0, []byte("theirs")); err == nil {
		t.Error("written through a link")
	}
	if got, err := os.ReadFile(outside + "/f"); err != nil || string(got) != "mine" {
		t.Errorf("outside is %q, %v", got, err)
	}
}
