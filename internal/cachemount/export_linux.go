package cachemount

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// exporter is the state of one export.
type exporter struct {
	o    *operation
	opt  ExportOptions
	root Root
	name string    // of the root, as the session has it
	rec  *record   // what the directory was like; nil where nobody knows
	base *contents // earlier packs
	tree tree      // that goes with them

	at   *scanned
	gone []bool // entries that are left out
	pack *packer
	out  Exported

	runs []run // of the file that is coming in
}

// exportRoot sends what a directory holds and the artifact does not.
func (o *operation) exportRoot(ctx context.Context, req *exportRequest) (*exportResult, error) {
	root, err := o.root(req.Root)
	if err != nil {
		return nil, err
	}
	dir, err := openRoot(ctx, root.Dir)
	if err != nil {
		return nil, err
	}
	defer dir.close()
	if _, err := dir.recover(); err != nil {
		return nil, err
	}
	e := &exporter{o: o, opt: req.Option, root: root, name: req.Root}
	// The directory is listed while the session finds out what the artifact has.
	listing, stop := context.WithCancel(ctx)
	defer stop()
	var list errgroup.Group
	list.Go(func() (err error) { e.at, err = scan(listing, dir.fd, root.room()); return err })
	if err := e.readBase(); err != nil {
		stop()
		if list.Wait() == nil {
			e.at.dirs.close()
		}
		return nil, err
	}
	if err := list.Wait(); err != nil {
		return nil, fmt.Errorf("read %s: %w", root.Dir, err)
	}
	defer e.at.dirs.close()
	ctx, over := o.heed(ctx)
	defer over()
	res, err := e.run(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	return res, nil
}

// readBase reads what the artifact has. Where that is damaged nothing of it is
// used again, and this push mends it.
func (e *exporter) readBase() error {
	e.rec = e.root.load()
	base, err := e.o.base()
	if err != nil {
		return err
	}
	var known *contents
	if e.rec != nil {
		known = e.rec.contents
	}
	e.base, err = e.o.contents(base.Packs, known)
	switch {
	case err != nil || base.Tree == "":
	case e.rec != nil && e.rec.contents == e.base && e.rec.digest == base.Tree:
		e.tree = e.rec.tree
	default:
		var blob []byte
		if blob, err = e.o.wantTree(base.Tree); err == nil {
			e.tree, err = unpackTree(e.o.agent.Pool, blob, e.base.chunks)
		}
	}
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrForeign) {
		if e.o.data != nil {
			e.o.data.drain()
			e.o.data = nil
		}
		e.base, e.tree, err = &contents{}, nil, nil
	}
	return err
}

func (e *exporter) run(ctx context.Context) (*exportResult, error) {
	e.gone = make([]bool, len(e.at.tree))
	e.pack = newPacker(e.o, e.base)
	defer e.pack.abort()
	todo := e.recall()
	e.out.Expired, e.out.Evicted = e.at.tree.evict(e.at.disk, e.gone, e.opt.MaxAge, e.opt.MaxSize)
	if err := e.read(ctx, todo); err != nil {
		return nil, err
	}
	keep, again := e.repack()
	if err := e.read(ctx, again); err != nil {
		return nil, err
	}
	if err := e.pack.finish(); err != nil {
		return nil, err
	}
	return e.finish(keep)
}

// recall takes over what is known of files that have not changed, and answers
// those whose content has to be read.
func (e *exporter) recall() (todo []int32) {
	t := e.at.tree
	known := e.rec.unchanged(e.at)
	earlier := t.match(e.tree)
	for i := range t {
		if t[i].isAlias() {
			continue
		}
		if j := earlier[i]; j >= 0 {
			t[i].used = max(t[i].used, e.tree[j].used)
		}
		j := known[i]
		if j >= 0 {
			was := &e.rec.tree[j]
			t[i].used = max(t[i].used, was.used)
			if !t[i].isDir() {
				t[i].xattrs = was.xattrs
			}
		}
		if t[i].isFile() && (j < 0 || !e.translate(&t[i], &e.rec.tree[j])) {
			todo = append(todo, int32(i))
		}
	}
	return todo
}

