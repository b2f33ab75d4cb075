package gha

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	actionscache "github.com/tonistiigi/go-actions-cache"

	"github.com/lighter-oci/lighter/internal/image"
)

// Has implements image.Target. Asking is use, for which GitHub keeps an entry.
func (s *Store) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if err := image.CheckDescriptor(desc); err != nil {
		return false, err
	}
	e, err := s.content(ctx, desc.Digest, true)
	if errors.Is(err, image.ErrNotFound) {
		return false, nil
	}
	return err == nil && e.size == desc.Size, err
}

// Mount implements image.Target: there is one repository.
func (s *Store) Mount(ctx context.Context, _ ocispec.Descriptor, _ image.Reference) (bool, error) {
	return false, ctx.Err()
}

// Upload implements image.Target. An entry has to have its key before anything of
// it is sent, so that the blob is a temporary file until its digest is known.
func (s *Store) Upload(ctx context.Context) (image.Upload, error) {
	if err := errors.Join(ctx.Err(), s.writable()); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp("", "lighter-gha-*")
	if err != nil {
		return nil, err
	}
	return image.NewFileUpload(ctx, f, s.keep), nil
}

// keep makes an entry of a file.
func (s *Store) keep(ctx context.Context, desc ocispec.Descriptor, f *os.File) error {
	defer func() { _, _ = f.Close(), os.Remove(f.Name()) }()
	return s.save(ctx, desc, fileBlob{f, desc.Size})
}

// fileBlob is a file whose end belongs to somebody else.
type fileBlob struct {
	io.ReaderAt
	size int64
}

func (b fileBlob) Size() int64  { return b.size }
func (b fileBlob) Close() error { return nil }

// save stores a content. Where its key is taken and stands for nothing, because
// somebody is writing it or died while they did, it gets another one.
func (s *Store) save(ctx context.Context, desc ocispec.Descriptor, b actionscache.Blob) error {
	key := digestKey(desc.Digest) + strconv.FormatInt(desc.Size, 10) + "#"
	err := s.cache.Save(ctx, key, b)
	if errors.Is(err, fs.ErrExist) {
		if has, herr := s.Has(ctx, desc); herr != nil || has {
			return herr
		}
		err = s.cache.Save(ctx, key+rand.Text(), b)
	}
	if err != nil {
		return fmt.Errorf("GitHub's cache: save %s: %w", desc.Digest, err)
	}
	return nil
}

// PutManifest implements image.Target.
func (s *Store) PutManifest(ctx context.Context, desc ocispec.Descriptor, b []byte) error {
	if err := errors.Join(image.CheckContent(desc, b), s.writable()); err != nil {
		return fmt.Errorf("GitHub's cache: %w", err)
	}
	if has, err := s.Has(ctx, desc); err != nil || has {
		return err
	}
	return s.save(ctx, desc, actionscache.NewBlob(b))
}

// Tag implements image.Target.
func (s *Store) Tag(ctx context.Context, desc ocispec.Descriptor, b []byte, name string) error {
	return s.name(ctx, desc, b, name, func(digest.Digest) error { return nil })
}

// Swap is Tag where the name stands for was, "" being nothing, and image.ErrMoved
// else. Each number of a name is given out once, so that of two that swap from the
// same state one wins.
func (s *Store) Swap(ctx context.Context, desc ocispec.Descriptor, b []byte, name string, was digest.Digest) error {
	return s.name(ctx, desc, b, name, func(now digest.Digest) error {
		if now != was {
			return fmt.Errorf("GitHub's cache: %s: %w", name, image.ErrMoved)
		}
		return nil
	})
}

// takenTries is for how long a number that is taken and stands for nothing yet is
// waited for, 5 s: somebody is writing a manifest, which takes a second or two, or
// they are dead, and it is passed over.
const takenTries = 10

// name gives a name its next number, unless check minds what it stands for now.
func (s *Store) name(ctx context.Context, desc ocispec.Descriptor, b []byte, name string, check func(now digest.Digest) error) error {
	if err := errors.Join(image.CheckContent(desc, b), s.writable()); err != nil {
		return fmt.Errorf("GitHub's cache: %w", err)
	}
	prefix, err := nameKey(name)
	if err != nil {
		return err
	}
	said, err := json.Marshal(ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, Data: b})
	if err != nil {
		return err
	}
	taken := 0 // tries that met somebody
	for {
		last, err := s.last(ctx, prefix, name, check)
		if err != nil {
			return err
		}
		next := last + 1 + taken/takenTries
		err = s.cache.Save(ctx, prefix+strconv.Itoa(next), actionscache.NewBlob(said))
		if !errors.Is(err, fs.ErrExist) {
			if err != nil {
				return fmt.Errorf("GitHub's cache: name %s: %w", name, err)
			}
			return nil
		}
		taken++
		if err := pause(ctx, s.wait); err != nil {
			return err
		}
	}
}

// last is the number that a name has now, 0 for none, unless check minds.
func (s *Store) last(ctx context.Context, prefix, name string, check func(now digest.Digest) error) (int, error) {
	e, err := s.find(ctx, prefix)
	if err != nil {
		return 0, err
	}
	if e == nil {
		return 0, check("")
	}
	n, err := strconv.Atoi(strings.TrimPrefix(e.key, prefix))
	if err != nil {
		return 0, fmt.Errorf("GitHub's cache: %.200q: %w", e.key, image.ErrCorrupt)
	}
	now, err := s.named(ctx, name, e)
	if err != nil && !errors.Is(err, image.ErrCorrupt) {
		return 0, err
	}
	return n, check(now.Digest)
}
