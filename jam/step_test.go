package jam

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"runtime"
	"testing"

	"accessor/forks"
)

// writer builds encodings, independently of the decoder.
type writer struct{ b []byte }

func (w *writer) raw(b ...byte)      { w.b = append(w.b, b...) }
func (w *writer) nat(x uint64)       { w.b = AppendNat(w.b, x) }
func (w *writer) u16(x uint16)       { w.b = binary.LittleEndian.AppendUint16(w.b, x) }
func (w *writer) u32(x uint32)       { w.b = binary.LittleEndian.AppendUint32(w.b, x) }
func (w *writer) u64(x uint64)       { w.b = binary.LittleEndian.AppendUint64(w.b, x) }
func (w *writer) fill(c byte, n int) { w.b = append(w.b, bytes.Repeat([]byte{c}, n)...) }
func (w *writer) blob(c byte, n int) { w.nat(uint64(n)); w.fill(c, n) }

func (w *writer) state(root byte, pairs ...Pair) {
	w.fill(root, 32)
	w.nat(uint64(len(pairs)))
	for _, p := range pairs {
		w.raw(p.Key...)
		w.nat(uint64(len(p.Value)))
		w.raw(p.Value...)
	}
}

// header writes a header with both marks and offenders, in the given layout.
func (w *writer) header(l layout, slot uint32, offenders int) {
	w.fill(1, 32)
	w.fill(2, 32)
	w.fill(3, 32)
	w.u32(slot)
	w.raw(1)
	w.fill(4, 64+64*l.validators)
	w.raw(1)
	w.fill(5, 33*l.epoch)
	if l.early {
		w.nat(uint64(offenders))
		w.fill(6, 32*offenders)
	}
	w.u16(5)
	w.fill(8, 96)
	if !l.early {
		w.nat(uint64(offenders))
		w.fill(6, 32*offenders)
	}
	w.fill(9, 96)
}

// extrinsic writes an extrinsic with something of every kind.
func (w *writer) extrinsic(l layout) {
	w.nat(2) // tickets
	for i := range 2 {
		w.nat(uint64(i * 200))
		w.fill(1, 784)
	}
	w.nat(1) // preimages
	w.u32(77)
	w.blob(2, 300)
	w.nat(2) // guarantees
	for range 2 {
		w.report(l)
		w.u32(5)
		w.nat(3)
		w.fill(3, 3*66)
	}
	w.nat(2) // assurances
	w.fill(4, 2*(32+(l.cores+7)/8+2+64))
	w.nat(1) // verdicts
	votes := 5
	if l.validators == 1023 {
		votes = 683
	}
	w.fill(5, 32+4+votes*67)
	w.nat(2) // culprits
	w.fill(6, 2*128)
	w.nat(1) // faults
	w.fill(7, 129)
}

func (w *writer) report(l layout) {
	w.fill(1, 32)
	w.u32(1000)
	w.fill(2, 64)
	w.u16(3)
	w.fill(4, 128)
	w.u32(9)
	w.nat(2)
	w.fill(5, 64)
	w.nat(uint64(l.cores - 1))
	w.fill(6, 32)
	if !l.early {
		w.nat(1 << 40)
	}
	w.blob(7, 200)
	w.nat(1)
	w.fill(8, 64)
	w.nat(2)
	for tag := range 2 {
		w.u32(1)
		w.fill(9, 64)
		w.u64(1 << 33)
		w.raw(byte(tag))
		if tag == 0 {
			w.blob(10, 150)
		}
		for i := range 5 {
			w.nat(uint64(1) << (9 * i))
		}
	}
	if l.early {
		w.nat(1 << 40)
	}
}

func pair(first byte, value ...byte) Pair {
	return Pair{Key: append([]byte{first}, make([]byte, KeySize-1)...), Value: value}
}

func stepOf(l layout, before, after []Pair, rootAfter byte) []byte {
	var w writer
	w.state(0xa0, before...)
	w.header(l, 42, 2)
	w.extrinsic(l)
	w.state(rootAfter, after...)
	return w.b
}

