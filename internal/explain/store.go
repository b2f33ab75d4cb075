package explain

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Store keeps a record for each thing that is built, in a directory that may be
// removed at any time. The zero value keeps nothing.
type Store struct{ Dir string }

// What a store holds at most. A record of 100,000 files is 8 MB.
const (
	mostRecords = 100
	mostBytes   = 64 << 20
)

// Key names what is built: context, Dockerfile, target, platforms, engine.
func Key(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:16])
}

func (s Store) path(key string) string { return filepath.Join(s.Dir, key+".json") }

// Load is the record of a key; nil where there is none that can be read.
func (s Store) Load(key string) *Record {
	if s.Dir == "" {
		return nil
	}
	data, err := os.ReadFile(s.path(key))
	if err != nil {
		return nil
	}
	var r Record
	if json.Unmarshal(data, &r) != nil || r.Version != recordVersion {
		return nil
	}
	return &r
}

// Save replaces the record of a key, which was before, and drops the oldest of
// the others where there are too many. It does not wait for the disk: a record that a power cut
// spoils is one that cannot be read.
func (s Store) Save(key string, r Record, before *Record) error {
	if s.Dir == "" {
		return nil
	}
	if before != nil && reflect.DeepEqual(r, *before) {
		return os.Chtimes(s.path(key), time.Time{}, time.Now()) // its turn to be dropped comes later
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(s.Dir, key+".*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails harmlessly after the rename
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), s.path(key)); err != nil {
		return err
	}
	return s.prune(key)
}

// leftBehind is how old a temporary file is that nobody writes any more.
const leftBehind = time.Hour

func (s Store) prune(kept string) error {
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return err
	}
	var records []fs.FileInfo
	for _, e := range entries {
		info, err := e.Info()
		switch {
		case err != nil: // somebody else's prune was first
		case strings.HasSuffix(e.Name(), ".tmp") && time.Since(info.ModTime()) > leftBehind:
			os.Remove(filepath.Join(s.Dir, e.Name()))
		case strings.HasSuffix(e.Name(), ".json"):
			records = append(records, info)
		}
	}
	slices.SortFunc(records, func(a, b fs.FileInfo) int {
		return cmp.Or(b.ModTime().Compare(a.ModTime()), strings.Compare(a.Name(), b.Name()))
	})
	var bytes int64
	for i, r := range records {
		bytes += r.Size()
		if (i >= mostRecords || bytes > mostBytes) && r.Name() != kept+".json" {
			os.Remove(filepath.Join(s.Dir, r.Name()))
		}
	}
	return nil
}
