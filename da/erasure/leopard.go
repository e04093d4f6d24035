package erasure

import (
	"encoding/binary"
	"sync"

	"github.com/klauspost/reedsolomon"
)

// Leopard takes words in blocks of 64 bytes: the low bytes of 32 words, then their
// high bytes.
const block = 64

// leopard has codes over P points to a chunk; their words are ours. Leopard's parity is
// at the lowest points, data above it, which is the other way round than JAM's; but a
// code whose points all move by whole chunks is the same code. (A code of K data and
// N-K parity shards would have other points.)
type leopard struct {
	next  reedsolomon.Encoder // chunk 0 as data, chunk 1 as parity
	after reedsolomon.Encoder // zeros and chunk 0 as data, chunk 2 as parity
	whole reedsolomon.Encoder // all four chunks, see rebuildWhole
}

func newLeopard(p int) *leopard {
	code := func(data, parity int) reedsolomon.Encoder {
		enc, err := reedsolomon.New(data, parity, reedsolomon.WithLeopardGF16(true))
		mustWork(err)
		return enc
	}
	return &leopard{next: code(p, p), after: code(2*p, p), whole: code(2*p, 2*p)}
}

// strip is how many bytes of each shard go through Leopard at once: enough that its
// fixed work for each call (about half a millisecond) is small beside the rest, and
// so few that buffers stay small, whatever the item (at most 6 MiB here and 8 there).
const strip = 4096

// strips calls do for each strip of a shard of that size: bytes from..to of it, with
// an arena whose pieces hold a strip in blocks.
func (c *Code) strips(size int, do func(a *arena, from, to int)) {
	a := arenas.Get().(*arena)
	defer arenas.Put(a)
	for from := 0; from < size; from += strip {
		to := min(from+strip, size)
		a.reset(3*c.p, (to-from+block-1)/block*block)
		do(a, from, to)
	}
}

// encodeParity fills in the parity shards.
func (c *Code) encodeParity(shards [][]byte, size int) {
	c.strips(size, func(a *arena, from, to int) {
		list := make([][]byte, 3*c.p)
		zeros, originals, parity := list[:c.p], list[c.p:2*c.p], list[2*c.p:]
		for i := range c.p {
			zeros[i], originals[i], parity[i] = a.zeros, a.zeros, a.piece()
			if i < c.k {
				originals[i] = a.piece()
				toBlocks(originals[i], shards[i][from:to])
			}
		}
		mustWork(c.leopard().next.Encode(list[c.p:]))
		for i := c.k; i < c.n && c.point(i) < 2*c.p; i++ {
			fromBlocks(shards[i][from:to], parity[c.point(i)-c.p])
		}
		mustWork(c.leopard().after.Encode(list))
		for i := c.n - 1; c.point(i) >= 2*c.p; i-- {
			fromBlocks(shards[i][from:to], parity[c.point(i)-2*c.p])
		}
	})
}

// rebuildNext fills the missing originals into out from shards of chunks 0 and 1.
func (c *Code) rebuildNext(out []byte, shards [][]byte, have []int, size int) {
	c.strips(size, func(a *arena, from, to int) {
		list := make([][]byte, 2*c.p)
		for i := c.k; i < c.p; i++ {
			list[i] = a.zeros
		}
		for _, i := range have {
			piece := a.piece()
			toBlocks(piece, shards[i][from:to])
			list[c.point(i)] = piece
		}
		c.rebuild(c.leopard().next, list, list[:c.k], a, out, size, from, to)
	})
}

// rebuildWhole fills the missing originals into out from shards of all chunks.
//
// Leopard has no code for few originals and much parity. But let V be the polynomial
// that is zero on chunk 3: it has degree P, and, chunks being cosets of one subspace,
// one value on each chunk: on chunk i it is i^3. So p·V, of degree below 2P, is
// known at P points of chunks 0 to 2, and zero at the P points of chunk 3: that is a
// Leopard code of 2P data and 2P parity shards. V is divided by its value on
// chunk 0, so that the originals come out as they are.
func (c *Code) rebuildWhole(out []byte, shards [][]byte, have []int, size int) {
	// Seen from chunk 3, point i is at i^3P, and the code has its data at 2P and above.
	place := func(point int) int { return point ^ 3*c.p ^ 2*c.p }
	c.strips(size, func(a *arena, from, to int) {
		list := make([][]byte, 4*c.p)
		for i := c.k; i < c.p; i++ {
			list[place(i)] = a.zeros
		}
		for i := 3 * c.p; i < 4*c.p; i++ {
			list[place(i)] = a.zeros
		}
		for _, i := range have {
			piece, point := a.piece(), c.point(i)
			if chunk := point / c.p; chunk == 0 {
				toBlocks(piece, shards[i][from:to])
			} else {
				toBlocksTimes(piece, shards[i][from:to], &chunkFactors()[chunk])
			}
			list[place(point)] = piece
		}
		for i, piece := range list[:c.p] { // chunk 1 is built along
			if piece == nil {
				list[i] = a.piece()[:0]
			}
		}
		c.rebuild(c.leopard().whole, list, list[place(0):][:c.k], a, out, size, from, to)
	})
}

