package buildkit

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
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
	base   string // BuildKit's name for what it starts from; "" for an empty directory
	what   string // BuildKit's description
	used   time.Time
	times  int // that it was used
	inUse  bool
	// BuildKit counts its bytes: it shows a copy of the record, and whoever wants the
	// mount gets another one.
	counted bool
}

func (m mountThere) ours() bool { return m.id == recordsID || strings.HasPrefix(m.id, unfinishedID) }

// instead tells whether somebody who wanted n may have got m.
func (m mountThere) instead(n mountThere) bool {
	return m.record != n.record && m.id == n.id && m.base == n.base
}

// madeByContainer tells whether no step made the mount.
func (m mountThere) madeByContainer() bool { return strings.Contains(m.what, " from container ") }

// madeAt tells whether BuildKit made the mount for a container that has it below a
// directory.
func (m mountThere) madeAt(dir string) bool { return strings.HasPrefix(m.what, madePrefix+dir) }

const madePrefix = "cached mount "

// mountsThere are the cache mounts of an engine.
type mountsThere []mountThere

// has tells whether there is a mount that starts from nothing, in use or not.
func (l mountsThere) has(id string, inUse bool) bool {
	return slices.ContainsFunc(l, func(m mountThere) bool { return m.id == id && m.base == "" && m.inUse == inUse })
}

// whole tells whether a mount is there, and nobody was killed while filling it.
func (l mountsThere) whole(id string) bool {
	is := func(id string) bool { return l.has(id, true) || l.has(id, false) }
	return is(id) && !is(unfinishedID+id)
}

// half are mounts that begin with contents, and of which nobody can tell how much
// came in before the agent was killed: no step has used them since. Who fills a mount
// uses it as often as its mark, which BuildKit counts once or twice each time.
func (l mountsThere) half() mountsThere {
	return l.which(func(m mountThere) bool {
		noStep := func(mark mountThere) bool {
			return mark.id == unfinishedID+m.id && !mark.inUse && m.times <= mark.times
		}
		return m.base != "" && m.madeByContainer() && !m.inUse && slices.ContainsFunc(l, noStep)
	})
}

// which are those that f says.
func (l mountsThere) which(f func(mountThere) bool) (out mountsThere) {
	for _, m := range l {
		if f(m) {
			out = append(out, m)
		}
	}
	return out
}

// countedWithin is how long the count of a mount's bytes may take.
const countedWithin = 3 * time.Second

// mountsThere lists the mounts of some IDs, or all. BuildKit names them in what it says
// about its cache, and nowhere else. It counts the bytes of all that it names: nobody
// asks for more of them than he must.
func (c *Client) mountsThere(ctx context.Context, ids ...string) (list mountsThere, err error) {
	for end := time.Now().Add(countedWithin); ; {
		list, err = c.listThere(ctx, ids)
		counted := slices.ContainsFunc(list, func(m mountThere) bool { return m.counted })
		if err != nil || !counted || time.Now().After(end) {
			return list, err
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

func (c *Client) listThere(ctx context.Context, ids []string) (list mountsThere, err error) {
	// By the description: what stands for a mount that is counted has no type.
	filter := []string{"description~=" + strconv.Quote("^"+madePrefix)}
	if len(ids) > 0 {
		filter = nil
	}
	for _, id := range ids {
		named := fmt.Sprintf("(?s)^%s(.* with id %s$|%s from )", madePrefix, regexp.QuoteMeta(strconv.Quote(id)), regexp.QuoteMeta(id))
		filter = append(filter, "description~="+strconv.Quote(named))
	}
	usage, err := c.bk.DiskUsage(ctx, client.WithFilter(filter))
	if err != nil {
		return nil, fmt.Errorf("list cache mounts: %w", err)
	}
	for _, u := range usage {
		m := mountThere{record: u.ID, id: describedID(u.Description), what: u.Description, times: u.UsageCount, inUse: u.InUse, counted: !u.Mutable}
		if len(u.Parents) > 0 {
			m.base = u.Parents[0]
		}
		if u.LastUsedAt != nil {
			m.used = *u.LastUsedAt
		}
		list = append(list, m)
	}
	return list, nil
}

// pause is between two looks at what somebody may have for a moment.
func pause(ctx context.Context) error {
	select {
	case <-time.After(50 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// What stands in the way of a mount that an agent should have.
var (
	errInUse  = errors.New("in use by a build, or pruned")
	errUnsure = errors.New("BuildKit has several directories for it, and does not tell which one the build had")
)

// proves tells whether the directory that a container has on at some path below at is
// the one that the mount's steps had; where no step is known, the one that was used
// last. Where BuildKit cannot give out a mount's directory at a moment, it makes
// another one, which then stays beside the first.
func (l mountsThere) proves(u mountUse, at string) error {
	since := u.began
	l = l.which(func(m mountThere) bool { return m.id == u.ID && (m.base != "") == (u.from != nil) })
	if slices.ContainsFunc(l, func(m mountThere) bool { return m.madeAt(at) }) {
		return errInUse
	}
	// Which base a container's mount has is not told; all that are in use are looked at.
	held := l.which(func(m mountThere) bool { return m.inUse && !m.counted })
	if len(held) == 0 {
		return errInUse
	}
	for _, m := range held {
		for _, o := range l.which(m.instead) {
			switch {
			case o.inUse, m.used.Before(since), since.IsZero() && o.used.After(m.used):
				return errUnsure
			case !since.IsZero() && !o.used.Before(since) && u.mount.CacheOpt.Sharing != pb.CacheSharingOpt_PRIVATE:
				return errUnsure
			}
		}
	}
	return nil
}

// drop removes mounts that nobody uses.
func (c *Client) drop(ctx context.Context, list mountsThere) error {
	if len(list) == 0 {
		return nil
	}
	var filter []string
	for _, m := range list {
		filter = append(filter, "id=="+m.record)
	}
	return c.Prune(ctx, PruneOptions{Filter: filter}, func(CacheRecord) {})
}

// dropMount removes the cache mount of an ID, where nobody uses it.
func (c *Client) dropMount(ctx context.Context, id string) error {
	there, err := c.mountsThere(ctx, id)
	if err != nil {
		return err
	}
	return c.drop(ctx, there.which(func(m mountThere) bool { return m.id == id }))
}

// describedID is the ID of a cache mount by BuildKit's description of it: "cached
// mount TARGET from MAKER", and where its ID is another one, "with id" and that.
func describedID(what string) string {
	const with = " with id "
	what, _ = strings.CutPrefix(what, madePrefix)
	if i := strings.LastIndex(what, with); i >= 0 {
		if id, err := strconv.Unquote(what[i+len(with):]); err == nil {
			return id
		}
	}
	id, _, _ := strings.Cut(what, " from ")
	return id
}