func TestDecodeStepInEveryLayout(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.gp+" "+l.name, func(t *testing.T) {
			before := []Pair{pair(1, 1, 2, 3), pair(11, 41, 0, 0, 0)}
			after := []Pair{pair(1), pair(11, 42, 0, 0, 0), pair(200, bytes.Repeat([]byte{7}, 70000)...)}
			step, err := DecodeStep(stepOf(l, before, after, 0xb0))
			if err != nil {
				t.Fatal(err)
			}
			var w writer
			w.header(l, 42, 2)
			if !bytes.Equal(step.Encoded, w.b) {
				t.Errorf("header of %d bytes, want %d", len(step.Encoded), len(w.b))
			}
			w.extrinsic(l)
			if !bytes.Equal(step.Block, w.b) {
				t.Errorf("block of %d bytes, want %d", len(step.Block), len(w.b))
			}
			if step.GP != l.gp || step.Spec != l.name || step.Opaque {
				t.Errorf("layout %q %q, opaque %v", step.GP, step.Spec, step.Opaque)
			}
			if step.Header.Slot != 42 || step.Header.Parent[0] != 1 || step.Header.PriorRoot[31] != 2 || step.Header.ExtrinsicHash[0] != 3 {
				t.Errorf("header %+v", step.Header)
			}
			checkPairs(t, step.Pre, 0xa0, before)
			checkPairs(t, step.Post, 0xb0, after)
		})
	}
}

func checkPairs(t *testing.T, got RawState, root byte, want []Pair) {
	t.Helper()
	if got.Root != forks.Hash(bytes.Repeat([]byte{root}, 32)) || len(got.Pairs) != len(want) {
		t.Fatalf("root %s, %d pairs", got.Root, len(got.Pairs))
	}
	for i, p := range want {
		if v, ok := got.Value(p.Key); !ok || !bytes.Equal(v, p.Value) || !bytes.Equal(got.Pairs[i].Key, p.Key) {
			t.Errorf("pair %d: key %x, value of %d bytes", i, got.Pairs[i].Key, len(v))
		}
	}
}

// A block without marks or anything in its extrinsic doesn't say its spec. Its
// author tells the two orders of fields apart, unless that is 0 like an empty
// list of offenders, and what then stands for the author is 0 too.
func TestDecodeStepSaysOnlyWhatItKnows(t *testing.T) {
	for _, c := range []struct {
		name   string
		header FullHeader
		gp     string
	}{
		{"all zero", FullHeader{}, ""},
		{"author 0", FullHeader{EntropySource: [SignatureSize]byte{0: 9}}, "0.7"},
		{"author 3", FullHeader{Author: 3}, "0.7"},
	} {
		var w writer
		w.state(1)
		w.raw(c.header.Encode()...)
		w.raw(make([]byte, 7)...)
		w.state(2, pair(11, 0, 0, 0, 0))
		step, err := DecodeStep(w.b)
		if err != nil || step.GP != c.gp || step.Spec != "" || len(step.Encoded) != MinHeaderSize {
			t.Errorf("%s: layout %q %q, header of %d bytes, %v", c.name, step.GP, step.Spec, len(step.Encoded), err)
		}
	}
}

func TestDecodeStepWithOpaqueBlock(t *testing.T) {
	for _, l := range layouts {
		state := []Pair{pair(1, 1, 2, 3), pair(11, 41, 0, 0, 0)}
		var header, block, w writer
		header.header(l, 43, 1)
		block.raw(header.b...)
		block.nat(2)
		block.nat(1)
		block.fill(1, 784) // the second ticket lacks
		w.state(1, state...)
		w.raw(block.b...)
		w.state(1, state...)
		step, err := DecodeStep(w.b)
		if err != nil || !step.Opaque {
			t.Fatalf("%s %s: opaque %v, %v", l.gp, l.name, step.Opaque, err)
		}
		if !bytes.Equal(step.Encoded, header.b) || !bytes.Equal(step.Block, block.b) || step.Header.Slot != 43 {
			t.Errorf("%s %s: header of %d bytes, want %d", l.gp, l.name, len(step.Encoded), len(header.b))
		}
		checkPairs(t, step.Post, 1, state)
	}
}

func TestDecodeStepWithOpaqueHeader(t *testing.T) {
	var w writer
	w.state(1, pair(1, 2))
	w.fill(7, 96)
	w.u32(99)
	w.fill(9, 50) // an option tag of 9
	w.state(1, pair(1, 2))
	step, err := DecodeStep(w.b)
	if err != nil || !step.Opaque || step.Encoded != nil || len(step.Block) != 150 || step.Header.Slot != 99 {
		t.Errorf("%+v, %v", step, err)
	}
}