// rebuild makes Leopard fill the originals, a part of list that belongs to the data,
// and writes bytes from..to of those that were missing.
func (c *Code) rebuild(enc reedsolomon.Encoder, list, originals [][]byte, a *arena, out []byte, size, from, to int) {
	missing := make([]bool, c.k)
	for i, piece := range originals {
		if piece == nil {
			missing[i] = true
			originals[i] = a.piece()[:0]
		}
	}
	mustWork(enc.ReconstructData(list))
	for i := range missing {
		if missing[i] {
			fromBlocks(out[i*size+from:i*size+to], originals[i])
		}
	}
}

// mustWork: counts and sizes were checked before, so an error is a fault of ours.
func mustWork(err error) {
	if err != nil {
		panic("erasure: " + err.Error())
	}
}

// arena gives pieces of one size out of one buffer.
type arena struct {
	buf   []byte
	zeros []byte // one piece that is only read
	size  int
	used  int
}

var arenas = sync.Pool{New: func() any { return new(arena) }}

func (a *arena) reset(pieces, size int) {
	if cap(a.buf) < pieces*size {
		a.buf = make([]byte, pieces*size)
	}
	if cap(a.zeros) < size {
		a.zeros = make([]byte, size)
	}
	a.zeros, a.size, a.used = a.zeros[:size], size, 0
}

// piece gives the next piece, with whatever is in it.
func (a *arena) piece() []byte {
	p := a.buf[a.used*a.size:][:a.size:a.size]
	a.used++
	return p
}

// toBlocks writes little-endian words in blocks, with zeros behind them.
func toBlocks(dst, src []byte) {
	for ; len(src) >= block; dst, src = dst[block:], src[block:] {
		low, high, s := dst[:block/2], dst[block/2:block], src[:block]
		for i := range low {
			low[i], high[i] = s[2*i], s[2*i+1]
		}
	}
	if len(src) > 0 {
		clear(dst)
		for i := 0; i < len(src); i += 2 {
			dst[i/2], dst[i/2+block/2] = src[i], src[i+1]
		}
	}
}

// fromBlocks reads as many words out of blocks as dst has room for.
func fromBlocks(dst, src []byte) {
	for ; len(dst) >= block; dst, src = dst[block:], src[block:] {
		low, high, d := src[:block/2], src[block/2:block], dst[:block]
		for i := range low {
			d[2*i], d[2*i+1] = low[i], high[i]
		}
	}
	for i := 0; i < len(dst); i += 2 {
		dst[i], dst[i+1] = src[i/2], src[i/2+block/2]
	}
}

// factor has the products of one word with all low and all high bytes.
type factor struct{ low, high [256]uint16 }

// chunkFactors are the values of V/V(0) on chunks 1 and 2 (rebuildWhole).
var chunkFactors = sync.OnceValue(func() *[3]factor {
	f, factors := gf(), new([3]factor)
	for chunk := range factors {
		by := f.mul(uint16(chunk^3), f.inverse(3))
		for b := range 256 {
			factors[chunk].low[b] = f.mul(by, uint16(b))
			factors[chunk].high[b] = f.mul(by, uint16(b<<8))
		}
	}
	return factors
})

// toBlocksTimes is toBlocks with each word multiplied.
func toBlocksTimes(dst, src []byte, by *factor) {
	words := make([]byte, 0, strip)
	for i := 0; i < len(src); i += 2 {
		words = binary.LittleEndian.AppendUint16(words, by.low[src[i]]^by.high[src[i+1]])
	}
	toBlocks(dst, words)
}
