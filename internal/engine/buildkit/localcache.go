package buildkit

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/moby/buildkit/client/ociindex"

	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/event"
)

// localCaches leaves out caches in directories that cannot be had, and warns.
// BuildKit says nothing of one that it cannot read, and makes its directory; one
// that it cannot write it finds out about before the build or behind it, and fails.
func localCaches(req *engine.Request, warn func(event.Warning)) {
	req.CacheFrom = slices.DeleteFunc(slices.Clone(req.CacheFrom), func(e engine.Entry) bool {
		if e.Type != "local" {
			return false
		}
		dir := e.Attrs["src"]
		if why := noLocalCache(e); why != "" {
			warn(event.Warning{Note: true, Short: "no cache in " + dir + ": " + why})
			return true
		}
		err := readIndex(dir)
		if err != nil {
			warn(event.Warning{Short: fmt.Sprintf("no cache from %s: %v", dir, err)})
		}
		return err != nil
	})
	req.CacheTo = slices.DeleteFunc(slices.Clone(req.CacheTo), func(e engine.Entry) bool {
		dir := e.Attrs["dest"]
		if e.Type != "local" || !optional(e) || dir == "" {
			return false
		}
		err := os.MkdirAll(dir, 0o755)
		if err != nil {
			err = fmt.Errorf("%w → name a directory that can be written to", err)
		} else {
			err = readIndex(dir)
		}
		if err != nil {
			warn(event.Warning{Short: fmt.Sprintf("the cache was not written to %s: %v", dir, err)})
		}
		return err != nil
	})
}

// noLocalCache says why there is no cache in a directory: a first build, or a
// misspelt path; "" where there may be one.
func noLocalCache(e engine.Entry) string {
	if _, err := os.Stat(e.Attrs["src"]); errors.Is(err, os.ErrNotExist) {
		return "the directory does not exist"
	}
	if e.Attrs["digest"] != "" {
		return ""
	}
	tag := cmp.Or(e.Attrs["tag"], "latest")
	if d, err := ociindex.NewStoreIndex(e.Attrs["src"]).Get(tag); errors.Is(err, os.ErrNotExist) || err == nil && d == nil {
		return "it has none by the name " + tag
	}
	return ""
}

// readIndex tells whether the list of what a cache's directory has can be read. One
// that is not there yet can be written.
func readIndex(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		return errors.New("it is not a directory → name one")
	}
	if err == nil {
		_, err = ociindex.NewStoreIndex(dir).Read()
	}
	switch {
	case err == nil, errors.Is(err, os.ErrNotExist):
		return nil
	case errors.Is(err, os.ErrPermission):
		return err
	}
	return errors.New("its index.json is damaged → remove the directory, and the next build makes it anew")
}

// optional tells whether the build goes on without a cache that it cannot write.
func optional(e engine.Entry) bool {
	ok, _ := strconv.ParseBool(e.Attrs["ignore-error"])
	return ok
}
