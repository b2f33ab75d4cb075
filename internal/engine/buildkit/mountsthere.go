package buildkit

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/client"
)

// Cache mounts of the agents' own, on an engine that is not lighter's.
const (
	recordsID = "lighter.records"
	// unfinishedID, with the ID of a mount behind it, is there while that is filled
	// for the first time. Where it still is later, somebody was killed, and the mount
	// may hold a part.
	unfinishedID = "lighter.unfinished:"
)

// mountThere is a cache mount of an engine that is not lighter's.
type mountThere struct {
	record string // BuildKit's name for the directory
	id     string
	based  bool // it starts from something
	inUse  bool
}

func (m mountThere) ours() bool { return m.id == recordsID || strings.HasPrefix(m.id, unfinishedID) }

// mountsThere are the cache mounts of an engine.
type mountsThere []mountThere

// has tells whether there is a mount that starts from nothing, in use or not.
func (l mountsThere) has(id string, inUse bool) bool {
	return slices.ContainsFunc(l, func(m mountThere) bool { return m.id == id && !m.based && m.inUse == inUse })
}

// whole tells whether a mount is there, and nobody was killed while filling it.
func (l mountsThere) whole(id string) bool {
	is := func(id string) bool { return l.has(id, true) || l.has(id, false) }
	return is(id) && !is(unfinishedID+id)
}

// mountsThere lists them. BuildKit names them in what it says about its cache, and
// nowhere else.
func (c *Client) mountsThere(ctx context.Context) (mountsThere, error) {
	usage, err := c.bk.DiskUsage(ctx, client.WithFilter([]string{"type==" + string(client.UsageRecordTypeCacheMount)}))
	if err != nil {
		return nil, fmt.Errorf("list cache mounts: %w", err)
	}
	var list mountsThere
	for _, u := range usage {
		list = append(list, mountThere{u.ID, describedID(u.Description), len(u.Parents) > 0, u.InUse})
	}
	return list, nil
}

// dropMount removes a cache mount that nobody uses.
func (c *Client) dropMount(ctx context.Context, id string) error {
	there, err := c.mountsThere(ctx)
	if err != nil {
		return err
	}
	var filter []string
	for _, m := range there {
		if m.id == id {
			filter = append(filter, "id=="+m.record)
		}
	}
	if len(filter) == 0 {
		return nil
	}
	return c.Prune(ctx, PruneOptions{Filter: filter}, func(CacheRecord) {})
}

// describedID is the ID of a cache mount by BuildKit's description of it: "cached
// mount TARGET from MAKER", and where its ID is another one, "with id" and that.
func describedID(what string) string {
	const with = " with id "
	what, _ = strings.CutPrefix(what, "cached mount ")
	if i := strings.LastIndex(what, with); i >= 0 {
		if id, err := strconv.Unquote(what[i+len(with):]); err == nil {
			return id
		}
	}
	id, _, _ := strings.Cut(what, " from ")
	return id
}
