package codec

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// maxFrame is the largest frame, and the default one for zstd. At level 3
// independent frames of 8 MiB cost no size against one stream, 4 MiB
// 0.3–0.7 %, 1–2 MiB 4–18 %; larger ones would need more memory to encode and,
// from level 20, windows that some extractors refuse.
const maxFrame = 8 << 20

// bufferSize holds a frame of maxFrame bytes or the worst that an encoder
// makes of it: libzstd's bound is src + src/256, flate's is less.
const bufferSize = maxFrame + maxFrame>>8

// smallBuffer is where every layer starts, so that the many layers of a few
// kilobytes never see a large buffer. A layer that grows out of it is copied
// once.
const smallBuffer = 64 << 10

// heavyLevel is the zstd level above which an encoder's tables are too large to
// be kept by an idle process: 1 MB at level 3, 15 at 9, 45 at 12, 85 at 19, 135
// at 22, measured as a process's peak memory.
const heavyLevel = 9

// Pool is one budget of CPU and memory, shared by all layers of all builds in
// the process. At most `workers` frames are compressed or decompressed at a
// time, whoever's they are, and buffers are counted:
//
//	frames on their way   workers + min(workers, 6) + 2, plus one for every open Writer
//	encoder output        workers + 2
//
// of 8 MiB each, allocated when first needed. Four layers at once took 120 MB
// with two workers at level 3, 145 at 9 and 390 at 22. The one buffer that every
// Writer may have whatever the others do is what keeps them from waiting for
// each other in a circle; nothing else that a frame needs is ever held while a
// destination or a source is waited for.
type Pool struct {
	workers int
	cpu     chan struct{} // a token: the right to use one worker
	frames  chan struct{} // a token: a frame in flight
	outs    chan struct{} // a token: a buffer for an encoder's output

	mu     sync.Mutex
	idle   []*worker     // not in use, latest last
	large  [][]byte      // free buffers of bufferSize
	small  [][]byte      // free buffers of smallBuffer
	win    []*window     // free windows of inflaters, up to aheadWindows
	dec    *zstd.Decoder // of whole frames, shared by all readers
	active int           // open writers and readers
	closed bool
	wg     sync.WaitGroup // open writers and readers
}

// worker is what one core compresses with. Its encoders are made when first
// needed and used for one frame at a time.
type worker struct {
	zstd  *zstdEncoder
	gzip  *flateEncoder
	heavy bool // has tables of more than heavyLevel
}

var errPoolClosed = errors.New("compression pool is closed")

// NewPool makes a pool that keeps `workers` cores busy; 0 is GOMAXPROCS. It
// costs nothing until it is used. A process wants exactly one.
func NewPool(workers int) *Pool {
	if workers < 1 {
		workers = runtime.GOMAXPROCS(0)
	}
	p := &Pool{
		workers: workers,
		cpu:     tokens(workers),
		frames:  tokens(workers + min(workers, 6) + 2),
		outs:    tokens(workers + 2),
	}
	return p
}

func tokens(n int) chan struct{} {
	c := make(chan struct{}, n)
	for range n {
		c <- struct{}{}
	}
	return c
}

// Close waits until every Writer and every reader of the pool has been closed
// or aborted and frees what the pool kept. New ones are refused from then on.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle, p.large, p.small, p.win = nil, nil, nil, nil
	if p.dec != nil {
		p.dec.Close()
		p.dec = nil
	}
	return nil
}

// enter counts a writer or reader in; leave counts it out.
func (p *Pool) enter() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errPoolClosed
	}
	p.active++
	p.wg.Add(1)
	return nil
}

func (p *Pool) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.active--
	p.wg.Done()
	if p.active == 0 {
		p.trim()
	}
}

// trim lets go of what an idle process should not hold: all but one worker,
// that one too if its tables are large, and all but four large buffers.
func (p *Pool) trim() {
	keep := p.idle[:0]
	for _, w := range p.idle {
		if len(keep) == 0 && !w.heavy {
			keep = append(keep, w)
		}
	}
	clear(p.idle[len(keep):])
	p.idle = keep
	for len(p.large) > 4 {
		p.large[len(p.large)-1] = nil
		p.large = p.large[:len(p.large)-1]
	}
}

// worker takes an idle worker or makes one. The caller holds a cpu token, so
// there are never more than p.workers.
func (p *Pool) worker() *worker {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle); n > 0 {
		w := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return w
	}
	return &worker{}
}

func (p *Pool) putWorker(w *worker) {
	p.mu.Lock()
	p.idle = append(p.idle, w)
	p.mu.Unlock()
}

// buffer returns memory of bufferSize, not cleared. The caller holds a token
// of the frames or of the outs.
func (p *Pool) buffer() []byte {
	return p.take(&p.large, bufferSize)
}

func (p *Pool) take(free *[][]byte, size int) []byte {
	p.mu.Lock()
	if n := len(*free); n > 0 {
		b := (*free)[n-1]
		*free = (*free)[:n-1]
		p.mu.Unlock()
		return b
	}
	p.mu.Unlock()
	return make([]byte, size)
}

// put gives back what buffer or take returned, whatever its length became.
func (p *Pool) put(b []byte) {
	b = b[:cap(b)]
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case len(b) == smallBuffer && len(p.small) < 4*p.workers:
		p.small = append(p.small, b)
	case len(b) == bufferSize:
		p.large = append(p.large, b)
	}
}

// window returns a window, not cleared. A reader has up to aheadWindows of them,
// of 256 KiB each.
func (p *Pool) window() *window {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.win)
	if n == 0 {
		return new(window)
	}
	w := p.win[n-1]
	p.win = p.win[:n-1]
	return w
}

func (p *Pool) putWindow(w *window) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.win) < aheadWindows {
		p.win = append(p.win, w)
	}
}

// zstdFrame and deflate are the two things a worker can do.
func (w *worker) zstdFrame(dst, src []byte, level int) ([]byte, error) {
	if w.zstd == nil {
		w.zstd = newZstdEncoder()
	}
	w.heavy = w.heavy || level > heavyLevel
	out, err := w.zstd.encode(dst, src, level)
	if err != nil {
		return nil, fmt.Errorf("zstd: frame of %d bytes: %w", len(src), err)
	}
	return out, nil
}

func (w *worker) deflate(dst, src, dict []byte, level int, last bool) ([]byte, error) {
	if w.gzip == nil {
		w.gzip = &flateEncoder{}
	}
	return w.gzip.encode(dst, src, dict, level, last)
}
