package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Journal remembers what became of layers that were converted, so that one
// which a destination holds already is not made again: after an interruption,
// and for every image that shares a base. It is a directory with a small file
// for each; losing any of them costs time and nothing else. A nil Journal
// remembers nothing.
type Journal struct{ dir string }

// OpenJournal uses a directory, which is made when there is something to
// remember.
func OpenJournal(dir string) *Journal { return &Journal{dir} }

// entry is what one file holds.
type journalEntry struct {
	Source digest.Digest      `json:"source"` // the blob that was converted
	How    string             `json:"how"`    // into what
	DiffID digest.Digest      `json:"diffID"`
	Blob   ocispec.Descriptor `json:"blob"`
}

func (j *Journal) file(source digest.Digest, how string) string {
	sum := sha256.Sum256([]byte(source.String() + "\n" + how))
	return filepath.Join(j.dir, hex.EncodeToString(sum[:])+".json")
}

// lookup answers the blob that source became when it was converted how. What is
// damaged is not there.
func (j *Journal) lookup(source, diffID digest.Digest, how string) (ocispec.Descriptor, bool) {
	if j == nil {
		return ocispec.Descriptor{}, false
	}
	b, err := os.ReadFile(j.file(source, how))
	if err != nil {
		return ocispec.Descriptor{}, false
	}
	var e journalEntry
	if json.Unmarshal(b, &e) != nil || e.Source != source || e.How != how || e.DiffID != diffID || CheckDescriptor(e.Blob) != nil {
		return ocispec.Descriptor{}, false
	}
	return e.Blob, true
}

// record remembers it. An error is about the journal, not about the blob.
func (j *Journal) record(source, diffID digest.Digest, how string, blob ocispec.Descriptor) error {
	if j == nil {
		return nil
	}
	b, err := json.Marshal(journalEntry{source, how, diffID, blob})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return fmt.Errorf("journal of conversions: %w", err)
	}
	if err := replaceFile(j.file(source, how), b); err != nil {
		return fmt.Errorf("journal of conversions: %w", err)
	}
	return nil
}
