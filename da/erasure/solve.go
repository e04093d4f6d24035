package erasure

import "encoding/binary"

// solveBelow is the size in bytes of a shard up to which solve is no slower than
// Leopard, and spares its tables; a segment's has 12 (full).
const solveBelow = 12

// solve fills the missing originals into out by interpolation, for shards of few
// words. It takes any set of shards, and time in K × missing × words: 700,000 steps
// for a segment of 4,104 bytes.
//
// Let M be the polynomial whose zeros are the points that are known: those of the
// shards that are there, and the zeros behind the originals. Then (Lagrange)
//
//	p(t) = M(t) · sum over known i of p(i) / (M'(i)·(t-i))
//
// where the zeros add nothing, M'(i) is the product of i-j over the other known
// points, and i-j is the XOR of both.
func (c *Code) solve(out []byte, shards [][]byte, have []int, size int) {
	f := gf()
	known := make([]uint32, 0, c.p)
	for _, i := range have {
		known = append(known, uint32(c.point(i)))
	}
	for i := c.k; i < c.p; i++ {
		known = append(known, uint32(i))
	}
	// product gives the logarithm of the product of t-j over known j, but t.
	product := func(t uint32) uint32 {
		sum := uint32(0)
		for _, j := range known {
			if j != t {
				sum += f.log[t^j]
			}
		}
		return sum % order
	}

	// Logarithms of p(i)/M'(i), a row of words for each shard.
	words := size / 2
	rows := make([]uint32, len(have)*words)
	missing := make([]bool, c.k)
	for i := range missing {
		missing[i] = true
	}
	for n, i := range have {
		if i < c.k {
			missing[i] = false
		}
		inverse := order - product(known[n])
		row := rows[n*words : (n+1)*words]
		for w := range row {
			if word := binary.LittleEndian.Uint16(shards[i][2*w:]); word == 0 {
				row[w] = logZero
			} else if row[w] = f.log[word] + inverse; row[w] >= order {
				row[w] -= order
			}
		}
	}

	sums := make([]uint16, words)
	for t := range missing {
		if !missing[t] {
			continue
		}
		clear(sums)
		for n := range have {
			inverse := order - f.log[uint32(t)^known[n]]
			row := rows[n*words:][:len(sums)]
			for w, log := range row {
				sums[w] ^= f.exp[log+inverse]
			}
		}
		scale := product(uint32(t))
		for w, sum := range sums {
			binary.LittleEndian.PutUint16(out[t*size+2*w:], f.exp[f.log[sum]+scale])
		}
	}
}
