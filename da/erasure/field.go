package erasure

import (
	"math/bits"
	"sync"
)

// The field is GF(2^16) modulo x^16+x^5+x^3+x^2+1. A word stands for the sum of those
// elements of the Cantor basis whose bits are set in it, so the sum of two elements
// is the XOR of their words, and the points of a chunk, as words, are a subspace.

const (
	polynomial = 1<<16 | 1<<5 | 1<<3 | 1<<2 | 1
	order      = 1<<16 - 1 // of the multiplicative group
	// logZero stands for the logarithm of 0: whatever is added to it, once, the
	// table of powers is 0 there.
	logZero = 2 * order
)

// cantor is the basis of the Gray Paper's appendix H, as polynomials.
var cantor = [16]uint16{
	0x0001, 0xacca, 0x3c0e, 0x163e, 0xc582, 0xed2e, 0x914c, 0x4012,
	0x6c98, 0x10d8, 0x6a72, 0xb900, 0xfdb8, 0xfb34, 0xff38, 0x991e,
}

// field has the logarithms of words, and the words of sums of two logarithms.
type field struct {
	log [1 << 16]uint32
	exp [logZero + order + 1]uint16
}

var gf = sync.OnceValue(func() *field {
	f := new(field)
	var element, power [1 << 16]uint16 // of a word; of x, as polynomials
	state := 1
	for i := range order {
		power[state] = uint16(i)
		if state <<= 1; state > order {
			state ^= polynomial
		}
	}
	for word := 1; word <= order; word++ {
		element[word] = element[word&(word-1)] ^ cantor[bits.TrailingZeros(uint(word))]
		log := power[element[word]]
		f.log[word] = uint32(log)
		f.exp[log], f.exp[int(log)+order] = uint16(word), uint16(word)
	}
	f.log[0] = logZero
	return f
})

func (f *field) mul(a, b uint16) uint16 {
	if a == 0 || b == 0 {
		return 0
	}
	return f.exp[f.log[a]+f.log[b]]
}

func (f *field) inverse(a uint16) uint16 { return f.exp[order-f.log[a]] }
