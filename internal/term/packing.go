package term

import (
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
)

// Packing is the live view of a pack: what compiles, and what a compiler says.
// On a terminal that is one line, and the words of a compiler that fails; in a
// log it is a line when something begins and ends, with all words between. It is
// safe for concurrent use; a nil one shows nothing.
type Packing struct {
	out  *Output
	line liveLine
	raw  *json.Encoder

	mu      sync.Mutex
	shown   time.Time
	running []string          // names of steps
	last    string            // what was said last
	said    map[string][]byte // by step, as long as it may fail
	closed  bool
}

// NewPacking starts the view in one of the modes that --progress has.
func (o *Output) NewPacking(mode string) *Packing {
	p := &Packing{out: o, said: map[string][]byte{}}
	switch mode {
	case "rawjson":
		p.raw = json.NewEncoder(o.Err)
	case "quiet":
		return nil
	default:
		p.line = liveLine{out: o, live: mode == "tty" || mode == "auto" && o.terminal}
	}
	return p
}

// Add takes one event.
func (p *Packing) Add(e event.Event) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
	case p.raw != nil:
		_ = p.raw.Encode(e) // a view only
	case e.Step != nil:
		p.step(*e.Step)
	case e.Log != nil:
		p.log(*e.Log)
	}
	p.draw(e.Time)
}

// say writes a line of a log, and in a live view one above it.
func (p *Packing) say(text string) {
	p.line.erase()
	p.out.writeLine(text)
}

func (p *Packing) step(s event.Step) {
	name := report.Clean(s.Name)
	switch {
	case s.Completed == nil:
		p.running = append(p.running, name)
		if !p.line.live {
			p.say(name)
		}
		return
	case s.Error != "" && p.line.live:
		p.line.erase()
		for line := range strings.Lines(string(p.said[s.ID])) {
			p.say(report.CleanLine(line))
		}
	case !p.line.live:
		took := report.Duration(s.Completed.Sub(*s.Started))
		switch {
		case s.Error != "":
			p.say(name + " failed after " + took)
		case s.Cached:
			p.say(name + " unchanged, in " + took)
		default:
			p.say(name + " done in " + took)
		}
	}
	delete(p.said, s.ID)
	for i, r := range p.running {
		if r == name {
			p.running = append(p.running[:i:i], p.running[i+1:]...)
			break
		}
	}
}

// log takes what a step says, whose last line may not be whole yet.
func (p *Packing) log(l event.Log) {
	p.said[l.Step] = append(p.said[l.Step], l.Data...)
	all := p.said[l.Step]
	if p.line.live {
		if lines := strings.Split(strings.TrimSpace(string(all)), "\n"); lines[len(lines)-1] != "" {
			p.last = report.Clean(lines[len(lines)-1])
		}
		return
	}
	whole := strings.LastIndexByte(string(all), '\n') + 1
	for line := range strings.Lines(string(all[:whole])) {
		p.say("  " + report.CleanLine(line))
	}
	p.said[l.Step] = all[whole:]
}

func (p *Packing) draw(now time.Time) {
	if !p.line.live || len(p.running) == 0 || now.Sub(p.shown) < redraw && p.line.drawn {
		return
	}
	p.shown = now
	text := strings.Join(p.running, " + ")
	if p.last != "" {
		text += ": " + p.last
	}
	p.line.draw(text)
}

// Close takes the live line away.
func (p *Packing) Close() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.line.end()
}