func TestDecodeStepRefuses(t *testing.T) {
	good := stepOf(layouts[0], []Pair{pair(1, 1)}, []Pair{pair(11, 42, 0, 0, 0)}, 2)
	if _, err := DecodeStep(good); err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if _, err := DecodeStep(good[:n]); !errors.Is(err, ErrFormat) {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(good), err)
		}
	}
	if _, err := DecodeStep(append(bytes.Clone(good), 0)); !errors.Is(err, ErrFormat) {
		t.Errorf("a byte more: %v", err)
	}
	if _, err := DecodeStep(stepOf(layouts[0], []Pair{pair(1, 1)}, []Pair{pair(11, 43, 0, 0, 0)}, 2)); !errors.Is(err, ErrFormat) {
		t.Errorf("state after with another slot: %v", err)
	}
	opaque := func(change func(b []byte)) []byte {
		var w writer
		w.state(1, pair(1, 2))
		w.fill(9, 120)
		w.state(1, pair(1, 2))
		change(w.b)
		return w.b
	}
	if _, err := DecodeStep(opaque(func(b []byte) { b[len(b)-1] ^= 1 })); !errors.Is(err, ErrFormat) {
		t.Errorf("opaque block that changed the state: %v", err)
	}
}

// Numbers that claim more than there is must cost nothing.
func TestAbsurdLengths(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, n := range []uint64{2, 1 << 20, 1 << 31, 1 << 40, 1 << 62, math.MaxUint64} {
		var count, value, genesis writer
		count.fill(1, 32)
		count.nat(n)
		count.fill(0, 40)
		value.fill(1, 32)
		value.nat(1)
		value.fill(1, KeySize)
		value.nat(n + 100)
		value.fill(0, 99)
		genesis.raw((&FullHeader{}).Encode()...)
		genesis.raw(count.b...)
		for _, b := range [][]byte{count.b, value.b} {
			if _, err := DecodeStep(b); !errors.Is(err, ErrFormat) {
				t.Errorf("length %d: %v", n, err)
			}
		}
		if _, err := DecodeGenesis(genesis.b); !errors.Is(err, ErrFormat) {
			t.Errorf("genesis with length %d: %v", n, err)
		}
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
		t.Errorf("refusing took %d bytes", took)
	}
}

func TestDecodeGenesis(t *testing.T) {
	for _, l := range layouts {
		var w writer
		w.header(l, 0, 1)
		size := len(w.b)
		pairs := []Pair{pair(1, 9), pair(2)}
		w.state(5, pairs...)
		g, err := DecodeGenesis(w.b)
		if err != nil || g.GP != l.gp || g.Spec != l.name || len(g.Encoded) != size {
			t.Errorf("%s %s: layout %q %q, header of %d bytes, %v", l.gp, l.name, g.GP, g.Spec, len(g.Encoded), err)
		}
		checkPairs(t, g.State, 5, pairs)
		for n := range w.b {
			if _, err := DecodeGenesis(w.b[:n]); !errors.Is(err, ErrFormat) {
				t.Fatalf("cut to %d bytes: %v", n, err)
			}
		}
		if _, err := DecodeGenesis(append(w.b, 1)); !errors.Is(err, ErrFormat) {
			t.Errorf("a byte more: %v", err)
		}
	}
}

func TestHeaderRoundTrip(t *testing.T) {
	h := FullHeader{
		Header:      Header{Parent: forks.Hash{1}, PriorRoot: forks.Hash{2}, ExtrinsicHash: forks.Hash{3}, Slot: math.MaxUint32},
		EpochMark:   bytes.Repeat([]byte{4}, 64+6*64),
		TicketsMark: bytes.Repeat([]byte{5}, 12*33),
		Author:      0xfedc, EntropySource: [96]byte{6}, Offenders: bytes.Repeat([]byte{7}, 64), Seal: [96]byte{95: 8},
	}
	b := h.Encode()
	d := decoder{b: b}
	got := layouts[0].header(&d)
	if d.err != nil || d.left() != 0 || !bytes.Equal(got.Encode(), b) || got.Header != h.Header || got.Author != h.Author || got.Seal != h.Seal {
		t.Errorf("came back as %+v, %v", got, d.err)
	}
	if plain := (&FullHeader{}).Encode(); len(plain) != 297 || MinHeaderSize != 297 {
		t.Errorf("plain header of %d bytes, MinHeaderSize %d, want 297", len(plain), MinHeaderSize)
	}
	parsed, err := ParseHeader(b)
	if err != nil || parsed != h.Header {
		t.Errorf("ParseHeader = %+v, %v", parsed, err)
	}
	for _, n := range []int{0, 99, 100, MinHeaderSize - 1} {
		if _, err := ParseHeader(b[:n]); !errors.Is(err, ErrShortHeader) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}
