package cachemount

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// importRoot makes a directory what the artifact has. After an error it is as it
// was.
func (o *operation) importRoot(ctx context.Context, req *importRequest) (*ImportResult, error) {
	root, err := o.root(req.Root)
	if err != nil {
		return nil, err
	}
	blob, err := o.tree(req.Tree)
	if err != nil {
		return nil, err
	}
	dir, err := openRoot(ctx, root.Dir)
	if err != nil {
		return nil, err
	}
	defer dir.close()
	finished, err := dir.recover()
	if err != nil {
		return nil, err
	}
	at, err := scan(ctx, dir.fd, root.room())
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", root.Dir, err)
	}
	defer at.dirs.close()
	rec := root.load()
	unchanged := rec.unchanged(at)
	whole := rec.whole(at, unchanged)
	out := &ImportResult{Files: at.tree.files()}
	switch {
	case whole && rec.digest == req.Tree:
		out.Action, out.Size = Unchanged, rec.tree.size(rec.contents.chunks)
		return out, nil
	case len(at.tree) > 1 && !whole && !finished && !root.New && !req.Option.Replace:
		out.Action = Kept
		return out, nil
	}
	u := &unpacker{o: o, at: at, rec: rec, unchanged: unchanged, out: out}
	out.Fetched = int64(len(blob))
	if err := u.read(req.Packs, blob); err != nil {
		return nil, err
	}
	next := &record{digest: req.Tree, tree: u.tree, contents: u.contents}
	if err := u.replace(ctx, dir, func() error { return next.take(ctx, root, dir) }); err != nil {
		return nil, err
	}
	out.Action, out.Files, out.Size = Imported, u.tree.files(), u.tree.size(u.contents.chunks)
	return out, nil
}

// read reads what the directory is to become.
func (u *unpacker) read(packs []Pack, blob []byte) (err error) {
	var known *contents
	if u.rec != nil {
		known = u.rec.contents
	}
	if u.contents, err = u.o.contents(packs, known); err != nil {
		return err
	}
	if u.contents != known {
		for i := range packs {
			u.out.Fetched += packs[i].Index.Size
		}
	}
	u.tree, err = unpackTree(u.o.agent.Pool, blob, u.contents.chunks)
	if err == nil && !u.tree[0].isDir() {
		err = corrupt("the tree begins with no directory")
	}
	return err
}

// replace makes the new contents beside the old ones and lets them change
// places.
func (u *unpacker) replace(ctx context.Context, dir *rootDir, remember func() error) (err error) {
	stage, err := dir.stage()
	if err == nil {
		err = u.unpack(ctx, stage)
		_ = unix.Close(stage)
	}
	if err != nil {
		if rerr := dir.RemoveAll(stageName); rerr != nil {
			return fmt.Errorf("%w; and what was made of it is still there: %w", err, rerr)
		}
		return errors.Join(err, setTimes(dir.fd, ".", &u.at.tree[0]))
	}
	if err := dir.commit(u.plan(), remember); err != nil {
		return fmt.Errorf("the directory is between old and new, and the next push or pull finishes it: %w", err)
	}
	return nil
}

// take remembers the directory as it is after an import. What is not as it was
// made, because somebody wrote to it already, will count as changed.
func (r *record) take(ctx context.Context, root Root, dir *rootDir) error {
	if root.Record == "" {
		return nil
	}
	time.Sleep(tick) // whatever is written from now on has other times
	now, err := scan(ctx, dir.fd, len(r.tree))
	if err != nil {
		return err
	}
	defer now.dirs.close()
	r.stats = make([]stat, len(r.tree))
	for i, j := range r.tree.match(now.tree) {
		if j < 0 {
			continue
		}
		a, b := &r.tree[i], &now.tree[j]
		if a.kind() == b.kind() && (a.isAlias() || a.size == b.size && a.mtime == b.mtime) {
			r.stats[i] = now.stats[j]
		}
	}
	return root.save(r)
}