// translate gives a file the content that it is known to have, in the numbers
// of the earlier packs; false where these lack some of it.
func (e *exporter) translate(f, was *entry) bool {
	runs := make([]run, 0, len(was.runs))
	for _, r := range was.runs {
		if r.chunk != noChunk {
			n, ok := e.pack.known[e.rec.contents.chunks[r.chunk].sum]
			if !ok {
				return false
			}
			r.chunk = n
		}
		runs = append(runs, r)
	}
	f.runs = runs
	return true
}

// read reads the contents of files, and packs what is new.
func (e *exporter) read(ctx context.Context, files []int32) error {
	todo := files[:0]
	for _, i := range files {
		if !e.gone[i] {
			todo = append(todo, i)
		}
	}
	return readFiles(ctx, e.at, todo, e.take)
}

func (e *exporter) take(p *piece) error {
	switch p.what {
	case pieceBegin:
		p.entry.used = max(p.entry.used, e.at.tree[p.file].used)
		p.entry.runs = nil
		e.at.tree[p.file] = p.entry
		e.runs = e.runs[:0]
	case pieceChunk:
		n, err := e.pack.add(p.sum, p.b)
		if err != nil {
			return err
		}
		e.out.Read += int64(len(p.b))
		e.runs = append(e.runs, run{chunk: n})
	case pieceHole:
		e.runs = append(e.runs, run{noChunk, p.hole})
	case pieceEnd:
		e.at.tree[p.file].runs = append([]run(nil), e.runs...)
		e.at.stats[p.file] = p.stat
	case pieceGone:
		e.gone[p.file] = true
		e.at.tree[p.file].runs = nil
		if p.unkept {
			e.at.unkept++
		}
	}
	return nil
}

// finish makes the tree of what is left, sends it, and keeps in mind what the
// directory is like, until the session confirms that the artifact has it.
func (e *exporter) finish(keep []int) (*exportResult, error) {
	t, from := e.at.tree.without(e.gone)
	now, to := e.renumber(keep)
	for i := range t {
		for k := range t[i].runs {
			if r := &t[i].runs[k]; r.chunk != noChunk {
				r.chunk = to[r.chunk]
			}
		}
	}
	blob, err := t.pack(e.o.agent.Pool)
	if err != nil {
		return nil, err
	}
	if _, err := e.o.c.Write(blob); err != nil {
		return nil, err
	}
	rec := &record{digest: digest.FromBytes(blob), tree: t, contents: now}
	for _, i := range from {
		rec.stats = append(rec.stats, e.at.stats[i])
	}
	e.o.pending[e.name] = rec
	e.out.Files, e.out.Size, e.out.New = t.files(), t.size(now.chunks), e.pack.added
	e.out.Unkept = e.at.unkept
	return &exportResult{Exported: e.out, Keep: keep, Tree: rec.digest}, nil
}

// renumber counts chunks through the packs that stay and the new ones. The new
// ones have no digests yet.
func (e *exporter) renumber(keep []int) (now *contents, to []int32) {
	now, to = &contents{}, make([]int32, e.pack.count)
	at := int32(len(e.base.chunks))
	for _, k := range keep {
		first := int32(len(now.chunks))
		now.add(e.base.packs[k], &packIndex{e.base.frames[k], e.base.of(k)})
		for i := range int32(len(now.chunks)) - first {
			to[e.base.first[k]+i] = first + i
		}
	}
	for _, p := range e.pack.made {
		first := int32(len(now.chunks))
		now.add(Pack{Index: p.Index}, &packIndex{p.frames, p.chunks})
		for i := range p.chunks {
			to[at] = first + int32(i)
			at++
		}
	}
	return now, to
}

// confirm remembers a directory as the artifact has it.
func (o *operation) confirm(req *confirmRequest) error {
	root, err := o.root(req.Root)
	if err != nil {
		return err
	}
	rec := o.pending[req.Root]
	if rec == nil || len(rec.contents.packs) != len(req.Packs) {
		return fmt.Errorf("%w: %.100q was not exported as this", ErrVersion, req.Root)
	}
	delete(o.pending, req.Root)
	for i := range req.Packs {
		if req.Packs[i].Index.Digest != rec.contents.packs[i].Index.Digest {
			return fmt.Errorf("%w: %.100q was exported with another pack", ErrVersion, req.Root)
		}
	}
	rec.contents.packs = req.Packs
	return root.save(rec)
}
