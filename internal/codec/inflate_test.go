package codec

import (
	"bytes"
	stdgzip "compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	kgzip "github.com/klauspost/compress/gzip"
	"github.com/klauspost/pgzip"
)

// inflate decodes a gzip blob.
func inflate(p *Pool, r io.Reader) ([]byte, error) {
	a, err := newAhead(p, r)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	return io.ReadAll(io.LimitReader(a, fuzzLimit))
}

// reference is what compress/gzip makes of a blob.
func reference(b []byte) ([]byte, error) {
	r, err := stdgzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, fuzzLimit))
}

// sameVerdict holds the inflater against compress/gzip: both take a blob and
// make the same of it, or neither takes it, and then what they deliver before they
// notice is the same as far as it goes. Reserved flags are the one thing that
// compress/gzip lets pass and RFC 1952 does not.
func sameVerdict(t testing.TB, p *Pool, what string, b []byte) error {
	t.Helper()
	want, werr := reference(b)
	got, err := inflate(p, bytes.NewReader(b))
	if errors.Is(err, errGzipReserved) && werr == nil {
		return err
	}
	if (err == nil) != (werr == nil) {
		t.Errorf("%s: %v; compress/gzip: %v", what, err, werr)
	}
	n := min(len(got), len(want))
	if !bytes.Equal(got[:n], want[:n]) || err == nil && len(got) != len(want) {
		t.Errorf("%s: %d bytes (%v), compress/gzip has %d others (%v)", what, len(got), err, len(want), werr)
	}
	if err != nil && strings.Count(err.Error(), "gzip:") != 1 {
		t.Errorf("%s: %q", what, err)
	}
	return err
}

// structured is data of all the kinds that make encoders do different things.
func structured() map[string][]byte {
	far := noise(history)
	runs := make([]byte, 0, 300_000)
	for i := 1; len(runs) < 300_000; i++ { // every period from 1 to 40
		unit := noise(1 + i%40)
		runs = append(runs, bytes.Repeat(unit, 1+400/len(unit))...)
	}
	return map[string][]byte{
		"empty": nil, "one byte": {7}, "zeros": make([]byte, 500_000), "noise": noise(300_000),
		"layer": corpus(60, 500_000), "text": bytes.Repeat([]byte("all work and no play\n"), 15_000),
		"as far as can be": bytes.Repeat(far, 10), "a byte too far": bytes.Repeat(noise(history+1), 10), "runs": runs,
	}
}

// What any encoder makes at any level is decoded.
func TestBulkInflateEncoders(t *testing.T) {
	p := newPool(t, 1)
	type encoder func(out io.Writer, level int) (io.WriteCloser, error)
	encoders := map[string]encoder{
		"compress/gzip": func(out io.Writer, l int) (io.WriteCloser, error) { return stdgzip.NewWriterLevel(out, l) },
		"klauspost":     func(out io.Writer, l int) (io.WriteCloser, error) { return kgzip.NewWriterLevel(out, l) },
		"pgzip":         func(out io.Writer, l int) (io.WriteCloser, error) { return pgzip.NewWriterLevel(out, l) },
	}
	check := func(what string, blob, in []byte) {
		if got, err := inflate(p, bytes.NewReader(blob)); err != nil || !bytes.Equal(got, in) {
			t.Errorf("%s: %d bytes of %d, %v", what, len(got), len(in), err)
		}
	}
	for kind, in := range structured() {
		for name, enc := range encoders {
			for level := stdgzip.HuffmanOnly; level <= 9; level++ {
				var out bytes.Buffer
				w, err := enc(&out, level)
				if err != nil {
					t.Fatal(err)
				}
				w.Write(in)
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				check(fmt.Sprintf("%s, %s:%d", kind, name, level), out.Bytes(), in)
			}
		}
		for _, args := range []string{"gzip -1", "gzip -6", "gzip -9", "pigz -0", "pigz -1", "pigz -6", "pigz -9", "pigz -b 32 -i"} {
			name, flags, _ := strings.Cut(args, " ")
			cmd := exec.Command(name, strings.Fields(flags)...)
			cmd.Stdin = bytes.NewReader(in)
			blob, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: %v", args, err)
			}
			check(kind+", "+args, blob, in)
		}
	}
}

// Streams with codes that no encoder would choose.
func TestBulkInflateOddCodes(t *testing.T) {
	p := newPool(t, 1)
	for seed := range uint64(200) {
		size := 3000
		if seed%20 == 0 {
			size = 300_000 // several windows
		}
		stream, want := anyStream(rand.New(rand.NewPCG(seed, 1)), size)
		blob := member(stream, want)
		if got, err := inflate(p, bytes.NewReader(blob)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("seed %d: %d bytes of %d, %v", seed, len(got), len(want), err)
		}
		sameVerdict(t, p, fmt.Sprint("seed ", seed), blob)
	}
}

// set is lengths with some set.
func set(n int, pairs ...uint) []uint {
	l := make([]uint, n)
	for i := 0; i < len(pairs); i += 2 {
		l[pairs[i]] = pairs[i+1]
	}
	return l
}

