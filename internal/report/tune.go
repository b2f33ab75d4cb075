package report

import (
	"slices"
	"time"
)

// Tuning is what `lighter tune` measured and what follows from it; --format
// json prints it. Field names are stable; fields may be added. Sizes are bytes,
// times are seconds and those of the whole image, even where a sample of it was
// measured; lists are never null.
type Tuning struct {
	Subject       string       `json:"subject"` // an image's location, or dir:PATH
	Platform      string       `json:"platform,omitempty"`
	Cores         int          `json:"cores"`
	Tar           int64        `json:"tarBytes"` // of all layers
	Entries       int64        `json:"entries"`  // files, directories, links in them
	Sample        int64        `json:"sampleBytes"`
	Layers        []TunedLayer `json:"layers"`
	Bandwidth     Bandwidth    `json:"bandwidthBytesPerSecond"`
	PullsPerBuild int          `json:"pullsPerBuild"`
	Hash          Timing       `json:"hashSeconds"`  // sha256 of all tars on one core
	Write         Timing       `json:"writeSeconds"` // of all files on one core
	Levels        []Level      `json:"levels"`       // in the order asked for
	Recommended   string       `json:"recommended"`
	// Alike are the levels whose cost could not be told from the recommended
	// one's: the ranges of their rounds overlap.
	Alike   []string `json:"alike"`
	LeftOut []string `json:"leftOut"` // not measured, for want of time
	Notes   []string `json:"notes"`
	Took    Seconds  `json:"seconds"`
}

// TunedLayer is one layer and how much of it was measured.
type TunedLayer struct {
	Name   string `json:"name"`           // digest of the blob, or a directory
	Blob   int64  `json:"blob,omitempty"` // bytes, as it is now
	Tar    int64  `json:"tar"`
	Sample int64  `json:"sample"`
}

// Level is one codec at one level.
type Level struct {
	Name    string  `json:"level"` // "zstd:3"
	Codec   string  `json:"codec"`
	Encoder string  `json:"encoder"`
	Rounds  int     `json:"rounds"`
	Size    int64   `json:"size"`
	Ratio   float64 `json:"ratio"` // tar to blob
	// Compress is until the blobs and both digests are there, on all cores; CPU
	// is what the cores spent on that.
	Compress Timing `json:"compressSeconds"`
	CPU      Timing `json:"cpuSeconds"`
	// Decode is one stream, as clients do it; Parallel is lighter's reader, for
	// codecs that have frames.
	Decode   Timing  `json:"decodeSeconds"`
	Parallel *Timing `json:"parallelDecodeSeconds,omitempty"`
	Push     Seconds `json:"pushSeconds"`
	Pull     Pull    `json:"pull"`
	Cost     Timing  `json:"costSeconds"` // of one build and its pulls, see Tuning.Criterion
}

// Pull is what one client takes for the image.
type Pull struct {
	Took     Seconds `json:"seconds"`         // download and unpacking, as far as they cannot overlap
	Download Seconds `json:"downloadSeconds"` // of all blobs, digests included
	Unpack   Seconds `json:"unpackSeconds"`   // of all layers
}

// Timing is what several rounds took.
type Timing struct {
	Median Seconds `json:"median"`
	Min    Seconds `json:"min"`
	Max    Seconds `json:"max"`
}

// TimingOf is of at least one round.
func TimingOf(rounds []time.Duration) Timing {
	if len(rounds) == 0 {
		return Timing{}
	}
	s := slices.Sorted(slices.Values(rounds))
	m := s[len(s)/2]
	if len(s)%2 == 0 {
		m = s[len(s)/2-1] + (m-s[len(s)/2-1])/2
	}
	return Timing{Seconds(m), Seconds(s[0]), Seconds(s[len(s)-1])}
}

// Times is every number of t times f.
func (t Timing) Times(f float64) Timing {
	by := func(s Seconds) Seconds { return Seconds(float64(s) * f) }
	return Timing{by(t.Median), by(t.Min), by(t.Max)}
}

// Spread is half of the distance between the fastest and the slowest round, as
// a part of the median.
func (t Timing) Spread() float64 {
	if t.Median <= 0 {
		return 0
	}
	return float64(t.Max-t.Min) / 2 / float64(t.Median)
}

// Conclude works out pushes, pulls, costs and the recommendation from what was
// measured: everything but Push, Pull, Cost, Recommended and Alike is set. It
// can be called again after Bandwidth or PullsPerBuild have changed.
func (t *Tuning) Conclude() {
	t.Recommended, t.Alike = "", []string{}
	best := -1
	for i := range t.Levels {
		l := &t.Levels[i]
		l.Push = Seconds(t.Bandwidth.Time(float64(l.Size)))
		l.Pull = t.pull(l.Size, l.Decode.Median)
		cost := func(compress, decode Seconds) Seconds {
			return compress + l.Push + Seconds(t.PullsPerBuild)*t.pull(l.Size, decode).Took
		}
		l.Cost = Timing{cost(l.Compress.Median, l.Decode.Median), cost(l.Compress.Min, l.Decode.Min), cost(l.Compress.Max, l.Decode.Max)}
		if best < 0 || l.Cost.Median < t.Levels[best].Cost.Median {
			best = i
		}
	}
	if best < 0 {
		return
	}
	t.Recommended = t.Levels[best].Name
	for i, l := range t.Levels {
		if i != best && l.Cost.Min <= t.Levels[best].Cost.Max {
			t.Alike = append(t.Alike, l.Name)
		}
	}
}

// pull models what containerd and Docker do. Blobs arrive one after the other
// and are hashed as they come. A layer is unpacked when it has arrived and the
// one beneath it is unpacked, while the next ones arrive; its decoder runs
// beside the hashing of its tar and the writing of its files. Sizes and times
// are shared out among the layers by the size of their tars.
func (t *Tuning) pull(size int64, decode Seconds) Pull {
	var arrived, unpacked Seconds
	var p Pull
	for _, l := range t.Layers {
		share := float64(l.Tar) / float64(max(t.Tar, 1))
		hash := float64(t.Hash.Median) / float64(max(t.Tar, 1)) * float64(size) * share
		download := max(Seconds(t.Bandwidth.Time(float64(size)*share)), Seconds(hash))
		unpack := Seconds(share * float64(max(decode, t.Hash.Median+t.Write.Median)))
		arrived += download
		unpacked = max(unpacked, arrived) + unpack
		p.Download += download
		p.Unpack += unpack
	}
	p.Took = unpacked
	return p
}

// Best is the recommended level; false where nothing was measured.
func (t *Tuning) Best() (Level, bool) {
	i := slices.IndexFunc(t.Levels, func(l Level) bool { return l.Name == t.Recommended })
	if i < 0 {
		return Level{}, false
	}
	return t.Levels[i], true
}

// Rate is megabytes (10⁶) of tar a second that a level compresses.
func (t *Tuning) Rate(l Level) float64 { return MBps(t.Tar, l.Compress.Median.Duration()) }
