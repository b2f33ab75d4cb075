package codec

import (
	"bytes"
	"testing"
)

func TestDecodeFrame(t *testing.T) {
	p := newPool(t, 2)
	want := corpus(7, 100<<10)
	var b bytes.Buffer
	w, err := p.NewWriter(&b, Options{Bare: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(want); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if err := p.DecodeFrame(got, b.Bytes()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("not what was encoded, %v", err)
	}
	for _, n := range []int{0, len(want) - 1, len(want) + 1} {
		if err := p.DecodeFrame(make([]byte, n), b.Bytes()); err == nil {
			t.Errorf("a frame of %d bytes fills %d", len(want), n)
		}
	}
	if err := p.DecodeFrame(got, b.Bytes()[:b.Len()/2]); err == nil {
		t.Error("half a frame is decoded")
	}
}