// Everything about codes and blocks that may be wrong is, and what only looks
// wrong is not.
func TestInflateHandmade(t *testing.T) {
	p := newPool(t, 1)
	// with is a block of these codes and symbols.
	with := func(lit, dist []uint, write func(w *bitWriter, l, d code)) []byte {
		w := &bitWriter{}
		l, d := w.dynamic(1, lit, dist)
		write(w, l, d)
		return w.b
	}
	nothing := func(*bitWriter, code, code) {}
	end := func(w *bitWriter, l, _ code) { w.symbol(l, 256) }
	a := func(w *bitWriter, l, _ code) { w.symbol(l, 'a').symbol(l, 256) }
	aaaa := func(w *bitWriter, l, d code) { w.symbol(l, 'a').match(l, d, 3, 1).symbol(l, 256) }
	fl, fd := fixedCodes()
	small := set(258, 'a', 1, 256, 2, 257, 2) // a, end, length 3
	head := func() *bitWriter { return new(bitWriter) }
	for what, c := range map[string]struct {
		stream []byte
		want   string // "!" is an error
	}{
		"no distance codes, none used":    {with(small, set(1), a), "a"},
		"no distance codes, one used":     {with(small, set(1), func(w *bitWriter, l, _ code) { w.symbol(l, 'a').symbol(l, 257).bits(0, 20) }), "!"},
		"one distance code":               {with(small, set(1, 0, 1), aaaa), "aaaa"},
		"one distance code, the other":    {with(small, set(1, 0, 1), func(w *bitWriter, l, _ code) { w.symbol(l, 'a').symbol(l, 257).bits(1, 1).bits(0, 30) }), "!"},
		"one distance code of two bits":   {with(small, set(1, 0, 2), aaaa), "!"},
		"only an end":                     {with(set(257, 256, 1), set(1), end), ""},
		"only an end, the other":          {with(set(257, 256, 1), set(1), func(w *bitWriter, _, _ code) { w.bits(1, 1).bits(0, 30) }), "!"},
		"no literal codes":                {with(set(257), set(1), nothing), "!"},
		"no end":                          {with(set(257, 'a', 1, 'b', 1), set(1), func(w *bitWriter, l, _ code) { w.symbol(l, 'a').symbol(l, 'b') }), "!"},
		"incomplete":                      {with(set(258, 'a', 2, 256, 2, 257, 2), set(1), a), "!"},
		"incomplete in the last bit":      {with(set(257, 'a', 1, 'b', 2, 'c', 3, 256, 4), set(1), a), "!"},
		"oversubscribed":                  {with(set(257, 'a', 1, 'b', 1, 256, 1), set(1), a), "!"},
		"oversubscribed, then it fits":    {with(set(257, 'a', 1, 'b', 1, 'c', 1, 256, 15), set(1), a), "!"},
		"incomplete distances":            {with(small, set(4, 0, 2, 1, 2, 2, 2), a), "!"},
		"oversubscribed distances":        {with(small, set(4, 0, 1, 1, 1, 2, 1), a), "!"},
		"286 codes":                       {with(append(set(258, 'a', 1, 256, 2, 257, 2), make([]uint, 28)...), set(1, 0, 1), aaaa), "aaaa"},
		"287 codes":                       {with(append(set(258, 'a', 1, 256, 2, 257, 2), make([]uint, 29)...), set(1, 0, 1), aaaa), "!"},
		"30 distances":                    {with(small, set(30, 0, 1, 29, 1), aaaa), "aaaa"},
		"31 distances":                    {with(small, set(31, 0, 1, 29, 1), aaaa), "!"},
		"oversubscribed in the last bit":  {with(append(longest(), 15), set(1), end), "!"},
		"codes of 15 bits":                {with(longest(), set(2, 0, 1, 1, 1), func(w *bitWriter, l, _ code) { w.symbol(l, 14).symbol(l, 13).symbol(l, 256) }), "\x0e\x0d"},
		"before the start":                {head().bits(3, 3).symbol(fl, 'a').match(fl, fd, 3, 2).symbol(fl, 256).b, "!"},
		"at the start":                    {head().bits(3, 3).match(fl, fd, 3, 1).symbol(fl, 256).b, "!"},
		"fixed":                           {head().bits(3, 3).symbol(fl, 'a').match(fl, fd, 258, 1).symbol(fl, 0xff).symbol(fl, 256).b, strings.Repeat("a", 259) + "\xff"},
		"258 the long way":                {head().bits(3, 3).symbol(fl, 'a').symbol(fl, 284).bits(31, 5).bits(0, 5).symbol(fl, 256).b, strings.Repeat("a", 259)},
		"fixed 286":                       {head().bits(3, 3).symbol(fl, 'a').symbol(fl, 286).bits(0, 5).symbol(fl, 256).b, "!"},
		"fixed 287":                       {head().bits(3, 3).symbol(fl, 'a').symbol(fl, 287).bits(0, 5).symbol(fl, 256).b, "!"},
		"fixed distance 30":               {head().bits(3, 3).symbol(fl, 'a').symbol(fl, 257).symbol(fd, 30).bits(0, 30).b, "!"},
		"fixed distance 31":               {head().bits(3, 3).symbol(fl, 'a').symbol(fl, 257).symbol(fd, 31).bits(0, 30).b, "!"},
		"block of type 3":                 {head().bits(7, 3).bits(0, 30).b, "!"},
		"stored":                          {head().stored(1, []byte("abc")).b, "abc"},
		"stored, empty":                   {head().stored(0, nil).stored(0, nil).stored(1, nil).b, ""},
		"stored after bits":               {head().bits(2, 3).symbol(fl, 'a').symbol(fl, 256).stored(0, []byte("bc")).bits(3, 3).symbol(fl, 'd').symbol(fl, 256).b, "abcd"},
		"stored, longest":                 {head().stored(1, make([]byte, 65535)).b, string(make([]byte, 65535))},
		"stored, length damaged":          {head().bits(1, 3).bytes(3, 0, 0xfd, 0xff, 'a', 'b', 'c').b, "!"},
		"repetition of nothing":           {head().codes(1, 0, 0, plain()).symbol(canonical(plain()), 16).bits(0, 60).b, "!"},
		"repetition beyond the end":       {head().codes(1, 0, 0, plain()).symbol(canonical(plain()), 18).bits(127, 7).symbol(canonical(plain()), 18).bits(127, 7).bits(0, 60).b, "!"},
		"repetition into the distances":   {intoDistances(), "aaaa"},
		"lengths' code incomplete":        {head().codes(1, 0, 0, set(lengthCodes, 0, 2, 1, 2)).bits(0, 60).b, "!"},
		"lengths' code empty":             {head().codes(1, 0, 0, set(lengthCodes)).bits(0, 60).b, "!"},
		"lengths' code of one":            {head().codes(1, 0, 0, set(lengthCodes, 1, 1)).bits(0, 300).b, "!"},
		"lengths' code of one, other":     {head().codes(1, 0, 0, set(lengthCodes, 1, 1)).bits(1, 300).b, "!"},
		"lengths' code of one, zeros":     {head().codes(1, 0, 0, set(lengthCodes, 18, 1)).bits(0, 300).b, "!"},
		"lengths' code is oversubscribed": {head().codes(1, 0, 0, set(lengthCodes, 0, 1, 1, 1, 2, 1)).bits(0, 60).b, "!"},
	} {
		want := strings.TrimPrefix(c.want, "!")
		err := sameVerdict(t, p, what, member(c.stream, []byte(want)))
		if (err != nil) != (c.want == "!") || errors.Is(err, errGzipCheck) {
			t.Errorf("%s: %v", what, err)
		}
		// Far from the input's end the fast loop is the judge, not the careful one.
		err = sameVerdict(t, p, what+", and more", append(member(c.stream, []byte(want)), member(head().stored(1, make([]byte, 999)).b, make([]byte, 999))...))
		if (err != nil) != (c.want == "!") || errors.Is(err, errGzipCheck) {
			t.Errorf("%s, and more: %v", what, err)
		}
	}
}

