package jam

import (
	"errors"
	"testing"
)

func FuzzDecodeStep(f *testing.F) {
	f.Add([]byte{})
	for _, l := range []layout{layouts[0], layouts[2]} {
		f.Add(stepOf(l, []Pair{pair(1, 1)}, []Pair{pair(11, 42, 0, 0, 0)}, 2))
	}
	var w writer
	w.state(1, pair(1, 2))
	w.fill(9, 120)
	w.state(1, pair(1, 2))
	f.Add(w.b)
	f.Fuzz(func(t *testing.T, b []byte) {
		step, err := DecodeStep(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if len(step.Encoded) > len(step.Block) {
			t.Fatal("header longer than its block")
		}
		// The parts are the whole.
		size := len(step.Block) + encodedSize(step.Pre) + encodedSize(step.Post)
		if size != len(b) {
			t.Fatalf("parts have %d bytes of %d", size, len(b))
		}
		if !step.Opaque {
			if h, err := ParseHeader(step.Encoded); err != nil || h != step.Header {
				t.Fatalf("header %+v, parsed %+v, %v", step.Header, h, err)
			}
		}
	})
}

func encodedSize(s RawState) int {
	size := 32 + len(AppendNat(nil, uint64(len(s.Pairs))))
	for _, p := range s.Pairs {
		size += len(p.Key) + len(AppendNat(nil, uint64(len(p.Value)))) + len(p.Value)
	}
	return size
}

func FuzzDecodeGenesis(f *testing.F) {
	f.Add([]byte{})
	for _, l := range []layout{layouts[0], layouts[2]} {
		var w writer
		w.header(l, 0, 1)
		w.state(5, pair(1, 9), pair(2))
		f.Add(w.b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := DecodeGenesis(b)
		switch {
		case err != nil && !errors.Is(err, ErrFormat):
			t.Fatalf("untyped error %v", err)
		case err == nil && len(g.Encoded)+encodedSize(g.State) != len(b):
			t.Fatalf("parts have %d bytes of %d", len(g.Encoded)+encodedSize(g.State), len(b))
		}
	})
}

func FuzzParseHeader(f *testing.F) {
	f.Add([]byte{})
	f.Add((&FullHeader{Header: Header{Slot: 7}}).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil {
			if !errors.Is(err, ErrShortHeader) || len(b) >= MinHeaderSize {
				t.Fatalf("%d bytes: %v", len(b), err)
			}
			return
		}
		if back := (&FullHeader{Header: h}).Encode(); string(back[:HeaderPrefixSize]) != string(b[:HeaderPrefixSize]) {
			t.Fatalf("%x came back as %x", b[:HeaderPrefixSize], back[:HeaderPrefixSize])
		}
	})
}