// longest is a code with one symbol each of 1 to 14 bits and two of 15.
func longest() []uint {
	l := set(257, 256, 15)
	for i := range 15 {
		l[i] = uint(i + 1)
	}
	return l
}

// intoDistances repeats a length across the border of the two codes.
func intoDistances() []byte {
	w := new(bitWriter).codes(1, 1, 3, plain()) // 258 codes and 4
	c := canonical(plain())
	zeros := func(n uint) { w.symbol(c, 18).bits(n-11, 7) }
	zeros('a')
	w.symbol(c, 1)
	zeros(138)
	zeros(256 - 'a' - 1 - 138)
	w.symbol(c, 2).symbol(c, 2).symbol(c, 16).bits(1, 2) // end, length 3, and four distances
	l, d := canonical(set(258, 'a', 1, 256, 2, 257, 2)), canonical(same(2, 4))
	return w.symbol(l, 'a').match(l, d, 3, 1).symbol(l, 256).b
}

// tiny is a blob of two members with blocks of all three kinds.
func tiny(t testing.TB) (blob, in []byte) {
	fl, fd := fixedCodes()
	w := new(bitWriter).bits(2, 3).symbol(fl, 'a').match(fl, fd, 9, 1)
	w.symbol(fl, 256).stored(0, []byte("stored"))
	l, d := w.dynamic(1, set(259, 'a', 1, 'b', 3, 256, 3, 258, 2), set(4, 0, 1, 3, 1))
	for range 5 {
		w.symbol(l, 'a').symbol(l, 'b').match(l, d, 4, 4)
	}
	w.symbol(l, 256)
	want := []byte("aaaaaaaaaastored")
	for range 5 {
		want = append(want, 'a', 'b')
		want = append(want, want[len(want)-4:]...)
	}
	var out bytes.Buffer
	z, err := stdgzip.NewWriterLevel(&out, 9)
	if err != nil {
		t.Fatal(err)
	}
	z.Name, z.Comment, z.Extra = "name", "comment", []byte("extra")
	z.Write(corpus(61, 400))
	z.Close()
	return append(member(w.b, want), out.Bytes()...), append(want, corpus(61, 400)...)
}
